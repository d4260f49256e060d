"""Which rows are run next: the queue of one graph. Pure: no threads, no event loop, no clock of its own.

Priority comes first. Within a priority two lanes keep it fair: jobs of at most a quarter of `max_rows` are light, the
others heavy, by the rows that they have left. Rows of one request that are jobs of their own, such as texts of a list,
are heavy where there are as many of them. Where both wait, they lead a run in turn. Free room is filled from the
other lane and then from lower priorities. Heavy jobs take turns of one run's rows. So a single row waits for the run in
progress and one more at most, however much heavy work there is; and light traffic cannot starve a heavy job either.
Rows that cannot be stacked (other types or trailing shapes) form runs of their own, in the same turns; where a graph
has variable axes, rows of similar length can be (`lengths.py`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from time import monotonic, perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.core.errors import TooLate
from app.core.manifest import Tensors
from app.core.sampling.samplers import Sampler
from app.engine.lengths import Kind, Lengths, Longest, padded

FIRST: Final = 1
NORMAL: Final = 2
LAST: Final = 3
"""Priorities; a lower one is run when no higher one waits, or to fill up its run."""

OnStep = Callable[[int, Tensors], None]


class Job:
    """A request's rows in the queue, and the parts of its answer so far. A sampler's job comes back for each step.

    Args:
        others: rows of the same request in jobs of their own.
    """

    __slots__ = (
        "batch_rows",
        "deadline",
        "fed_at",
        "future",
        "kind",
        "on_step",
        "others",
        "parts",
        "priority",
        "queued_at",
        "rows",
        "run_s",
        "running",
        "sampler",
        "started_at",
        "steps",
        "taken",
        "tensors",
    )

    def __init__(
        self,
        tensors: Tensors,
        rows: int,
        future: asyncio.Future[Any],
        *,
        deadline: float,
        priority: int = NORMAL,
        sampler: Sampler | None = None,
        on_step: OnStep | None = None,
        others: int = 0,
    ) -> None:
        self.future = future
        self.deadline = deadline
        self.priority = priority
        self.sampler = sampler
        self.on_step = on_step
        self.others = others
        self.started_at = 0.0
        self.run_s = 0.0
        self.batch_rows = 0
        self.steps = 0
        self.running = False
        self.feed(tensors, rows)
        self.queued_at = self.fed_at

    def feed(self, tensors: Tensors, rows: int) -> None:
        """The rows to run next."""
        self.fed_at = perf_counter()
        self.tensors = tensors
        self.rows = rows
        self.kind: Kind = [(name, array.dtype, array.shape[1:]) for name, array in tensors.items()]
        self.taken = 0  # rows given to a run, the first ones
        self.parts: list[dict[str, NDArray[Any]]] = []

    @property
    def left(self) -> int:
        return self.rows - self.taken


def too_late(job: Job, name: str) -> TooLate:
    """The error of a job whose deadline has passed, or would before it is run, in the queue of that name."""
    where = f"in step {job.steps + 1}" if job.steps else "while they were run" if job.running else "in the queue"
    passed = "passed" if job.deadline <= monotonic() else "would have passed before they were run, they waited"
    detail = f"{name}: the deadline of these {job.rows} rows {passed} {where}"
    return TooLate(detail, subject="deadline", expected="an answer before it", got="none")


class Slice(NamedTuple):
    """Rows [begin, end) of a job, in one run."""

    job: Job
    begin: int
    end: int


_Lanes = tuple[OrderedDict[Job, None], OrderedDict[Job, None]]


class Queue:
    """The jobs that wait. Not safe between threads: its owner holds a lock.

    Args:
        max_rows: rows in one run at most.
        lengths: the graph's variable axes; None where it has none.
    """

    def __init__(self, max_rows: int, lengths: Lengths | None = None) -> None:
        self.max_rows = max_rows
        self.lengths = lengths
        self.rows = 0
        """Rows that wait."""
        self._light_rows = max(1, max_rows // 4)
        self._lanes: dict[int, _Lanes] = {p: (OrderedDict(), OrderedDict()) for p in (FIRST, NORMAL, LAST)}
        self._rows_of = dict.fromkeys(self._lanes, 0)
        self._heavy_led = False

    def rows_before(self, priority: int) -> int:
        """Rows that are run before a new job of that priority, at most."""
        if not self.rows:
            return 0
        if priority == LAST:
            return self.rows
        rows_of = self._rows_of
        return rows_of[FIRST] + rows_of[NORMAL] if priority == NORMAL else rows_of[FIRST]

    def put(self, job: Job) -> None:
        """Append a job to those of its priority and weight."""
        rows = job.rows - job.taken
        self.rows += rows
        self._rows_of[job.priority] += rows
        self._append(job)

    def put_back(self, job: Job) -> None:
        """Append what is left of a job that `take` has cut."""
        self._append(job)

    def drop(self, job: Job) -> None:
        """Forget what is left of a job that `take` has cut."""
        self._count(job, -job.left)

    def remove(self, job: Job) -> bool:
        """Remove a job; False where it does not wait."""
        for lane in self._lanes[job.priority]:
            if job in lane:
                del lane[job]
                self._count(job, -job.left)
                return True
        return False

    def __iter__(self) -> Iterator[Job]:
        for lanes in self._lanes.values():
            for lane in lanes:
                yield from lane

    def take(self) -> list[Slice]:
        """Slices for one run, at most `max_rows` together; none where nothing waits. They are all of one kind, but for
        variable axes.

        What is left of a job that was cut still counts as waiting. The caller puts it back after the run, behind what
        came meanwhile, or drops it. Cancelled jobs are dropped here.
        """
        batch: list[Slice] = []
        room = self.max_rows
        kind: Kind | None = None
        longest: Longest | None = None
        taken = dict.fromkeys(self._rows_of, 0)
        for light, heavy in self._lanes.values():
            if not light and not heavy:
                continue
            if not batch:  # this priority leads
                self._heavy_led = bool(heavy) and not (light and self._heavy_led)
            for lane in (heavy, light) if self._heavy_led else (light, heavy):
                leave: list[Job] = []
                for job in lane:
                    if room == 0:
                        break
                    if job.future.cancelled():  # and the loop has not yet come to remove it
                        leave.append(job)
                        self._count(job, -job.left)
                        continue
                    if kind is None:
                        kind = job.kind
                    elif job.kind != kind:
                        if self.lengths is None:
                            continue
                        longest = longest or Longest(self.lengths, kind)
                        if not longest.admit(job.kind):
                            continue
                    leave.append(job)
                    begin = job.taken
                    end = job.rows if job.rows - begin <= room else begin + room
                    batch.append(Slice(job, begin, end))
                    job.taken = end
                    room -= end - begin
                    taken[job.priority] += end - begin
                for job in leave:
                    del lane[job]
            if room == 0:
                break
        self.rows -= self.max_rows - room
        for priority, rows in taken.items():
            self._rows_of[priority] -= rows
        return batch

    def _append(self, job: Job) -> None:
        self._lanes[job.priority][job.left + job.others > self._light_rows][job] = None

    def _count(self, job: Job, rows: int) -> None:
        self.rows += rows
        self._rows_of[job.priority] += rows


def stack(batch: list[Slice], lengths: Lengths | None = None) -> Tensors:
    """The batch's rows, one array for each input; for a single job its own arrays, or views of them."""
    first = batch[0]
    if len(batch) == 1:
        if first.end - first.begin == first.job.rows:
            return first.job.tensors
        return {name: array[first.begin : first.end] for name, array in first.job.tensors.items()}
    joining = np.concatenate if lengths is None else padded
    return {name: joining([job.tensors[name][begin:end] for job, begin, end in batch]) for name in first.job.tensors}


def joined(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The outputs of one job's runs as one; they may have been of different length."""
    if len(parts) == 1:
        return parts[0]
    return {name: padded([part[name] for part in parts]) for name in parts[0]}
