"""Work beside the event loop: who comes first, what is refused, and what is dropped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest

from app.core.errors import Busy, TooLate
from app.web.work_pool import LIGHT, TURNS, Dropped, WorkPool, checkpoint

HEAVY = 50_000_000


class Gate:
    """Work that says when it begins, and ends when it is let go."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.let_go = threading.Event()

    def __call__(self) -> str:
        self.began.set()
        assert self.let_go.wait(30)
        return "done"


def test(scenario: Callable[[WorkPool], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def run() -> None:
        pool = WorkPool(2, **options)
        try:
            await asyncio.wait_for(scenario(pool), 30)
        finally:
            pool.shutdown()

    asyncio.run(run())


test.__test__ = False  # type: ignore[attr-defined]  # pytest's mark for what is no test


@asynccontextmanager
async def occupied(pool: WorkPool, size: int) -> AsyncIterator[Gate]:
    """A thread at work of that size until the block ends."""
    gate = Gate()
    task = asyncio.create_task(pool.run(gate, size=size))
    await asyncio.to_thread(gate.began.wait, 30)
    try:
        yield gate
    finally:
        gate.let_go.set()
        await task


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_light_work_does_not_wait_for_heavy_work_however_much_there_is() -> None:
    async def scenario(pool: WorkPool) -> None:
        async with occupied(pool, HEAVY):
            waiting = [asyncio.create_task(pool.run(lambda: "heavy", size=HEAVY)) for _ in range(3)]
            await turns()
            assert await pool.run(lambda: "light", size=LIGHT) == "light"
            assert not any(task.done() for task in waiting)
        assert await asyncio.gather(*waiting) == ["heavy"] * 3

    test(scenario, max_queued_s=60)


def test_heavy_work_has_its_turn_where_light_work_never_ends() -> None:
    async def scenario(pool: WorkPool) -> None:
        order: list[str] = []
        async with occupied(pool, 1), occupied(pool, 1):
            light = [pool.run(lambda: order.append("light"), size=1) for _ in range(3 * TURNS)]
            tasks = [asyncio.create_task(one) for one in light]
            tasks.append(asyncio.create_task(pool.run(lambda: order.append("heavy"), size=HEAVY)))
            await turns()
        await asyncio.gather(*tasks)
        assert order.index("heavy") <= TURNS + 1

    test(scenario)


def test_more_seconds_of_work_than_it_holds_are_refused_with_the_time_that_they_take() -> None:
    async def scenario(pool: WorkPool) -> None:
        async with occupied(pool, HEAVY):
            first = asyncio.create_task(pool.run(lambda: 1, size=HEAVY))  # 0.75 s at the first rate
            await turns()
            with pytest.raises(Busy, match=r"pictures were being read, at most 0\.5 s wait") as refused:
                await pool.run(lambda: 2, size=HEAVY, doing="pictures were being read")
            assert refused.value.headers == {"Retry-After": "1"}
            owed = asyncio.create_task(pool.run(lambda: 3, size=HEAVY, owed=True))
            assert await pool.run(lambda: 4, size=1) == 4  # light work has a queue of its own
        assert await asyncio.gather(first, owed) == [1, 3]

    test(scenario, max_queued_s=0.5)


def test_work_whose_deadline_passes_is_never_begun_and_told() -> None:
    async def scenario(pool: WorkPool) -> None:
        begun = False

        def begin() -> None:
            nonlocal begun
            begun = True

        async with occupied(pool, HEAVY):
            with pytest.raises(TooLate, match="pictures were being read until the deadline"):
                await pool.run(begin, size=HEAVY, deadline=monotonic(), doing="pictures were being read")
        assert await pool.run(lambda: begun, size=HEAVY) is False

    test(scenario)


def test_who_leaves_while_the_work_waits_is_not_worked_for() -> None:
    async def scenario(pool: WorkPool) -> None:
        begun = []
        async with occupied(pool, HEAVY):
            task = asyncio.create_task(pool.run(lambda: begun.append(1), size=HEAVY))
            await turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await pool.run(lambda: begun, size=HEAVY) == []

    test(scenario)


def test_who_leaves_while_it_is_done_stops_it_at_its_next_checkpoint() -> None:
    async def scenario(pool: WorkPool) -> None:
        gate, after = Gate(), []

        def work() -> None:
            checkpoint()
            gate()
            checkpoint()
            after.append(1)

        task = asyncio.create_task(pool.run(work, size=HEAVY))
        await asyncio.to_thread(gate.began.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.let_go.set()
        assert await pool.run(lambda: after, size=HEAVY) == []

    test(scenario)


def test_what_work_raises_reaches_who_waits_for_it() -> None:
    def fail(error: Exception) -> Callable[[], None]:
        def work() -> None:
            raise error

        return work

    async def scenario(pool: WorkPool) -> None:
        with pytest.raises(ZeroDivisionError):
            await pool.run(fail(ZeroDivisionError()), size=1)
        with pytest.raises(RuntimeError, match="StopIteration"):  # which no future can hold
            await pool.run(fail(StopIteration()), size=1)
        assert await pool.run(lambda: 5, size=1) == 5

    test(scenario)


def test_a_checkpoint_outside_of_a_pool_does_nothing() -> None:
    checkpoint()
    assert issubclass(Dropped, Exception)
