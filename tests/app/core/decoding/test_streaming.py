"""A recording in pieces is decoded as the whole, and what is stable stays."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.decoding import ctc
from app.core.decoding.streaming import Beam, Greedy, outputs_of, stream
from app.core.manifest import Tensors
from app.core.sampling.samplers import Sampler
from tests.app.core.decoding.paths import random, recordings

pieces = st.lists(st.integers(0, 9), max_size=30)


def cut(whole: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(whole, np.minimum(np.cumsum(sizes, dtype=int), len(whole)))


# Decoders


@given(recordings, pieces)
@settings(max_examples=30, deadline=None)
def test_greedy_in_pieces_is_greedy_of_the_whole_and_what_was_stable_is_in_it(
    whole: np.ndarray, sizes: list[int]
) -> None:
    decoder = Greedy()
    partial = [decoder.feed(piece) for piece in cut(whole, sizes)]
    final = decoder.finish()
    assert final == ctc.greedy(whole)
    for each in partial:
        assert final[: each.stable] == each.tokens[: each.stable]
    assert [each.stable for each in partial] == sorted(each.stable for each in partial)


@given(recordings, pieces, st.sampled_from([None, 2, 5, 20]))
@settings(max_examples=30, deadline=None)
def test_a_beam_in_pieces_is_the_beam_of_the_whole_and_what_was_stable_is_in_it(
    whole: np.ndarray, sizes: list[int], settle: int | None
) -> None:
    decoder = Beam(width=6, settle=settle)
    partial = [decoder.feed(piece) for piece in cut(whole, sizes)]
    final = decoder.finish()
    assert final == ctc.beam(whole, width=6, settle=settle)
    for each in partial:
        for hypothesis in final:
            assert hypothesis.tokens[: each.stable] == each.tokens[: each.stable]
    assert [each.stable for each in partial] == sorted(each.stable for each in partial)
    assert len({tuple(token.label for token in hypothesis.tokens) for hypothesis in final}) == len(final)
    for hypothesis in final:
        assert all(a.end <= b.start for a, b in pairwise(hypothesis.tokens))


def test_before_its_end_a_recording_has_a_partial_result() -> None:
    whole = random(1, 60, 5, sharp=5.0)
    decoder = Greedy()
    assert decoder.feed(whole[:30]).tokens == ctc.greedy(whole[:30])
    beam = Beam()
    assert beam.feed(whole[:30]).tokens == ctc.beam(whole[:30])[0].tokens


def test_a_word_is_stable_once_the_steps_around_it_are_there() -> None:
    row = np.log([[0.98, 0.01, 0.01], [0.01, 0.01, 0.98]])
    word, blank = row[:1], row[1:]
    for decoder, steps in ((Greedy(), 2), (Beam(settle=5), 5)):
        assert decoder.feed(word).stable == 0
        assert decoder.feed(np.repeat(blank, steps - 1, axis=0)).stable == 0
        partial = decoder.feed(blank)
        assert (partial.stable, [token.label for token in partial.tokens]) == (1, [0])


def test_the_same_word_after_a_stable_one_needs_a_blank_between() -> None:
    word, blank = np.log([[0.98, 0.01, 0.01]]), np.log([[0.01, 0.01, 0.98]])
    decoder = Beam(settle=2)
    decoder.feed(np.concatenate([word, *[blank] * 4]))
    assert [token.label for token in decoder.feed(word).tokens] == [0, 0]
    decoder = Beam(settle=2)
    assert [token.label for token in decoder.feed(np.concatenate([word] * 9)).tokens] == [0]


def test_the_steps_of_a_path_that_leads_later_are_still_there() -> None:
    # Found by a search: the second path of a prefix, behind until then, has its first token earlier.
    whole = random(74, 60, 1, sharp=4.0)
    decoder = Beam(width=4, settle=6)
    for piece in np.split(whole, 15):
        decoder.feed(piece)
    assert decoder.finish() == ctc.beam(whole, width=4, settle=6)


def test_hours_of_silence_are_not_kept() -> None:
    blank = np.repeat(np.log([[1e-4, 1e-4, 1 - 2e-4]]), 500, axis=0)
    for decoder in (Greedy(), Beam(width=4, settle=10)):
        decoder.feed(blank)
        assert len(decoder._history._rows) <= 20


# Feeding a graph


def running_sum(piece: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A causal net with one output for two samples: the sum of all so far."""
    sums = total + piece.cumsum(axis=1)
    return sums[:, 1::2, None], sums[:, -1:]


def drive(sampler: Sampler, net: Callable[[Tensors], Tensors]) -> tuple[Tensors, list[Tensors]]:
    """The result, and what the net was given."""
    given, inputs = [], next(sampler)
    try:
        while True:
            given.append(inputs)
            inputs = sampler.send(net(inputs))
    except StopIteration as end:
        return end.value, given


def summing(inputs: Tensors) -> Tensors:
    out, total = running_sum(inputs["sound"], inputs["total"])
    return {"log_probabilities": out, "next_total": total}


START = {"total": np.zeros((1, 1), np.float32)}


@given(st.integers(0, 40), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_a_recording_in_pieces_has_the_outputs_of_the_whole(samples: int, flush: int) -> None:
    sound = np.arange(1, samples + 1, dtype=np.float32)
    answer, given = drive(stream(sound, chunk=8, states=START, flush=flush), summing)
    result = answer["log_probabilities"]
    padded = np.zeros((1, 2 * (-(-samples // 2) + flush)), np.float32)
    padded[0, :samples] = sound
    np.testing.assert_array_equal(result, running_sum(padded, START["total"])[0])
    assert {each["sound"].shape for each in given} == {(1, 8)}
    assert len(given) == max(1, -(-result.shape[1] // 4))  # none too many


def test_frames_of_a_clip_go_the_same_way() -> None:
    clip = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)

    def halved(inputs: Tensors) -> Tensors:
        return {"probabilities": inputs["video"][..., 0, :2] / 2, "next_seen": inputs["seen"] + 1}

    sampler = stream(clip, chunk=2, states={"seen": np.zeros((1, 4))}, into="video", out="probabilities")
    answer, given = drive(sampler, halved)
    np.testing.assert_array_equal(np.concatenate([each["video"] for each in given], axis=1)[0, :5], clip)
    assert given[0]["video"].dtype == np.uint8
    assert [each["seen"][0, 0] for each in given] == [0, 1, 2]
    np.testing.assert_array_equal(answer["probabilities"], clip[None, :, 0, :2] / 2)


def test_outputs_are_counted_from_samples() -> None:
    # 47,648 samples, 320 ms pieces of 8 outputs at 16 kHz: 640 samples an output.
    assert outputs_of(47_648, chunk=5120, steps=8) == 75
    assert outputs_of(640, chunk=5120, steps=8, flush=3) == 4
    assert outputs_of(0, chunk=5120, steps=8) == 0
