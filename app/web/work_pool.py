"""Work beside the event loop: what decodes, encodes and searches, in a few threads, light work first.

A piece of work says before how large it is: in pixels, values or bytes, which take some ten nanoseconds each. What is
larger than `LIGHT` is heavy: it waits behind all light work, and at least one thread is kept from it, so that light
work waits for light work alone. Both queues are bounded in seconds, as measured. Whose deadline passes, or whose client
hangs up, leaves the queue; work in parts ends at its next `checkpoint`.

All but the work itself happens on the event loop, so that nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from typing import Any, Final, TypeVar

from app.core.errors import Busy
from app.core.shared_counters import SharedCounters
from app.web.waiting import NEVER, until

LIGHT: Final = 1 << 20  # pixels, values or bytes; some 10 ms
SOUND: Final = 10
CHARACTER: Final = 400
CELL: Final = 100
SEARCHED: Final = 20_000
DRAWN: Final = 1 << 20
"""What takes as long as so many pixels: a byte or sample of sound, a character that is tokenized, a cell of a table, an
output of a net that is searched for words or labels, a page that is drawn."""
TURNS: Final = 8  # of light work, before heavy work has one where none of it is being done
MAX_QUEUED_S: Final = 2.0  # of work in each of the two queues
FIRST_RATE: Final = 15e-9  # seconds for a pixel, until it is measured
REMEMBERED: Final = 100 << 20  # pixels that the measured rate is of; older ones count for less
QUEUED, REFUSED, DROPPED = "lectern_work_queued", "lectern_work_refused", "lectern_work_dropped"

T = TypeVar("T")

_thread = threading.local()


class Dropped(Exception):
    """Nobody waits for this work any more."""


def checkpoint() -> None:
    """Between two parts of a piece of work; a call from elsewhere does nothing.

    Raises:
        Dropped: who asked for it has left, or its deadline has passed.
    """
    job: _Job | None = getattr(_thread, "job", None)
    if job is not None and job.future.done():
        raise Dropped


class _Job:
    __slots__ = ("future", "size", "work")

    def __init__(self, work: Callable[[], Any], size: int, future: asyncio.Future[Any]) -> None:
        self.work = work
        self.size = size
        self.future = future


class WorkPool:
    """Threads for what would hold up the event loop.

    Args:
        threads: at least two, so that one is always kept for light work.
        max_queued_s: seconds of work that may wait, of light work and of heavy; beyond it `Busy`.
        counters: where it counts what waits, what is refused and what is dropped.
    """

    def __init__(
        self,
        threads: int = max(2, min(4, os.cpu_count() or 1)),
        *,
        max_queued_s: float = MAX_QUEUED_S,
        counters: SharedCounters | None = None,
    ) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="work")
        self._free = threads
        self._max_queued_s = max_queued_s
        self._light: deque[_Job] = deque()
        self._heavy: deque[_Job] = deque()
        self._heavy_threads = self._heavy_free = max(1, threads // 2)
        self._turns = 0
        self._seconds, self._done = FIRST_RATE * REMEMBERED / 8, REMEMBERED / 8
        counters = counters or SharedCounters()
        self._queued = counters.cells(QUEUED, gauge=True)
        self._refused, self._dropped = counters.cells(REFUSED), counters.cells(DROPPED)

    async def run(
        self, work: Callable[[], T], *, size: int, deadline: float = NEVER, doing: str = "", owed: bool = False
    ) -> T:
        """`work()` in a thread. Cancelling it takes it out of the queue.

        Args:
            size: pixels, values or bytes that it goes through.
            deadline: `time.monotonic()` after which its result is of no use.
            doing: what it does, for the error: "pictures were being read".
            owed: it is never refused: what went before it would be lost.

        Raises:
            Busy: more work waits than is done in `max_queued_s`.
            TooLate: the deadline passed first.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, size, loop.create_future())
        lane = self._light if size <= LIGHT else self._heavy
        if lane and not owed:
            self._check_room(lane, size, doing)
        lane.append(job)
        self._queued[0] += 1
        self._start_next(loop)
        try:
            async with until(deadline, doing or "the request was being worked on"):
                return await job.future  # type: ignore[no-any-return]  # what the work gives
        finally:
            if not job.future.done() or job.future.cancelled():
                self._dropped[0] += 1
                job.future.cancel()
                if job in lane:
                    lane.remove(job)
                    self._queued[0] -= 1

    def submit(self, work: Callable[[], object]) -> None:
        """`work()` in a thread, some time; nobody waits for it.

        Raises:
            RuntimeError: it is shut down.
        """
        self._threads.submit(work)

    def shutdown(self) -> None:
        """Take no more work; what is being done ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check_room(self, lane: deque[_Job], size: int, doing: str) -> None:
        waiting = sum(job.size for job in lane)
        seconds = self._seconds / self._done * waiting / (self._heavy_threads if lane is self._heavy else 1)
        if seconds > self._max_queued_s:
            self._refused[0] += 1
            raise Busy(
                f"{seconds:.1f} s of work is queued before {doing or 'this'}, at most {self._max_queued_s:g} s wait",
                retry_after_s=seconds,
            )

    def _start_next(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._free:
            may_be_heavy = self._heavy and self._heavy_free
            starves = self._heavy_free == self._heavy_threads and self._turns >= TURNS
            if self._light and not (may_be_heavy and starves):
                job = self._light.popleft()
                self._turns += 1
            elif may_be_heavy:
                job = self._heavy.popleft()
                self._turns = 0
            else:
                return
            self._queued[0] -= 1
            if job.future.done():  # its waiter is about to leave
                continue
            self._free -= 1
            self._heavy_free -= job.size > LIGHT
            self._threads.submit(self._do, job, loop)

    def _do(self, job: _Job, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread."""
        result, error = None, None
        _thread.job = job
        began = perf_counter()
        try:
            result = job.work()
        except BaseException as raised:  # whoever waits for it gets it
            error = raised
        _thread.job = None
        with suppress(RuntimeError):  # the loop has closed, nobody waits
            loop.call_soon_threadsafe(self._end, job, result, error, perf_counter() - began, loop)

    def _end(
        self, job: _Job, result: object, error: BaseException | None, seconds: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._free += 1
        self._heavy_free += job.size > LIGHT
        if error is None:
            kept = max(0.0, 1 - job.size / REMEMBERED)
            self._seconds, self._done = self._seconds * kept + seconds, self._done * kept + job.size
        self._start_next(loop)
        if job.future.done():
            return
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
