"""One run for the rows of several jobs: stack, run, split, and advance samplers to their next step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any

from numpy.typing import NDArray

from app.core.errors import InferenceFailed, LecternError, invalid
from app.core.manifest import Tensors
from app.core.shared_counters import observe
from app.engine.counters import STEPS, Counters
from app.engine.lengths import Lengths
from app.engine.queue import Job, OnStep, Slice, joined, stack
from app.engine.rate import Rate

log = logging.getLogger(__name__)

Run = Callable[[Tensors], dict[str, NDArray[Any]]]


@dataclass(slots=True)
class Answer:
    """The result of one request.

    Attributes:
        tensors: every output by name, with the request's own rows in their order; or what a sampler returned.
        queue_s: from `submit` until its first run started.
        run_s: seconds of the runs that it took part in, together.
        batch_rows: the rows of the largest of them.
        queued_at, ended_at: `perf_counter()` at `submit` and after its last run; 0 where nothing was run.
    """

    tensors: Tensors
    queue_s: float
    run_s: float
    batch_rows: int
    queued_at: float = 0.0
    ended_at: float = 0.0


@dataclass(slots=True)
class Outcomes:
    """The results of a run for the event loop, which takes one turn for all of them."""

    ended: list[tuple[Job, Answer | LecternError]] = field(default_factory=list)
    steps: list[tuple[OnStep, int, Tensors]] = field(default_factory=list)


class Runner:
    """Runs batches and advances their jobs. Called by one thread at a time.

    Args:
        run: the work; takes and returns named arrays whose axis 0 is rows.
        name: what is run, for messages.
        counters: where to count the runs.
        rate: where to measure them.
        lengths: the graph's variable axes; None where it has none.
    """

    def __init__(self, run: Run, *, name: str, counters: Counters, rate: Rate, lengths: Lengths | None = None) -> None:
        self.run = run
        self._lengths = lengths
        self._name = name
        self._counters = counters
        self._rate = rate

    def serve(self, batch: list[Slice], outcomes: Outcomes) -> None:
        """Run the batch; every job of it ends, or is fed with its next step, or has rows left. Raises nothing."""
        try:
            self._serve(batch, outcomes)
        except BaseException as error:  # no job may be left waiting, whatever happened
            log.exception("%s: the batcher failed", self._name)
            ended = {job for job, _ in outcomes.ended}
            outcomes.ended += [(part.job, self._as_failure(error)) for part in batch if part.job not in ended]

    def _serve(self, batch: list[Slice], outcomes: Outcomes) -> None:
        """Run the batch; if that raises, run its halves, so that a poisoned request fails alone."""
        started_at = perf_counter()
        rows = sum([end - begin for _, begin, end in batch])
        counters = self._counters
        counters.runs += 1
        try:
            outputs = self.run(stack(batch, self._lengths))
            for name, array in outputs.items():
                if array.ndim == 0 or len(array) != rows:
                    raise InferenceFailed(f"{self._name}: output '{name}' is {array.shape}, expected {rows} rows")
        except BaseException as error:
            counters.failed_runs += 1
            if len(batch) == 1:
                known = isinstance(error, LecternError)  # logged already where it was raised
                log.warning("%s: a run of %d rows failed", self._name, rows, exc_info=None if known else error)
                outcomes.ended.append((batch[0].job, self._as_failure(error)))
            else:
                middle = len(batch) // 2
                self._serve(batch[:middle], outcomes)
                self._serve(batch[middle:], outcomes)
            return
        ended_at = perf_counter()
        run_s = ended_at - started_at
        self._rate.observe(rows, run_s, monotonic())
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
            if self._lengths is not None:
                part = self._lengths.cut(part, job.tensors)
            if begin == 0 and end == job.rows:  # nearly all are run in one piece
                self._advance(job, part, ended_at, outcomes)
                continue
            job.parts.append(part)
            if end == job.rows:
                self._advance(job, joined(job.parts), ended_at, outcomes)

    def _advance(self, job: Job, outputs: Tensors, ended_at: float, outcomes: Outcomes) -> None:
        """All rows of a job have been run: it is done, or goes on to its next step."""
        if job.sampler is not None:
            job.steps += 1
            self._counters.totals[STEPS] += 1
            observe(self._counters.step_seconds, perf_counter() - job.fed_at)
            if job.on_step is not None:
                outcomes.steps.append((job.on_step, job.steps, outputs))
            try:
                if job.future.done():  # cancelled or late: it stops before its next step
                    job.sampler.close()
                    raise StopIteration(outputs)
                fed = job.sampler.send(outputs)
                job.feed(fed, rows_of(fed, self._name))
                return
            except StopIteration as end:
                outputs = end.value
            except BaseException as error:
                log.warning("%s: a sampler failed", self._name, exc_info=error)
                outcomes.ended.append((job, self._as_failure(error)))
                return
        queued_at = job.queued_at
        answer = Answer(outputs, job.started_at - queued_at, job.run_s, job.batch_rows, queued_at, ended_at)
        outcomes.ended.append((job, answer))

    def _as_failure(self, error: BaseException) -> LecternError:
        return (
            error
            if isinstance(error, LecternError)
            else InferenceFailed(f"{self._name}: the model failed on these rows")
        )


def rows_of(tensors: Tensors, name: str) -> int:
    """How many rows each of the arrays has.

    Raises:
        Unprocessable: none, or not the same number.
    """
    rows = -1
    for array in tensors.values():
        count = len(array) if array.ndim else -1
        if count != rows and rows != -1:
            count = -1
        rows = count
        if rows == -1:
            break
    if rows == -1:
        shapes = {key: array.shape for key, array in tensors.items()}
        raise invalid(name, detail=f"{name}: every input has the same number of rows on axis 0, here are {shapes}")
    if not rows:
        raise invalid(name, detail=f"{name}: expected at least one row, got none")
    return rows
