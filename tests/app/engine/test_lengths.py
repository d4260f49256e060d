"""Rows of different length: which share a run, and that each answers as it would alone."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.core.errors import TooLate
from app.core.manifest import Tensors
from app.engine.batcher import Batcher
from app.engine.lengths import Lengths
from app.engine.queue import Job, Queue, joined, stack
from app.engine.rate import NEVER
from app.engine.runner import Answer
from app.engine.session import Session
from tests.app import recurrent
from tests.app.engine.test_batcher import Gate, queued
from tests.in_loop import in_loop

LENGTHS = Lengths({"x": (1,)})


class Waits:
    def cancelled(self) -> bool:
        return False


def job(*shape: int, **others: NDArray[Any]) -> Job:
    x = np.ones(shape, np.float32)
    return Job({"x": x, **others}, len(x), Waits(), deadline=NEVER)  # type: ignore[arg-type]


def runs(queue: Queue) -> list[list[tuple[int, ...]]]:
    """The shapes of the jobs of each run."""
    found = []
    while batch := queue.take():
        found.append([part.job.tensors["x"].shape for part in batch])
    return found


def queue_of(*jobs: Job, lengths: Lengths | None = LENGTHS) -> Queue:
    queue = Queue(max_rows=8, lengths=lengths)
    for one in jobs:
        queue.put(one)
    return queue


def test_rows_of_similar_length_share_a_run() -> None:
    assert runs(queue_of(job(1, 10), job(2, 12), job(1, 9))) == [[(1, 10), (2, 12), (1, 9)]]


def test_rows_of_more_than_twice_the_length_of_another_form_a_run_of_their_own() -> None:
    mixed = queue_of(job(1, 10), job(1, 20), job(1, 9), job(1, 21), job(1, 40), job(1, 11))
    assert runs(mixed) == [[(1, 10), (1, 20), (1, 11)], [(1, 9)], [(1, 21), (1, 40)]]


def test_the_lengths_of_a_graph_of_fixed_sizes_are_never_mixed() -> None:
    assert runs(queue_of(job(1, 10), job(1, 11), job(1, 10), lengths=None)) == [[(1, 10), (1, 10)], [(1, 11)]]


def test_other_types_inputs_and_fixed_axes_are_never_mixed() -> None:
    fixed = queue_of(job(1, 10, 3), job(1, 10, 4), job(1, 11, 3))
    assert runs(fixed) == [[(1, 10, 3), (1, 11, 3)], [(1, 10, 4)]]
    double = Job({"x": np.ones((1, 11))}, 1, Waits(), deadline=NEVER)  # type: ignore[arg-type]
    for other in (double, job(1, 11, 1), job(1, 11, y=np.zeros(1))):
        assert runs(queue_of(job(1, 10), other)) == [[(1, 10)], [other.tensors["x"].shape]]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_every_row_of_every_run_is_real_for_at_least_half_and_none_is_lost(sizes: list[int]) -> None:
    found = runs(queue_of(*(job(1, size) for size in sizes)))
    for run in found:
        lengths = [length for _, length in run]
        assert max(lengths) <= 2 * min(lengths)
        assert len(run) <= 8
    assert sorted(length for run in found for _, length in run) == sorted(sizes)


def test_shorter_rows_are_filled_up_with_zeros() -> None:
    queue = queue_of(job(1, 2, 2), job(2, 3, 2), lengths=Lengths({"x": (1,)}))
    stacked = stack(queue.take(), queue.lengths)["x"]
    np.testing.assert_array_equal(stacked[:, :, 0], [[1, 1, 0], [1, 1, 1], [1, 1, 1]])
    assert stacked.dtype == np.float32


def test_parts_of_different_length_are_joined_at_the_longest() -> None:
    whole = joined([{"y": np.ones((2, 3)), "n": np.ones(2)}, {"y": np.ones((1, 5)), "n": np.ones(1)}])
    np.testing.assert_array_equal(whole["y"], [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert whole["n"].shape == (3,)


def session(directions: int, **options: Any) -> tuple[Session, Lengths]:
    data, graph = recurrent.gru(directions, **options)
    lengths = Lengths.of(graph)
    assert lengths is not None
    return Session(data, graph, where="m/1/gru.onnx", device="cpu", threads=1), lengths


async def together(directions: int, jobs: list[dict[str, NDArray[Any]]], **options: Any) -> list[Answer]:
    """Queue jobs while a run is in progress, so that they share the next ones; compare each with NumPy, alone."""
    made, lengths = session(directions, **options)
    gate = Gate()
    fed: list[Tensors] = []

    def run(tensors: Tensors) -> dict[str, NDArray[Any]]:
        gate({"x": tensors["x"][:, 0]})
        fed.append(tensors)
        return made.run(tensors)

    batcher = Batcher(run, name="m/1/gru", max_rows=8, max_queued_rows=100, inline_s=10, lengths=lengths)
    first = await queued(batcher.submit(recurrent.rows_of(1)))
    await gate.entered()
    tasks = await queued(*(batcher.submit(rows) for rows in jobs))
    gate.open()
    answers = await asyncio.gather(*tasks)
    await asyncio.gather(*first)
    await batcher.close()
    assert any(len(tensors["x"]) > 1 and len(set(tensors["length"])) > 1 for tensors in fed)
    for rows, answer in zip(jobs, answers, strict=True):
        y = answer.tensors["y"]
        assert y.shape[1] == rows["x"].shape[1]  # an axis that has an input's name is as long as that of the job
        for i, length in enumerate(rows["length"]):
            expected = recurrent.hidden_states(rows["x"][i, :length], directions)
            np.testing.assert_allclose(y[i, :length], expected, atol=1e-5)
            halved = answer.tensors["halved"][i, : (length + 1) // 2]  # it may be longer: its run's length
            np.testing.assert_allclose(halved, expected[::2], atol=1e-5)
    return answers


MIXED = [recurrent.rows_of(7, seed=1), recurrent.rows_of(9, 5, seed=2), recurrent.rows_of(6, seed=3)]


@pytest.mark.parametrize("directions", [1, 2])
def test_each_row_answers_in_a_mixed_run_as_alone(directions: int) -> None:
    asyncio.run(together(directions, MIXED))


def test_a_graph_that_ignores_the_lengths_is_found_out() -> None:
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        asyncio.run(together(2, MIXED, with_lengths=False))


def test_a_job_cut_over_runs_of_different_length_is_put_together() -> None:
    many = recurrent.rows_of(*range(5, 11), seed=4)
    short = [recurrent.rows_of(*[6] * 4, seed=5), recurrent.rows_of(*[12] * 7, seed=6)]
    _, answer, _ = asyncio.run(together(2, [short[0], many, short[1]]))
    assert answer.batch_rows == 8
    assert answer.tensors["y"].shape[1] == 10
    assert answer.tensors["halved"].shape == (6, 6, 2 * recurrent.HIDDEN)  # half of 10 and of 12, joined


def test_what_the_graph_names_in_inputs_and_outputs_is_read_from_the_manifest() -> None:
    _, graph = recurrent.gru(1)
    lengths = Lengths.of(graph)
    assert lengths is not None
    assert lengths.inputs == {"x": (1,)}
    assert lengths.outputs == {"y": [(1, "x", 1)]}


def test_a_graph_of_fixed_sizes_has_no_variable_axes() -> None:
    _, graph = recurrent.gru(1)
    fixed = graph.model_copy(update={"inputs": graph.inputs[1:]})
    assert Lengths.of(fixed) is None


@in_loop
async def test_no_run_of_a_graph_with_variable_axes_is_made_on_the_event_loop() -> None:
    gate = Gate(is_open=True)
    batcher = Batcher(gate, name="m/1/g", max_rows=8, max_queued_rows=100, inline_s=10, lengths=LENGTHS)
    for _ in range(3):
        await batcher.submit({"x": np.ones((1, 4))})
    await batcher.close()
    assert batcher.counters.inline_runs == 0


@in_loop
async def test_the_time_of_long_rows_refuses_no_short_ones() -> None:
    """Ten seconds for each run so far, of one row each: a row like them would be late, a shorter one may be in time."""
    for lengths, refused in ((None, True), (LENGTHS, False)):
        gate = Gate(is_open=True)
        batcher = Batcher(gate, name="m/1/g", max_rows=8, max_queued_rows=100, lengths=lengths)
        for _ in range(5):
            batcher.rate.observe(1, 10.0, monotonic())
        submitted = batcher.submit({"x": np.ones((1, 4))}, deadline=monotonic() + 5)
        if refused:
            with pytest.raises(TooLate):
                await submitted
        else:
            await submitted
        await batcher.close()
