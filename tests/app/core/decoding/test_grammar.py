"""The likeliest path through a grammar is the best of all label sequences that a regular expression lets through."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.decoding.grammar import Grammar, Path, segments
from app.core.manifest import FrameLabels

LETTERS = "abcd"


def pattern(grammar: Grammar) -> re.Pattern[str]:
    gap = "" if grammar.background is None else f"{LETTERS[grammar.background]}*"
    place = ["(?:" + "|".join(f"{LETTERS[label]}+" for label in labels) + ")" for labels in grammar.places]
    return re.compile(gap + gap.join(place) + gap)


def probabilities(seed: int, frames: int, labels: int = 4, *, sharp: float = 2.0) -> np.ndarray:
    p = np.exp(np.random.default_rng(seed).normal(size=(frames, labels)) * sharp)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def score(p: np.ndarray, path: tuple[int, ...]) -> float:
    return sum(float(np.log(p[t, label])) for t, label in enumerate(path))


places = st.lists(st.sets(st.integers(0, 3), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3)
grammars = st.builds(lambda p, b: Grammar(tuple(p), b), places, st.sampled_from([None, 0, 3]))


@given(grammars, st.integers(0, 10_000), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_the_path_is_the_likeliest_of_all_that_the_grammar_lets_through(grammar: Grammar, seed: int, more: int) -> None:
    p = probabilities(seed, len(grammar.places) + more)
    found = grammar.path(p)
    labels = tuple(found.labels.tolist())
    sentence = pattern(grammar)
    assert sentence.fullmatch("".join(LETTERS[label] for label in labels))
    best = max(
        score(p, path)
        for path in product(range(4), repeat=len(p))
        if sentence.fullmatch("".join(LETTERS[label] for label in path))
    )
    assert score(p, labels) == pytest.approx(best, abs=1e-6)

    seen = [int(place) for place in found.places if place >= 0]
    assert seen == sorted(seen)
    assert set(seen) == set(range(len(grammar.places)))
    for place in range(len(grammar.places)):
        (label,) = set(found.labels[found.places == place].tolist())
        assert label in grammar.places[place]
    assert all(label == grammar.background for label in found.labels[found.places < 0])


def test_a_word_that_a_frame_prefers_gives_way_to_the_sentence() -> None:
    # b is likelier in the second frame, and c has to come somewhere.
    p = np.array([[0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])
    path = Grammar(places=((1,), (2,)), background=0).path(p)
    assert path.labels.tolist() == [1, 2, 0]
    assert path.places.tolist() == [0, 1, -1]


def test_without_a_grammar_each_frame_has_its_likeliest_label() -> None:
    p = probabilities(0, 9)
    assert Grammar(background=0).path(p).labels.tolist() == p.argmax(axis=1).tolist()


def test_fewer_frames_than_places_are_no_sentence() -> None:
    p = probabilities(0, 2)
    assert Grammar(places=((1,), (2,), (3,)), background=0).path(p).labels.tolist() == p.argmax(axis=1).tolist()
    assert Grammar(places=((1,),), background=0).path(np.zeros((0, 4))).labels.tolist() == []


def test_a_sentence_is_found_where_the_net_excludes_all_its_words() -> None:
    p = np.tile([1.0, 0.0, 0.0], (5, 1))
    path = Grammar(places=((1,), (2,)), background=0).path(p)
    assert [label for label in path.labels.tolist() if label] == [1, 2]


def test_the_manifests_grammar_is_read_by_label() -> None:
    declared = FrameLabels(background="sil", grammar=(("at", "by"), ("now",)))
    assert Grammar.of(declared, ["by", "at", "now", "sil"]) == Grammar(((1, 0), (2,)), 3)
    assert Grammar.of(FrameLabels(), ["by", "at"]) == Grammar()


# Segments


def test_segments_are_runs_with_times_and_mean_probability() -> None:
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]], np.float32)
    path = Path(np.array([0, 1, 1, 0]), np.full(4, -1))
    (only,) = segments(path, p, np.arange(5) / 25, background=0)
    assert (only.label, only.start, only.end) == (1, 1, 3)
    assert (only.start_s, only.end_s, only.probability) == pytest.approx((0.04, 0.12, 0.7))
    every = segments(path, p, np.arange(5) / 25, background=None)
    assert [(s.label, s.start, s.end) for s in every] == [(0, 0, 1), (1, 1, 3), (0, 3, 4)]
    assert segments(Path(np.zeros(0, int), np.zeros(0, int)), p[:0], np.zeros(1), background=0) == []


def test_the_same_word_in_two_places_is_two_segments() -> None:
    p = np.array([[0.1, 0.9]] * 4)
    found = segments(Grammar(places=((1,), (1,)), background=0).path(p), p, np.arange(5.0), background=0)
    assert [s.label for s in found] == [1, 1]
    assert found[0].end == found[1].start


def test_times_that_do_not_fit_the_frames_are_refused() -> None:
    path = Path(np.zeros(3, int), np.full(3, -1))
    with pytest.raises(ValueError, match="3 rows and 3 times for 3 frames"):
        segments(path, np.ones((3, 2)), np.arange(3.0), background=None)
