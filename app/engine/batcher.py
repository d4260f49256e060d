"""Queue -> rows -> run -> split: one worker thread beside the event loop, and no timer.

While the worker is busy, requests queue; when it is free it takes what fits into one run. An idle server adds no wait,
and batches grow with load by themselves.

Two lanes keep it fair: requests of at most a quarter of `max_rows` are light, the others heavy, by the rows that they
have left. Where both wait, they lead a run in turn, and the other fills what is free; heavy ones go round, a run's
worth each time. So a single row waits for the run in progress and one more at most, however much heavy work there is,
and light traffic cannot starve a heavy request either. Rows that cannot be stacked (other types or trailing shapes)
form runs of their own, in the same turns.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.errors import Busy, InferenceFailed, LecternError, TooLarge, Unavailable, Unprocessable
from app.core.manifest import Tensors

log = logging.getLogger(__name__)

Run = Callable[[Tensors], dict[str, NDArray[Any]]]
OnRun = Callable[[str, int, float], None]

RATE_MEMORY = 0.9  # weight of the past, per run, in the measured service rate
RETRY_UNMEASURED_S = 1.0
RETRY_LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request gets.

    Attributes:
        tensors: every output by name, with the request's own rows in their order.
        queue_s: from `submit` until its first run began.
        run_s: the length of the runs that it took part in, together.
        batch_rows: the rows of the largest of them.
    """

    tensors: dict[str, NDArray[Any]]
    queue_s: float
    run_s: float
    batch_rows: int


@dataclass(slots=True)
class Counters:
    """Since the start: requests and their rows taken into the queue, calls of `run` and how many of them raised,
    requests refused for a full queue, requests whose caller went away. `queued_rows` is a gauge: rows waiting now."""

    requests: int = 0
    rows: int = 0
    runs: int = 0
    failed_runs: int = 0
    rejected: int = 0
    cancelled: int = 0
    queued_rows: int = 0


class _Request:
    """A request in the queue, and what the worker has of its answer."""

    __slots__ = (
        "batch_rows",
        "future",
        "kind",
        "parts",
        "queued_at",
        "rows",
        "run_s",
        "started_at",
        "taken",
        "tensors",
    )

    def __init__(self, tensors: Tensors, rows: int, future: asyncio.Future[Answer]) -> None:
        self.tensors = tensors
        self.rows = rows
        self.future = future
        self.kind = tuple((name, array.dtype, array.shape[1:]) for name, array in tensors.items())
        self.queued_at = perf_counter()
        self.started_at = 0.0
        self.taken = 0  # rows given to a run, the first ones
        self.run_s = 0.0
        self.batch_rows = 0
        self.parts: list[dict[str, NDArray[Any]]] = []


@dataclass(frozen=True, slots=True)
class _Slice:
    """Rows [begin, end) of a request, on their way through one run."""

    request: _Request
    begin: int
    end: int


_Outcome = tuple[_Request, Answer | LecternError]


