"""Steps of different requests in one run: a real denoiser, and the batcher gated run by run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import InferenceFailed, LecternError, TooLate
from app.core.manifest import Tensors
from app.core.sampling.samplers import Sampler
from app.engine import batcher as module
from app.engine.batcher import Batcher
from app.engine.runner import Answer
from app.engine.session import Session
from tests.app.engine.denoisers import LABELS, PATIENCE_S, SIDE, Gate, alone, denoiser_session, sampler
from tests.in_loop import in_loop


@pytest.fixture(scope="module")
def session() -> Session:
    return denoiser_session()


def made(run: Any, **options: Any) -> Batcher:
    return Batcher(run, **({"name": "m/1/denoiser", "max_rows": 16, "max_queued_rows": 1000} | options))


async def asked(coroutine: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
    """A task that has come to wait for its answer."""
    task = asyncio.ensure_future(coroutine)
    await asyncio.sleep(0)
    return task


@dataclass(frozen=True)
class Request:
    after: int  # runs that have begun when it arrives
    steps: int
    rows: int
    method: str


requests = st.builds(
    Request,
    after=st.integers(0, 12),
    steps=st.integers(1, 9),
    rows=st.integers(1, 5),
    method=st.sampled_from(["multistep", "ddim", "ancestral", "heun"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(requests, min_size=2, max_size=7), st.sampled_from([3, 16, 64]))
def test_whoever_shares_the_runs_each_gets_what_it_would_get_alone(
    session: Session, asked_for: list[Request], max_rows: int
) -> None:
    asyncio.run(_whoever_shares(session, asked_for, max_rows))


async def _whoever_shares(session: Session, asked_for: list[Request], max_rows: int) -> None:
    gate = Gate(session)
    batcher = made(gate, max_rows=max_rows)
    waiting = sorted(enumerate(asked_for), key=lambda item: item[1].after)
    tasks: dict[int, asyncio.Task[Answer]] = {}
    arrived_in: dict[int, int] = {}

    async def arrive(run: int) -> None:
        who, request = waiting.pop(0)
        arrived_in[who] = run
        make_sampler = sampler(who, steps=request.steps, rows=request.rows, method=request.method)
        tasks[who] = await asked(batcher.sample(make_sampler))

    while waiting:  # the batcher is idle
        await arrive(run=0)
        while (run := await gate.entered_or(tasks.values())) is not None:
            while waiting and waiting[0][1].after <= run:
                await arrive(run)
            gate.let()
    await batcher.close()
    for who, request in enumerate(asked_for):
        expected = alone(sampler(who, steps=request.steps, rows=request.rows, method=request.method), session.run)
        np.testing.assert_allclose(tasks[who].result().tensors["image"], expected, rtol=0, atol=1e-5)
        if arrived_in[who] and sum(other.rows for other in asked_for) <= max_rows:
            mine = gate.runs_with(who)
            assert mine[0] == arrived_in[who] + 1, "a newcomer's first step is in the next run"
            assert mine == list(range(mine[0], mine[-1] + 1)), "and each one after it in the next"


@in_loop
async def test_steps_of_different_times_share_a_run(session: Session) -> None:
    gate = Gate(session)
    batcher = made(gate)
    old = await asked(batcher.sample(sampler(1, steps=12, rows=2)))
    for number in range(1, 6):
        assert await gate.entered() == number
        if number == 5:
            new = await asked(batcher.sample(sampler(2, steps=4, rows=3)))
            one = await asked(batcher.submit(next(sampler(3, steps=1))))
        gate.let()
    await gate.entered()
    assert gate.sizes == [2, 2, 2, 2, 2, 6]
    assert gate.runs[5][1] < gate.runs[5][2] == 5.0, "each row at its own time"
    gate.open()
    answers = await asyncio.gather(old, new, one)
    await batcher.close()
    assert gate.sizes == [2] * 5 + [6] + [5] * 3 + [2] * 3
    assert [answer.batch_rows for answer in answers] == [6, 6, 6]
    assert batcher.counters.steps == 16


@in_loop
async def test_a_request_of_more_rows_than_a_run_takes_several_for_each_step(session: Session) -> None:
    gate = Gate(session)
    gate.open()
    batcher = made(gate, max_rows=4)
    answer = await batcher.sample(sampler(1, steps=3, rows=10))
    await batcher.close()
    assert gate.sizes == [4, 4, 2] * 3
    expected = alone(sampler(1, steps=3, rows=10), session.run)
    np.testing.assert_allclose(answer.tensors["image"], expected, rtol=0, atol=1e-5)


@in_loop
async def test_a_sampler_may_ask_for_another_number_of_rows_in_each_step(session: Session) -> None:
    sizes = [1, 5, 2, 7]

    def growing() -> Sampler:
        total = 0.0
        for rows in sizes:
            answer = yield next(sampler(9, steps=1, rows=rows))
            total += float(answer["denoised"].sum())
        return {"image": np.array(total)}

    gate = Gate(session)
    gate.open()
    batcher = made(gate, max_rows=4)
    answer = await batcher.sample(growing())
    assert gate.sizes == [1, 4, 1, 2, 4, 3]
    assert batcher.counters.queued_rows == 0
    after = await batcher.sample(sampler(1, steps=3))
    await batcher.close()
    assert float(answer.tensors["image"]) == pytest.approx(float(alone(growing(), session.run)), abs=1e-4)
    assert after.tensors["image"].shape == (1, SIDE, SIDE)


@in_loop
async def test_every_step_is_told_of_in_the_event_loop(session: Session) -> None:
    told: list[tuple[int, threading.Thread, tuple[int, ...]]] = []

    def on_step(step: int, outputs: Tensors) -> None:
        told.append((step, threading.current_thread(), outputs["denoised"].shape))

    batcher = made(session.run)
    await batcher.sample(sampler(1, steps=5, rows=2), on_step=on_step)
    await batcher.close()
    assert told == [(step, threading.current_thread(), (2, SIDE, SIDE)) for step in range(1, 6)]


@in_loop
async def test_a_cancelled_sampler_stops_at_its_next_step_and_frees_its_place(session: Session) -> None:
    gate, closed = Gate(session), asyncio.Event()
    batcher = made(gate)
    leaving = await asked(batcher.sample(until_closed(sampler(1, steps=50), closed)))
    assert await gate.entered() == 1
    staying = await asked(batcher.sample(sampler(2, steps=6)))
    gate.let()
    assert await gate.entered() == 2
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving
    gate.open()
    answer = await staying
    await batcher.close()
    assert gate.runs_with(1) == [1, 2], "the run in progress was its last"
    assert gate.runs_with(2) == [2, 3, 4, 5, 6, 7]
    await asyncio.wait_for(closed.wait(), PATIENCE_S)
    np.testing.assert_allclose(answer.tensors["image"], alone(sampler(2, steps=6), session.run), rtol=0, atol=1e-5)
    counters = batcher.counters
    assert (counters.cancelled_running, counters.succeeded, counters.queued_rows) == (1, 1, 0)


def until_closed(sampling: Sampler, closed: asyncio.Event) -> Sampler:
    loop = asyncio.get_running_loop()
    try:
        return (yield from sampling)
    finally:
        loop.call_soon_threadsafe(closed.set)


@in_loop
async def test_a_sampler_that_is_cancelled_while_it_waits_is_ended_at_once(session: Session) -> None:
    gate, closed = Gate(session), asyncio.Event()
    batcher = made(gate, max_rows=2)
    first = await asked(batcher.sample(sampler(1, steps=2, rows=2)))
    assert await gate.entered() == 1
    leaving = await asked(batcher.sample(until_closed(sampler(2, steps=50), closed)))
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await leaving
    await asyncio.wait_for(closed.wait(), PATIENCE_S)
    gate.open()
    await first
    await batcher.close()
    assert gate.runs_with(2) == []
    assert (batcher.counters.cancelled_queued, batcher.counters.queued_rows) == (1, 0)


@in_loop
async def test_a_sampler_that_raises_fails_alone(session: Session) -> None:
    def failing() -> Sampler:
        sampling = sampler(1, steps=9)
        answer = yield next(sampling)
        yield sampling.send(answer)
        raise RuntimeError("a secret")

    gate = Gate(session)
    batcher = made(gate)
    broken = await asked(batcher.sample(failing()))
    assert await gate.entered() == 1
    whole = await asked(batcher.sample(sampler(2, steps=6)))
    gate.open()
    with pytest.raises(InferenceFailed) as told:
        await broken
    answer = await whole
    await batcher.close()
    assert "secret" not in told.value.detail
    assert gate.runs_with(1) == [1, 2]
    assert gate.runs_with(2) == [2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(answer.tensors["image"], alone(sampler(2, steps=6), session.run), rtol=0, atol=1e-5)


@in_loop
async def test_a_sampler_whose_step_cannot_be_run_fails_alone(session: Session) -> None:
    def poisoned() -> Sampler:
        answer = yield next(sampler(1, steps=3))
        fed = dict(next(sampler(1, steps=3)))
        yield fed | {"label": np.array([LABELS + 5])}  # outside the embedding: the runtime raises
        return answer

    gate = Gate(session)
    batcher = made(gate)
    broken = await asked(batcher.sample(poisoned()))
    assert await gate.entered() == 1
    whole = await asked(batcher.sample(sampler(2, steps=4)))
    gate.open()
    with pytest.raises(LecternError):
        await broken
    answer = await whole
    await batcher.close()
    np.testing.assert_allclose(answer.tensors["image"], alone(sampler(2, steps=4), session.run), rtol=0, atol=1e-5)


@in_loop
async def test_a_deadline_in_the_middle_of_a_loop_ends_it_there(session: Session) -> None:
    now = [monotonic()]
    gate = Gate(session)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic", lambda: now[0])
        batcher = made(gate)
        late = await asked(batcher.sample(sampler(1, steps=50), deadline=now[0] + 3600))
        assert await gate.entered() == 1
        whole = await asked(batcher.sample(sampler(2, steps=5)))
        gate.let(2)
        assert await gate.entered() == 2
        assert await gate.entered() == 3
        now[0] += 7200
        gate.open()
        with pytest.raises(TooLate, match="deadline"):
            await late
        await whole
        await batcher.close()
    assert gate.runs_with(1) == [1, 2, 3]
    assert gate.runs_with(2) == [2, 3, 4, 5, 6]
    assert batcher.counters.queued_rows == 0


@in_loop
async def test_closing_lets_every_sampler_end(session: Session) -> None:
    gate = Gate(session)
    batcher = made(gate)
    tasks = [await asked(batcher.sample(sampler(who, steps=7))) for who in (1, 2, 3)]
    await gate.entered()
    closing = asyncio.ensure_future(batcher.close())
    await asyncio.sleep(0)
    gate.open()
    answers = await asyncio.gather(*tasks)
    await closing
    assert [answer.tensors["image"].shape for answer in answers] == [(1, SIDE, SIDE)] * 3
