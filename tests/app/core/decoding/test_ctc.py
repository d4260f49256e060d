"""CTC decoders find what enumerating every path finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.decoding import ctc
from app.core.decoding.tokens import History
from app.core.manifest import Confidence
from tests.app.core.decoding.paths import cases, labelling, labellings, random

BLANK = 2


def logs(*rows: tuple[float, ...]) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(rows))


def words(tokens: list[ctc.Token]) -> tuple[int, ...]:
    return tuple(token.label for token in tokens)


def sure(*labels: int) -> np.ndarray:
    """A net of two labels that is sure of a path."""
    return logs(*(tuple(float(k == label) for k in range(3)) for label in labels))


# Greedy


def test_equal_neighbours_are_one_word_and_a_blank_between_makes_two() -> None:
    assert words(ctc.greedy(sure(0, 0, 0))) == (0,)
    assert words(ctc.greedy(sure(0, BLANK, 0))) == (0, 0)
    assert words(ctc.greedy(sure(0, 1, 1, 0, BLANK, BLANK))) == (0, 1, 0)
    assert ctc.greedy(sure(BLANK, BLANK)) == []
    assert ctc.greedy(np.zeros((0, 3))) == []


def test_a_token_has_its_steps_and_how_sure_the_net_is() -> None:
    path = sure(BLANK, 0, 0, BLANK, 1, 0)
    assert ctc.greedy(path) == [ctc.Token(0, 1, 3, 1.0), ctc.Token(1, 4, 5, 1.0), ctc.Token(0, 5, 6, 1.0)]


@given(cases)
@settings(max_examples=30, deadline=None)
def test_greedy_is_the_labelling_of_the_likeliest_path(log_probabilities: np.ndarray) -> None:
    path = tuple(log_probabilities.argmax(axis=1).tolist())
    tokens = ctc.greedy(log_probabilities)
    assert words(tokens) == labelling(path, log_probabilities.shape[1] - 1)
    for token in tokens:
        assert set(path[token.start : token.end]) == {token.label}
        assert path[token.start - 1 : token.start] != (token.label,)
        assert path[token.end : token.end + 1] != (token.label,)


# Beam


@given(cases)
@settings(max_examples=30, deadline=None)
def test_a_wide_beam_finds_every_labelling_with_its_exact_probability(log_probabilities: np.ndarray) -> None:
    exact = labellings(np.exp(log_probabilities.astype(np.float64)))
    found = ctc.beam(log_probabilities, width=2000, n=2000, least=-math.inf)
    assert len(found) == len(exact)
    total = sum(exact.values())
    for hypothesis in found:
        share = exact[words(hypothesis.tokens)] / total
        assert math.exp(hypothesis.log_probability) == pytest.approx(share, rel=1e-9, abs=1e-300)
    assert [h.log_probability for h in found] == sorted((h.log_probability for h in found), reverse=True)


def test_the_sum_over_paths_beats_the_likeliest_path() -> None:
    # Graves et al. 2006, section 3.2: the blank leads in both steps, yet three of the four paths have the word.
    p = logs(*[(0.4, 0.0, 0.6)] * 2)
    assert ctc.greedy(p) == []
    best, other = ctc.beam(p)
    assert words(best.tokens) == (0,)
    assert math.exp(best.log_probability) == pytest.approx(0.64)
    assert math.exp(other.log_probability) == pytest.approx(0.36)


def test_the_beam_tells_repeated_words_from_long_ones() -> None:
    assert [words(h.tokens) for h in ctc.beam(sure(0, 0, 0))] == [(0,)]
    assert [words(h.tokens) for h in ctc.beam(sure(0, BLANK, 0))] == [(0, 0)]
    best = ctc.beam(logs((0.9, 0.05, 0.05), (0.3, 0.1, 0.6), (0.9, 0.05, 0.05)))[0]
    assert words(best.tokens) == (0, 0)
    assert [(token.start, token.end) for token in best.tokens] == [(0, 1), (2, 3)]


@given(cases)
@settings(max_examples=30, deadline=None)
def test_tokens_of_a_hypothesis_lie_where_its_likeliest_path_has_them(log_probabilities: np.ndarray) -> None:
    steps, outputs = log_probabilities.shape
    for hypothesis in ctc.beam(log_probabilities, width=2000, n=4, least=-math.inf):
        path = np.full(steps, outputs - 1)
        for token in hypothesis.tokens:
            assert 0 <= token.start < token.end <= steps
            path[token.start : token.end] = token.label
        assert labelling(tuple(path.tolist()), outputs - 1) == words(hypothesis.tokens)
        best = max(
            sum(float(log_probabilities[t, k]) for t, k in enumerate(other))
            for other in np.ndindex(*[outputs] * steps)
            if labelling(other, outputs - 1) == words(hypothesis.tokens)
        )
        assert float(log_probabilities[range(steps), path].sum()) == pytest.approx(best, abs=1e-4)


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_narrow_beam_has_different_labellings_whose_shares_sum_to_at_most_one(seed: int) -> None:
    found = ctc.beam(random(seed, 40, 5), width=8, n=8)
    assert len({words(h.tokens) for h in found}) == len(found) == 8
    assert sum(math.exp(h.log_probability) for h in found) == pytest.approx(1)


def test_labels_that_a_step_all_but_excludes_are_not_tried() -> None:
    p = logs((1e-6, 0.5, 0.5), (1e-6, 0.5, 0.5))
    assert all(0 not in words(h.tokens) for h in ctc.beam(p, n=16))
    assert any(0 in words(h.tokens) for h in ctc.beam(p, n=16, least=-math.inf))


def test_nothing_heard_is_one_hypothesis_without_words() -> None:
    assert ctc.beam(np.zeros((0, 3))) == [ctc.Hypothesis([], 0.0)]


def test_a_step_without_any_probability_says_nothing() -> None:
    assert words(ctc.beam(np.concatenate([sure(0), np.full((1, 3), -np.inf), sure(1)]))[0].tokens) == (0, 1)


@pytest.mark.parametrize("options", [{"width": 0}, {"n": 0}, {"settle": 1}])
def test_a_beam_without_room_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ctc.beam(sure(0), **options)


# How sure


@given(cases)
@settings(max_examples=30, deadline=None)
def test_a_words_probability_is_its_share_of_all_labellings_of_one_word_or_none(log_probabilities: np.ndarray) -> None:
    exact = labellings(np.exp(log_probabilities.astype(np.float64)))
    short = {words: p for words, p in exact.items() if len(words) <= 1}
    for label in range(log_probabilities.shape[1] - 1):
        share = short[label,] / sum(short.values())
        assert ctc.posterior(list(log_probabilities), label) == pytest.approx(share, rel=1e-6, abs=1e-12)


def test_a_long_word_is_as_sure_as_a_short_one() -> None:
    p = [np.log([0.9, 0.05, 0.05])] * 400
    assert ctc.posterior(p, 0) == pytest.approx(1)
    assert ctc.posterior(p, 1) == pytest.approx(0, abs=1e-9)
    even = [np.log([0.45, 0.45, 0.1])] * 400
    assert ctc.posterior(even, 0) == pytest.approx(0.5)


def test_impossible_steps_and_what_is_no_number_are_not_sure() -> None:
    assert ctc.posterior([np.full(3, -np.inf)], 0) == 0
    assert ctc.posterior([np.full(3, np.nan)], 0) == 0


def test_a_neighbours_steps_say_nothing_of_a_word() -> None:
    # Label 1 leads in the third step only; the two before belong to label 0.
    first, second = ctc.greedy(logs((0.9, 0.1, 0), (0.9, 0.1, 0), (0.2, 0.7, 0.1)))
    assert second.probability == pytest.approx(0.7)
    assert first.probability > 0.9


def test_a_token_begins_no_earlier_than_the_one_before_it_ends() -> None:
    # Prefixes may differ in where a word that they share was; once it is stable, one place counts.
    history = History()
    for row in logs(*[(0.4, 0.3, 0.3)] * 6):
        history.add(row)
    token = history.token(0, 1, 4, after=3)
    assert (token.start, token.end) == (3, 4)
    token = history.token(0, 1, 2, after=3)
    assert (token.start, token.end) == (3, 4)
    assert 0 < token.probability < 1


def test_calibration_is_platts_scaling_of_the_log_odds() -> None:
    confidence = Confidence(slope=0.5, intercept=-1.0, rows=100)
    assert ctc.calibrated(0.8, None) == 0.8
    assert ctc.calibrated(0.8, confidence) == pytest.approx(1 / (1 + math.exp(-(0.5 * math.log(4) - 1))))
    assert 0 < ctc.calibrated(0.0, confidence) < ctc.calibrated(1.0, confidence) < 1
    assert ctc.calibrated(0.0, Confidence(slope=1e6, intercept=0, rows=1)) == 0