class Batcher:
    """Makes runs of what several callers ask. Made and used in one event loop; `run` is called in one other thread.

    Args:
        run: the work; gets and gives named arrays whose axis 0 is rows. Called by one thread at a time.
        name: what is run, for messages and metrics.
        max_rows: rows in one run at most; a larger request takes several runs.
        max_queued_rows: rows waiting at most; beyond them requests are refused.
        on_run: told (name, rows, seconds) after each run that succeeded, from the worker's thread.
    """

    def __init__(
        self, run: Run, *, name: str, max_rows: int, max_queued_rows: int, on_run: OnRun | None = None
    ) -> None:
        self.name = name
        self.max_rows = max_rows
        self.max_queued_rows = max_queued_rows
        self.counters = Counters()
        self._run = run
        self._on_run = on_run
        self._light_rows = max(1, max_rows // 4)
        self._light: OrderedDict[_Request, None] = OrderedDict()
        self._heavy: OrderedDict[_Request, None] = OrderedDict()
        self._heavy_led = False
        self._rate_rows = 0.0
        self._rate_s = 0.0
        self._closing = False
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = threading.Condition(threading.Lock())
        self._worker = threading.Thread(target=self._work, name=f"batcher {name}", daemon=False)
        self._worker.start()

    async def submit(self, tensors: Tensors) -> Answer:
        """Queue the rows and wait for their answer. Cancelling it takes what has not been run out of the queue.

        Args:
            tensors: every input by name; axis 0 is rows, one number of them for all, at least one.

        Raises:
            Unprocessable: no rows at all, or not the same number in each array.
            TooLarge: more rows than the queue ever holds.
            Busy: more rows than the queue holds now; says when there should be room.
            Unavailable: closed.
            InferenceFailed: a run with these rows raised, also when they ran alone.
        """
        rows = self._count_rows(tensors)
        loop = asyncio.get_running_loop()
        request = _Request(tensors, rows, loop.create_future())
        counters = self.counters
        with self._changed:
            if self._closing:
                raise Unavailable(f"{self.name} is shutting down and takes no more requests")
            if counters.queued_rows + rows > self.max_queued_rows:
                counters.rejected += 1
                raise Busy(
                    f"{self.name}: {counters.queued_rows} rows are queued, with these {rows} it would be more than "
                    f"the {self.max_queued_rows} it holds",
                    retry_after_s=self.retry_after_s,
                )
            self._loop = loop
            counters.requests += 1
            counters.rows += rows
            counters.queued_rows += rows
            self._enqueue(request)
            self._changed.notify()
        try:
            return await request.future
        except asyncio.CancelledError:
            self._forget(request)
            raise

    async def close(self) -> None:
        """Refuse what comes from now on, answer everything that was accepted, end the worker."""
        with self._changed:
            self._closing = True
            self._loop = asyncio.get_running_loop()
            self._changed.notify()
        if self._worker.is_alive():
            await self._ended.wait()
        self._worker.join()

    @property
    def retry_after_s(self) -> float:
        """Seconds until what is queued now has been run, at the measured rate; a guess before the first run."""
        if self._rate_rows == 0:
            return RETRY_UNMEASURED_S
        return min(RETRY_LONGEST_S, self.counters.queued_rows * self._rate_s / self._rate_rows)

    def _count_rows(self, tensors: Tensors) -> int:
        shapes = {name: array.shape for name, array in tensors.items()}
        counts = {shape[:1] for shape in shapes.values()}
        if len(counts) != 1 or () in counts:
            raise Unprocessable(
                f"{self.name}: every input has the same number of rows on axis 0, here are {shapes}", subject=self.name
            )
        rows: int = counts.pop()[0]
        if not rows:
            raise Unprocessable(f"{self.name}: expected at least one row, got none", subject=self.name)
        if rows > self.max_queued_rows:
            raise TooLarge(
                f"{self.name}: {rows} rows in one request, at most {self.max_queued_rows} are taken",
                subject=self.name,
                expected=f"at most {self.max_queued_rows} rows",
                got=f"{rows} rows",
            )
        return rows

    def _enqueue(self, request: _Request) -> None:
        lane = self._light if request.rows - request.taken <= self._light_rows else self._heavy
        lane[request] = None

    def _forget(self, request: _Request) -> None:
        """Take a request whose caller is gone out of the queue."""
        with self._changed:
            self.counters.cancelled += 1
            for lane in (self._light, self._heavy):
                if request in lane:
                    del lane[request]
                    self.counters.queued_rows -= request.rows - request.taken

    # Everything below runs in the worker's thread.

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            outcomes: list[_Outcome] = []
            try:
                self._serve(batch, outcomes)
            except BaseException as error:  # nobody may be left waiting, whatever happened
                log.exception("%s: the batcher failed", self.name)
                outcomes += [(part.request, self._as_failure(error)) for part in batch]
            self._requeue(batch, outcomes)
            self._deliver(outcomes)
        self._call_loop(self._ended.set)

    def _next_batch(self) -> list[_Slice] | None:
        """Wait for work and take what fits into one run; None at the end."""
        with self._changed:
            while True:
                if batch := self._take():
                    return batch
                if self._closing:
                    return None
                self._changed.wait()

    def _take(self) -> list[_Slice]:
        """Slices for one run, all of one kind, at most `max_rows` together; none where nothing waits.

        What is left of a request that was cut still waits, and is counted; `_requeue` puts it back after the run,
        behind what came meanwhile.
        """
        self._heavy_led = bool(self._heavy) and not (self._light and self._heavy_led)
        lanes = (self._heavy, self._light) if self._heavy_led else (self._light, self._heavy)
        batch: list[_Slice] = []
        room = self.max_rows
        for lane in lanes:
            leave = []
            for request in lane:
                if room == 0:
                    break
                if request.future.cancelled():  # and the loop has not yet come to `_forget` it
                    self.counters.queued_rows -= request.rows - request.taken
                    leave.append(request)
                elif not batch or request.kind == batch[0].request.kind:
                    end = min(request.rows, request.taken + room)
                    batch.append(_Slice(request, request.taken, end))
                    room -= end - request.taken
                    request.taken = end
                    leave.append(request)
            for request in leave:
                del lane[request]
        self.counters.queued_rows -= self.max_rows - room
        return batch

    def _requeue(self, batch: Iterable[_Slice], outcomes: Iterable[_Outcome]) -> None:
        """Put back what is left of a request that did not fit; forget the rest of one that failed."""
        ended = {request for request, _ in outcomes}
        for part in batch:
            request = part.request
            left = request.rows - part.end
            if left:
                with self._changed:
                    if request in ended:
                        self.counters.queued_rows -= left
                    else:
                        self._enqueue(request)

    def _serve(self, batch: list[_Slice], outcomes: list[_Outcome]) -> None:
        """Run the batch; if that raises, run its halves, so that a poisoned request fails alone."""
        started_at = perf_counter()
        rows = sum(part.end - part.begin for part in batch)
        self.counters.runs += 1
        try:
            outputs = self._run(_stack(batch))
            for name, array in outputs.items():
                if array.ndim == 0 or len(array) != rows:
                    raise InferenceFailed(f"{self.name}: output '{name}' is {array.shape}, expected {rows} rows")
        except BaseException as error:
            self.counters.failed_runs += 1
            if len(batch) == 1:
                known = isinstance(error, LecternError)  # told already by who raised it
                log.warning("%s: a run of %d rows failed", self.name, rows, exc_info=None if known else error)
                outcomes.append((batch[0].request, self._as_failure(error)))
            else:
                middle = len(batch) // 2
                self._serve(batch[:middle], outcomes)
                self._serve(batch[middle:], outcomes)
            return
        run_s = perf_counter() - started_at
        self._observe(rows, run_s)
        offset = 0
        for part in batch:
            request, count = part.request, part.end - part.begin
            if part.begin == 0:
                request.started_at = started_at
            request.run_s += run_s
            request.batch_rows = max(request.batch_rows, rows)
            request.parts.append({name: array[offset : offset + count] for name, array in outputs.items()})
            offset += count
            if part.end == request.rows:
                queue_s = request.started_at - request.queued_at
                outcomes.append((request, Answer(_joined(request.parts), queue_s, request.run_s, request.batch_rows)))

    def _observe(self, rows: int, run_s: float) -> None:
        self._rate_rows = RATE_MEMORY * self._rate_rows + rows
        self._rate_s = RATE_MEMORY * self._rate_s + run_s
        if self._on_run is not None:
            try:
                self._on_run(self.name, rows, run_s)
            except Exception:
                log.exception("%s: the observer of runs failed", self.name)

    def _as_failure(self, error: BaseException) -> LecternError:
        return (
            error
            if isinstance(error, LecternError)
            else InferenceFailed(f"{self.name}: the model failed on these rows")
        )

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        if outcomes:
            self._call_loop(_resolve, outcomes)

    def _call_loop(self, call: Callable[..., object], *args: object) -> None:
        assert self._loop is not None  # set before there was anything to do
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            log.warning("%s: the event loop closed before the answers came", self.name)


def _stack(batch: list[_Slice]) -> Tensors:
    """The batch's rows, one array for each input; the request's own arrays or views of them where it is one alone."""
    first = batch[0]
    if len(batch) == 1:
        if first.end - first.begin == first.request.rows:
            return first.request.tensors
        return {name: array[first.begin : first.end] for name, array in first.request.tensors.items()}
    return {
        name: np.concatenate([part.request.tensors[name][part.begin : part.end] for part in batch])
        for name in first.request.tensors
    }


def _joined(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _resolve(outcomes: Iterable[_Outcome]) -> None:
    for request, outcome in outcomes:
        if request.future.done():  # its caller went away
            continue
        if isinstance(outcome, Answer):
            request.future.set_result(outcome)
        else:
            request.future.set_exception(outcome)
