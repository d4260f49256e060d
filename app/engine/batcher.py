"""Queue -> rows -> run -> split: one worker thread beside the event loop, and no timer.

While a run is in progress, requests queue; then the next one takes what fits. An idle server adds no wait, and batches
grow with load by themselves. A run that is expected to take less than `inline_s` is not worth waking a thread: it is
made on the event loop, once for all that arrived in this turn of it.

An iterative request (a sampler) is advanced by the thread of its run. The outputs go into its generator, and the step
that comes out is queued like the rows of a new request. So steps of different requests, at different times of their
own schedules, share one run, and a new request joins at the next one.

Deadlines are enforced here: a request that would be late is refused on arrival, or leaves the queue without a run.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable
from time import monotonic, perf_counter, time
from typing import Any

from app.core.errors import Busy, TooLarge, TooLate, Unavailable, invalid
from app.core.manifest import Tensors
from app.core.sampling.samplers import Sampler
from app.engine.counters import REQUESTS, ROWS, Counters
from app.engine.lengths import Lengths
from app.engine.queue import NORMAL, Job, OnStep, Queue, Slice, too_late
from app.engine.rate import NEVER, Rate
from app.engine.runner import Answer, Outcomes, Run, Runner, rows_of

log = logging.getLogger(__name__)


class Batcher:
    """Batches the requests of several callers into runs. Created and used in one event loop.

    Args:
        run: the work; takes and returns named arrays whose axis 0 is rows. Called by one thread at a time.
        name: for messages.
        max_rows: rows in one run at most; a larger request takes several runs.
        max_queued_rows: rows waiting at most; beyond them requests are refused.
        max_queued_s: seconds of waiting at most, as measured; beyond them requests that are not `owed` are refused.
        inline_s: runs that are expected to be shorter are made on the event loop; 0 for none.
        lengths: the graph's variable axes, if any; how long its runs take is not expected, so none is made on the loop.
        counters: where to count.
    """

    def __init__(
        self,
        run: Run,
        *,
        name: str,
        max_rows: int,
        max_queued_rows: int,
        max_queued_s: float = NEVER,
        inline_s: float = 0.0,
        lengths: Lengths | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.name = name
        self.max_rows = max_rows
        self.max_queued_rows = max_queued_rows
        self.max_queued_s = max_queued_s
        self.counters = counters or Counters(max_rows=max_rows)
        self._inline_s = inline_s
        self._queue = Queue(max_rows, lengths)
        self.rate = Rate(max_rows, varied=lengths is not None)
        self._runner = Runner(run, name=name, counters=self.counters, rate=self.rate, lengths=lengths)
        self._running: list[Slice] = []
        self._busy = False
        self._turn_scheduled = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = NEVER  # in the clock of deadlines: not every loop's handle has its time
        self._closing = False
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = threading.Condition(threading.Lock())
        self._worker = threading.Thread(target=self._work, name=f"batcher {name}", daemon=False)
        self._worker.start()

    def submit(
        self,
        tensors: Tensors,
        *,
        deadline: float | None = None,
        priority: int = NORMAL,
        of: int = 0,
        owed: bool = False,
    ) -> Coroutine[Any, Any, Answer]:
        """Queue the rows and wait for their answer. Cancelling it removes what has not been run from the queue.

        Args:
            tensors: every input by name; axis 0 is rows, one number of them for all, at least one.
            deadline: `time.monotonic()` after which the answer is of no use.
            priority: FIRST, NORMAL or LAST.
            of: rows of the whole request, where it queues them one by one: a large one does not hold up others then.
            owed: part of a request that was admitted: it may wait as long as it has to.

        Raises:
            Unprocessable: no rows at all, or not the same number in each array.
            TooLarge: more rows than the queue ever holds.
            Busy: more rows than the queue has room for now; with the time when there should be room.
            TooLate: the deadline has passed, or would have by the time that these rows were run.
            Unavailable: closed.
            InferenceFailed: a run with these rows raised, also when they ran alone.
        """
        return self._answer(tensors, of, deadline, owed=owed, priority=priority)

    async def sample(
        self,
        sampler: Sampler,
        *,
        deadline: float | None = None,
        priority: int = NORMAL,
        on_step: OnStep | None = None,
        of: int = 0,
        owed: bool = False,
    ) -> Answer:
        """Run a sampler to its end, step by step, beside whatever else is queued. Cancelling it stops it at its next
        step.

        Args:
            sampler: not started; advanced from other threads, one at a time.
            on_step: called on the event loop after each step, with its number, from 1, and the step's outputs.
            of, owed: as `submit`.

        Raises:
            as `submit`; InferenceFailed also where the sampler itself raises.
        """
        try:
            first = next(sampler)
        except StopIteration as end:
            return Answer(end.value, 0.0, 0.0, 0)
        options = {"priority": priority, "sampler": sampler, "on_step": on_step}
        return await self._answer(first, of, deadline, owed=owed, **options)

    @property
    def is_busy(self) -> bool:
        return self._busy

    def check_room(self, priority: int = NORMAL, rows: int = 1, *, owed: bool = False) -> None:
        """Raises Busy where so many rows have no room, so that a request need not be decoded."""
        queued, before = self._queue.rows, self._queue.rows_before(priority)
        if queued + rows > self.max_queued_rows:
            wait_s = self.rate.retry_after_s(queued)
            most = f"with these {rows} it would be more than the {self.max_queued_rows} it holds"
        elif not owed and (wait_s := self.rate.surely_s(before)) > self.max_queued_s:
            most = (
                f"{before} of them before these, which take about {wait_s:.1f} s, at most {self.max_queued_s:g} s wait"
            )
        else:
            return
        self.counters.rejected += 1
        raise Busy(f"{self.name}: {queued} rows are queued, {most}", retry_after_s=wait_s)

    async def close(self) -> None:
        """Refuse new requests, answer everything that was accepted, end the worker."""
        with self._changed:
            self._closing = True
            self._loop = asyncio.get_running_loop()
            self._changed.notify()
        if self._worker.is_alive():
            await self._ended.wait()
        self._worker.join()
        if self._alarm is not None:
            self._alarm.cancel()

    async def _answer(self, tensors: Tensors, of: int, deadline: float | None, *, owed: bool, **options: Any) -> Answer:
        rows, most = rows_of(tensors, self.name), self.max_queued_rows
        if rows > most:
            detail = f"{self.name}: {rows} rows in one request, at most {most} are taken"
            raise invalid(self.name, expected=f"at most {most} rows", got=f"{rows} rows", detail=detail, error=TooLarge)
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        until = NEVER if deadline is None else deadline
        job = Job(tensors, rows, loop.create_future(), deadline=until, others=max(0, of - rows), **options)
        with self._changed:
            self._admit(job, owed=owed)
            if not self._busy:
                self._schedule_turn(loop)
        if until < self._alarm_at:
            self._set_alarm(until)
        try:
            answer: Answer = await job.future
        except asyncio.CancelledError:
            self._forget(job)
            raise
        return answer

    def _admit(self, job: Job, *, owed: bool) -> None:
        """Append a job to the queue, or raise why not."""
        counters, queue = self.counters, self._queue
        if self._closing:
            counters.closed += 1
            raise Unavailable(f"{self.name} is shutting down and takes no more requests")
        self.check_room(job.priority, job.rows, owed=owed)
        if job.deadline != NEVER:
            now = monotonic()
            wait_s = self.rate.queue_s(queue.rows_before(job.priority)) + self.rate.least_s(job.rows, now)
            left_s = job.deadline - now
            if wait_s > left_s or left_s <= 0:
                counters.late_foreseen += 1
                expected, got = f"an answer within {max(0.0, left_s) * 1e3:.1f} ms", f"{wait_s * 1e3:.1f} ms expected"
                distance = f"{left_s * 1e3:.1f} ms away" if left_s > 0 else "past"
                raise TooLate(
                    f"{self.name}: the deadline is {distance}, an answer behind the {queue.rows} rows that are queued "
                    f"would take about {wait_s * 1e3:.1f} ms",
                    subject="deadline",
                    expected=expected,
                    got=got,
                )
        totals = counters.totals
        totals[REQUESTS] += 1
        totals[ROWS] += job.rows
        queue.put(job)
        counters.queued[0] = queue.rows

    def _forget(self, job: Job) -> None:
        """Remove a job whose caller is gone from the queue."""
        with self._changed:
            self._queue.remove(job)
            self.counters.queued_rows = self._queue.rows
            if job.running:
                self.counters.cancelled_running += 1
                return  # the thread that runs it ends its sampler
            self.counters.cancelled_queued += 1
        self._stop(job)

    def _stop(self, job: Job) -> None:
        """End the sampler of a job that is in no run and will be in none."""
        if job.sampler is not None:
            try:
                job.sampler.close()
            except Exception:
                log.exception("%s: a sampler failed at its end", self.name)

    # Deadlines: one alarm for all jobs, at the earliest deadline; most jobs are answered before it.

    def _set_alarm(self, deadline: float) -> None:
        assert self._loop is not None
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = deadline
        self._alarm = self._loop.call_at(self._loop.time() + deadline - monotonic(), self._ring)

    def _ring(self) -> None:
        self._alarm, self._alarm_at = None, NEVER
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
            job.future.set_exception(too_late(job, self.name))
        if left := [job.deadline for job in open_jobs if now < job.deadline < NEVER]:
            self._set_alarm(min(left))

    # Runs on the event loop.

    def _is_short(self) -> bool:
        return self.rate.run_s(min(self._queue.rows, self.max_rows)) < self._inline_s

    def _schedule_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Run what has arrived in this turn of the loop, if it is short; else leave it to the worker."""
        with self._changed:
            self._turn_scheduled = False
            if self._busy or not self._queue.rows:
                return
            if not self._is_short():
                self._changed.notify()
                return
            batch, outcomes = self._start_run()
        if batch:
            self.counters.inline_runs += 1
            self._runner.serve(batch, outcomes)
        with self._changed:
            self._finish_run(batch, outcomes)
            if self._queue.rows:
                assert self._loop is not None
                self._schedule_turn(self._loop)
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
                batch, outcomes = self._start_run()
            if batch:
                self._runner.serve(batch, outcomes)
            with self._changed:
                self._finish_run(batch, outcomes)
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

    def _start_run(self) -> tuple[list[Slice], Outcomes]:
        """The batch to run now, without jobs that would be late. The lock is held."""
        outcomes = Outcomes()
        now = None
        rows, least_s = 0, 0.0
        batch = self._queue.take()
        keep = []
        for part in batch:
            job = part.job
            if job.deadline != NEVER:
                now = now or monotonic()
                if part.end - part.begin != rows:  # most are of the same number of rows
                    rows = part.end - part.begin
                    least_s = self.rate.least_s(rows, now)
                if now + least_s > job.deadline:
                    self._queue.drop(job)
                    outcomes.ended.append((job, too_late(job, self.name)))
                    continue
            job.running = True
            keep.append(part)
        self.counters.queued_rows = self._queue.rows
        self._running = keep
        self._busy = True
        return keep, outcomes

    def _finish_run(self, batch: Iterable[Slice], outcomes: Outcomes) -> None:
        """Queue what is left of jobs that did not fit, and the next steps of samplers. The lock is held."""
        ended = {job for job, _ in outcomes.ended}
        for job, _, _ in batch:
            if job in ended:
                if job.taken < job.rows:
                    self._queue.drop(job)
            elif job.taken:
                self._queue.put_back(job)
            else:  # a sampler, fed with its next step, of any number of rows
                self._queue.put(job)
            job.running = False
        self.counters.queued_rows = self._queue.rows
        self._running = []
        self._busy = False

    def _resolve(self, outcomes: Outcomes) -> None:
        """Resolve the futures, on the event loop."""
        counters = self.counters
        for on_step, number, outputs in outcomes.steps:
            try:
                on_step(number, outputs)
            except Exception:
                log.exception("%s: who watches the steps failed", self.name)
        succeeded, queue_s, run_s = 0, 0.0, 0.0
        for job, outcome in outcomes.ended:
            if isinstance(outcome, Answer):
                if not job.future.done():  # else its caller went away, or its deadline passed
                    succeeded += 1
                    queue_s += outcome.queue_s
                    run_s += outcome.run_s
                    job.future.set_result(outcome)
                continue
            self._stop(job)
            if job.future.done():
                continue
            if isinstance(outcome, TooLate):
                counters.late_queued += 1
            else:
                counters.failed += 1
                counters.fail_s += perf_counter() - job.queued_at
            job.future.set_exception(outcome)
        counters.succeeded += succeeded
        counters.queue_s += queue_s
        counters.run_s += run_s
        if outcomes.ended:
            counters.last_at = time()
