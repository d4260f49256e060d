"""Queue -> rows -> run -> split: one worker thread beside the event loop, and no timer.

While a run is in progress, requests queue; when it is over the next one takes what fits. An idle server adds no wait,
and batches grow with load by themselves. What is expected to take less than `inline_s` is not worth waking a thread
for: it is run on the event loop, once for all that arrived in this turn of it.

An iterative request (a sampler) is advanced where its run was made: each answer goes into its generator, and the step
that comes out is queued like any newcomer's rows. So steps of different requests, at different times of their own
schedules, share one run, and a newcomer joins at the next one.

A deadline is kept where the work is: what would be late is refused on arrival, or leaves the queue unrun.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic, perf_counter, time
from typing import Any

from numpy.typing import NDArray

from app.core.errors import Busy, InferenceFailed, LecternError, TooLarge, TooLate, Unavailable, Unprocessable
from app.core.manifest import Tensors
from app.core.sampling import Sampler
from app.core.tally import observe
from app.engine.counters import Counters
from app.engine.pace import NEVER, Pace
from app.engine.queue import NORMAL, Job, OnStep, Queue, Slice, joined, stack

log = logging.getLogger(__name__)

Run = Callable[[Tensors], dict[str, NDArray[Any]]]


@dataclass(slots=True)
class Answer:
    """What one request gets.

    Attributes:
        tensors: every output by name, with the request's own rows in their order; or what a sampler returned.
        queue_s: from `submit` until its first run began.
        run_s: the length of the runs that it took part in, together.
        batch_rows: the rows of the largest of them.
    """

    tensors: Tensors
    queue_s: float
    run_s: float
    batch_rows: int


@dataclass(slots=True)
class _Outcomes:
    """What runs have brought, on its way to the event loop: one turn of it for all."""

    ended: list[tuple[Job, Answer | LecternError]]
    steps: list[tuple[OnStep, int, Tensors]]


class Batcher:
    """Makes runs of what several callers ask. Made and used in one event loop.

    Args:
        run: the work; gets and gives named arrays whose axis 0 is rows. Called once at a time, mostly from one other
            thread.
        name: what is run, for messages.
        max_rows: rows in one run at most; a larger request takes several runs.
        max_queued_rows: rows waiting at most; beyond them requests are refused.
        inline_s: runs that are expected to be shorter than this are made on the event loop; 0 for none.
        counters: where to count.
    """

    def __init__(
        self,
        run: Run,
        *,
        name: str,
        max_rows: int,
        max_queued_rows: int,
        inline_s: float = 0.0,
        counters: Counters | None = None,
    ) -> None:
        self.name = name
        self.max_rows = max_rows
        self.max_queued_rows = max_queued_rows
        self.counters = counters or Counters(max_rows=max_rows)
        self._run = run
        self._inline_s = inline_s
        self._queue = Queue(max_rows)
        self.pace = Pace(max_rows)
        self._running: list[Slice] = []
        self._busy = False
        self._turn_asked = False
        self._alarm: asyncio.TimerHandle | None = None
        self._closing = False
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = threading.Condition(threading.Lock())
        self._worker = threading.Thread(target=self._work, name=f"batcher {name}", daemon=False)
        self._worker.start()

    async def submit(self, tensors: Tensors, *, deadline: float | None = None, priority: int = NORMAL) -> Answer:
        """Queue the rows and wait for their answer. Cancelling it takes what has not been run out of the queue.

        Args:
            tensors: every input by name; axis 0 is rows, one number of them for all, at least one.
            deadline: `time.monotonic()` after which nobody wants the answer.
            priority: FIRST, NORMAL or LAST.

        Raises:
            Unprocessable: no rows at all, or not the same number in each array.
            TooLarge: more rows than the queue ever holds.
            Busy: more rows than the queue holds now; says when there should be room.
            TooLate: the deadline has passed, or would have by the time that these rows were run.
            Unavailable: closed.
            InferenceFailed: a run with these rows raised, also when they ran alone.
        """
        return await self._answer(tensors, None, None, deadline, priority)

    async def sample(
        self,
        sampler: Sampler,
        *,
        deadline: float | None = None,
        priority: int = NORMAL,
        on_step: OnStep | None = None,
    ) -> Answer:
        """Run a sampler to its end, step by step, beside whatever else is queued. Cancelling it stops it at its next
        step.

        Args:
            sampler: not begun; advanced from other threads, one at a time.
            on_step: called on the event loop after each step, with its number, from 1, and the step's outputs.

        Raises:
            as `submit`; InferenceFailed also where the sampler itself raises.
        """
        try:
            first = next(sampler)
        except StopIteration as end:
            return Answer(end.value, 0.0, 0.0, 0)
        return await self._answer(first, sampler, on_step, deadline, priority)

    async def close(self) -> None:
        """Refuse what comes from now on, answer everything that was accepted, end the worker."""
        with self._changed:
            self._closing = True
            self._loop = asyncio.get_running_loop()
            self._changed.notify()
        if self._worker.is_alive():
            await self._ended.wait()
        self._worker.join()
        if self._alarm is not None:
            self._alarm.cancel()

    async def _answer(
        self, tensors: Tensors, sampler: Sampler | None, on_step: OnStep | None, deadline: float | None, priority: int
    ) -> Answer:
        rows = self._count_rows(tensors)
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        until = NEVER if deadline is None else deadline
        job = Job(
            tensors, rows, loop.create_future(), deadline=until, priority=priority, sampler=sampler, on_step=on_step
        )
        with self._changed:
            self._admit(job)
            if not self._busy:
                self._ask_for_turn(loop)
        if until != NEVER and (self._alarm is None or until < self._alarm.when() - loop.time() + monotonic()):
            self._set_alarm(until)
        try:
            answer: Answer = await job.future
        except asyncio.CancelledError:
            self._forget(job)
            raise
        return answer

    def _count_rows(self, tensors: Tensors) -> int:
        rows = -1
        for array in tensors.values():
            count = len(array) if array.ndim else -1
            if count != rows and rows != -1:
                count = -1
            rows = count
            if rows == -1:
                break
        if rows == -1:
            shapes = {name: array.shape for name, array in tensors.items()}
            raise Unprocessable(
                f"{self.name}: every input has the same number of rows on axis 0, here are {shapes}", subject=self.name
            )
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

    def _admit(self, job: Job) -> None:
        """Into the queue, or an error that says why not."""
        counters, queue = self.counters, self._queue
        if self._closing:
            counters.closed += 1
            raise Unavailable(f"{self.name} is shutting down and takes no more requests")
        if queue.rows + job.rows > self.max_queued_rows:
            counters.rejected += 1
            raise Busy(
                f"{self.name}: {queue.rows} rows are queued, with these {job.rows} it would be more than "
                f"the {self.max_queued_rows} it holds",
                retry_after_s=self.pace.retry_after_s(queue.rows),
            )
        if job.deadline != NEVER:
            now = monotonic()
            wait_s = self.pace.queue_s(queue.rows_before(job.priority)) + self.pace.least_s(job.rows, now)
            left_s = job.deadline - now
            if wait_s > left_s or left_s <= 0:
                counters.late_foreseen += 1
                expected, got = f"an answer within {max(0.0, left_s) * 1e3:.1f} ms", f"{wait_s * 1e3:.1f} ms expected"
                raise TooLate(
                    f"{self.name}: the deadline is {left_s * 1e3:.1f} ms away, an answer behind the {queue.rows} rows "
                    f"that are queued would take about {wait_s * 1e3:.1f} ms",
                    subject="deadline",
                    expected=expected,
                    got=got,
                )
        counters.requests += 1
        counters.rows += job.rows
        queue.put(job)
        counters.queued_rows = queue.rows

    def _forget(self, job: Job) -> None:
        """Take a job whose caller is gone out of the queue."""
        with self._changed:
            self._queue.remove(job)
            self.counters.queued_rows = self._queue.rows
            if job.running:
                self.counters.cancelled_running += 1
                return  # whoever runs it ends its sampler
            self.counters.cancelled_queued += 1
        self._stop(job)

    def _stop(self, job: Job) -> None:
        """End the sampler of a job that is in no run and will be in none."""
        if job.sampler is not None:
            try:
                job.sampler.close()
            except Exception:
                log.exception("%s: a sampler failed at its end", self.name)

    # Deadlines: one alarm for all jobs, at the earliest; most have been answered when it rings.

    def _set_alarm(self, deadline: float) -> None:
        assert self._loop is not None
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_at(self._loop.time() + deadline - monotonic(), self._ring)

    def _ring(self) -> None:
        self._alarm = None
        late = []
        now = monotonic()
        with self._changed:
            open_jobs = [*self._queue, *(part.job for part in self._running)]
            late = [job for job in open_jobs if job.deadline <= now]
            waiting = [job for job in late if self._queue.remove(job)]
            self.counters.queued_rows = self._queue.rows
        for job in waiting:
            self._stop(job)
        for job in dict.fromkeys(late):
            if job.future.done():
                continue
            if job.running:
                self.counters.late_running += 1
            else:
                self.counters.late_queued += 1
            job.future.set_exception(self._too_late(job))
        if left := [job.deadline for job in open_jobs if now < job.deadline < NEVER]:
            self._set_alarm(min(left))

    def _too_late(self, job: Job) -> TooLate:
        where = f"in step {job.steps + 1}" if job.steps else "while they were run" if job.running else "in the queue"
        return TooLate(
            f"{self.name}: the deadline of these {job.rows} rows passed {where}",
            subject="deadline",
            expected="an answer before it",
            got="none",
        )

    # Runs on the event loop.

    def _is_short(self) -> bool:
        return self.pace.run_s(min(self._queue.rows, self.max_rows)) < self._inline_s

    def _ask_for_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._turn_asked:
            self._turn_asked = True
            loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Run what has gathered in this turn of the loop, if it is still little; else leave it to the worker."""
        with self._changed:
            self._turn_asked = False
            if self._busy or not self._queue.rows:
                return
            if not self._is_short():
                self._changed.notify()
                return
            batch, outcomes = self._begin()
        if batch:
            self.counters.inline_runs += 1
            self._serve(batch, outcomes)
        with self._changed:
            self._finish(batch, outcomes)
            if self._queue.rows:
                assert self._loop is not None
                self._ask_for_turn(self._loop)
            elif self._closing:
                self._changed.notify()
        self._resolve(outcomes)

    # Runs in the worker's thread.

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._busy or not self._queue.rows:
                    if self._closing and not self._busy:
                        self._call_loop(self._ended.set)
                        return
                    self._changed.wait()
                batch, outcomes = self._begin()
            if batch:
                self._serve(batch, outcomes)
            with self._changed:
                self._finish(batch, outcomes)
            if outcomes.ended or outcomes.steps:
                self._call_loop(self._resolve, outcomes)
            del batch, outcomes  # else they live until there is work again

    def _call_loop(self, call: Callable[..., object], *args: object) -> None:
        assert self._loop is not None  # set before there was anything to do
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            log.warning("%s: the event loop closed before the answers came", self.name)

    # Either.

    def _begin(self) -> tuple[list[Slice], _Outcomes]:
        """What to run now; without what can no more be in time. The lock is held."""
        outcomes = _Outcomes([], [])
        now = None
        batch = self._queue.take()
        keep = []
        for part in batch:
            job = part.job
            if job.deadline != NEVER:
                now = now or monotonic()
                if now + self.pace.least_s(part.end - part.begin, now) > job.deadline:
                    self._queue.drop(job)
                    outcomes.ended.append((job, self._too_late(job)))
                    continue
            job.running = True
            keep.append(part)
        self.counters.queued_rows = self._queue.rows
        self._running = keep
        self._busy = True
        return keep, outcomes

    def _finish(self, batch: Iterable[Slice], outcomes: _Outcomes) -> None:
        """Put back what is left of jobs that did not fit, and samplers with their next step. The lock is held."""
        ended = {job for job, _ in outcomes.ended}
        for job, _, _ in batch:
            if job in ended:
                self._queue.drop(job)
            elif job.taken:
                self._queue.put_back(job)
            else:  # a sampler, fed with its next step, of any number of rows
                self._queue.put(job)
            job.running = False
        self.counters.queued_rows = self._queue.rows
        self._running = []
        self._busy = False

    def _serve(self, batch: list[Slice], outcomes: _Outcomes) -> None:
        """Run the batch; if that raises, run its halves, so that a poisoned request fails alone."""
        started_at = perf_counter()
        rows = sum([end - begin for _, begin, end in batch])
        counters = self.counters
        counters.runs += 1
        try:
            outputs = self._run(stack(batch))
            for name, array in outputs.items():
                if array.ndim == 0 or len(array) != rows:
                    raise InferenceFailed(f"{self.name}: output '{name}' is {array.shape}, expected {rows} rows")
        except BaseException as error:
            counters.failed_runs += 1
            if len(batch) == 1:
                known = isinstance(error, LecternError)  # told already by who raised it
                log.warning("%s: a run of %d rows failed", self.name, rows, exc_info=None if known else error)
                outcomes.ended.append((batch[0].job, self._as_failure(error)))
            else:
                middle = len(batch) // 2
                self._serve(batch[:middle], outcomes)
                self._serve(batch[middle:], outcomes)
            return
        run_s = perf_counter() - started_at
        self.pace.observe(rows, run_s, monotonic())
        counters.runs_of_rows[rows] += 1
        counters.seconds_of_rows[rows] += run_s
        offset = 0
        for job, begin, end in batch:
            if not job.started_at:
                job.started_at = started_at
            job.run_s += run_s
            if rows > job.batch_rows:
                job.batch_rows = rows
            until = offset + end - begin
            part = {name: array[offset:until] for name, array in outputs.items()}
            offset = until
            if begin == 0 and end == job.rows:  # nearly all are run at one piece
                self._advance(job, part, outcomes)
                continue
            job.parts.append(part)
            if end == job.rows:
                self._advance(job, joined(job.parts), outcomes)

    def _advance(self, job: Job, outputs: Tensors, outcomes: _Outcomes) -> None:
        """All rows of a job have been run: it is done, or goes on to its next step."""
        if job.sampler is not None:
            job.steps += 1
            self.counters.steps += 1
            observe(self.counters.step_seconds, perf_counter() - job.fed_at)
            if job.on_step is not None:
                outcomes.steps.append((job.on_step, job.steps, outputs))
            try:
                if job.future.done():  # cancelled or late: its next step is the one it stops at
                    job.sampler.close()
                    raise StopIteration(outputs)
                fed = job.sampler.send(outputs)
                job.feed(fed, self._count_rows(fed))
                return
            except StopIteration as end:
                outputs = end.value
            except BaseException as error:
                log.warning("%s: a sampler failed", self.name, exc_info=error)
                outcomes.ended.append((job, self._as_failure(error)))
                return
        answer = Answer(outputs, job.started_at - job.queued_at, job.run_s, job.batch_rows)
        outcomes.ended.append((job, answer))

    def _as_failure(self, error: BaseException) -> LecternError:
        return (
            error
            if isinstance(error, LecternError)
            else InferenceFailed(f"{self.name}: the model failed on these rows")
        )

    def _resolve(self, outcomes: _Outcomes) -> None:
        """Tell the callers, on the event loop."""
        counters = self.counters
        for on_step, number, outputs in outcomes.steps:
            try:
                on_step(number, outputs)
            except Exception:
                log.exception("%s: who watches the steps failed", self.name)
        for job, outcome in outcomes.ended:
            if not isinstance(outcome, Answer):
                self._stop(job)
            if job.future.done():  # its caller went away, or its deadline passed
                continue
            if isinstance(outcome, Answer):
                counters.succeeded += 1
                counters.queue_s += outcome.queue_s
                counters.run_s += outcome.run_s
                job.future.set_result(outcome)
                continue
            if isinstance(outcome, TooLate):
                counters.late_queued += 1
            else:
                counters.failed += 1
                counters.fail_s += perf_counter() - job.queued_at
            job.future.set_exception(outcome)
        if outcomes.ended:
            counters.last_at = time()
