"""Hypotheses as words with times: what a manifest says of steps, delays and confidence, and pieces put together."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from math import exp, log, prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.audio.live import LiveResampler
from app.codecs.audio.resampling import Resampler
from app.core.decoding.tokens import Hypothesis, Token
from app.core.manifest import Manifest
from app.web.speech.transcript import Piece, transcript
from tests.made_sounds import manifest_of, recognizer_onnx

WIDTH = 3


def manifest(**transcription: object) -> Manifest:
    inputs = [("sound", "float32", ("rows", "samples")), ("length", "int64", ("rows",))]
    outputs = [("log_probabilities", "float32", ("rows", "frames", WIDTH)), ("steps", "int64", ("rows",))]
    declared = {"step_s": 0.04, **transcription}
    made = manifest_of("a", "transcribe", "recognizer", recognizer_onnx(), inputs, outputs, transcription=declared)
    return Manifest.model_validate_json(json.dumps(made))


def hypothesis(probability: float, *labels: int, sure: float = 0.9) -> Hypothesis:
    tokens = [Token(label, 10 * (i + 1), 10 * (i + 1) + 5, sure) for i, label in enumerate(labels)]
    return Hypothesis(tokens, log(probability))


def test_times_are_those_of_steps_less_the_delay_and_never_outside_of_the_recording() -> None:
    found = transcript([Piece([hypothesis(1, 0, 1)], 0, 0.9)], manifest(delay_s=0.1), duration_s=0.9, n=1)
    assert [(word.text, word.start_s, word.end_s) for word in found.words] == [("soft", 0.3, 0.5), ("loud", 0.7, 0.9)]
    early = transcript([Piece([hypothesis(1, 0)], 0, 0.9)], manifest(delay_s=0.5), duration_s=0.9, n=1)
    assert (early.words[0].start_s, early.words[0].end_s) == (0.0, 0.1)


def test_words_of_a_later_piece_are_later() -> None:
    pieces = [Piece([hypothesis(1, 0)], 0, 2), Piece([hypothesis(1, 1)], 2, 3)]
    found = transcript(pieces, manifest(), duration_s=3, n=1)
    assert [(word.text, word.start_s) for word in found.words] == [("soft", 0.4), ("loud", 2.4)]
    assert found.text == "soft loud"


def test_readings_of_pieces_are_the_best_of_all_their_combinations() -> None:
    first = [hypothesis(0.6, 0), hypothesis(0.4, 1)]
    second = [hypothesis(0.9, 1), hypothesis(0.1)]
    pieces = [Piece(first, 0, 1), Piece(second, 1, 2)]
    found = transcript(pieces, manifest(), duration_s=2, n=3)
    assert [(reading.text, round(reading.probability, 6)) for reading in found.readings] == [
        ("soft loud", 0.54),
        ("loud loud", 0.36),
        ("soft", 0.06),
    ]
    assert transcript(pieces, manifest(), duration_s=2, n=0).readings == []
    assert transcript(pieces, manifest(), duration_s=2, n=0).text == "soft loud"


def test_a_text_that_pieces_give_in_several_ways_is_one_reading_with_the_sum_of_their_probabilities() -> None:
    silent = [hypothesis(0.5), hypothesis(0.4, 1), hypothesis(0.1, 0)]
    pieces = [Piece(silent, 0, 1), Piece(silent, 1, 2)]
    for n in (0, 1, 4):
        found = transcript(pieces, manifest(), duration_s=2, n=n)
        assert (found.text, [(word.text, word.start_s) for word in found.words]) == ("loud", [("loud", 0.4)])
        assert [(one.text, round(one.probability, 6)) for one in found.readings] == [
            ("loud", 0.4),
            ("", 0.25),
            ("loud loud", 0.16),
            ("soft", 0.1),
        ][:n]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(0, 1), max_size=2)), min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    )
)
def test_readings_are_those_of_brute_force(weights: list[list[tuple[int, list[int]]]]) -> None:
    """With at most 16 texts of two pieces nothing is left out."""
    pieces = [Piece([hypothesis(w / 30, *labels) for w, labels in one], i, i + 1) for i, one in enumerate(weights)]
    want = Counter[str]()
    for ways in itertools.product(*weights):
        text = " ".join(["soft", "loud"][label] for _, labels in ways for label in labels)
        want[text] += prod(w / 30 for w, _ in ways)
    found = transcript(pieces, manifest(), duration_s=len(pieces), n=16)
    texts = [one.text for one in found.readings]
    assert len(set(texts)) == len(texts) == min(len(want), 16)
    assert [one.probability for one in found.readings] == pytest.approx(sorted(want.values(), reverse=True)[:16])
    assert all(one.probability == pytest.approx(want[one.text]) for one in found.readings)
    assert found.text == texts[0]
    assert [(word.start_s, word.end_s) for word in found.words] == sorted(
        (word.start_s, word.end_s) for word in found.words
    )


def test_a_word_s_probability_is_scaled_as_the_manifest_says() -> None:
    confidence = {"slope": 0.5, "intercept": -1.0, "rows": 100}
    found = transcript([Piece([hypothesis(1, 0, sure=0.9)], 0, 1)], manifest(confidence=confidence), duration_s=1, n=1)
    assert found.words[0].probability == pytest.approx(1 / (1 + exp(-(0.5 * log(9) - 1))))


@pytest.mark.parametrize(("sure", "noise"), [(0.49, True), (0.51, False)])
def test_words_that_are_doubted_on_average_are_noise_and_so_is_none(sure: float, noise: bool) -> None:
    piece = Piece([hypothesis(1, 0, 1, sure=sure)], 0, 1)
    assert transcript([piece], manifest(doubt=0.5), duration_s=1, n=1).noise is noise
    assert transcript([Piece([hypothesis(1)], 0, 1)], manifest(), duration_s=1, n=1).noise


@pytest.mark.parametrize("source", [8000, 44100, 48000])
def test_pieces_of_any_size_are_resampled_as_the_whole(source: int) -> None:
    sound = np.sin(np.arange(source) * 2 * np.pi * 440 / source).astype(np.float32) * np.float32(0.9)
    whole = Resampler(source, 16000)
    whole.take(sound)
    live = LiveResampler(source, 16000)
    made = [live.take(sound[at : at + 777]) for at in range(0, len(sound), 777)]
    made.append(live.take(sound[:0], last=True))
    expected, got = whole.finish(), np.concatenate(made)
    assert abs(len(expected) - len(got)) <= 1
    shared = min(len(expected), len(got))
    np.testing.assert_allclose(got[:shared], expected[:shared], atol=1e-6)
