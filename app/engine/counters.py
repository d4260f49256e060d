"""What a graph has done, in shared counters: for the metrics, the model's card and /v2's statistics.

Two threads write, each its own cells: the event loop counts requests, and the thread that runs the graph counts runs.
Only `queued_rows` has two writers, who hold the batcher's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from app.core.shared_counters import HISTOGRAM_CELLS, Labels, SharedCounters

TOTALS: Final = {
    "requests": "Requests taken into the queue.",
    "rows": "Rows taken into the queue.",
    "succeeded": "Requests answered.",
    "failed": "Requests whose rows could not be run.",
    "rejected": "Requests refused: the queue was full.",
    "closed": "Requests refused: the model was closing.",
    "cancelled_queued": "Requests whose client hung up while they waited.",
    "cancelled_running": "Requests whose client hung up while they were run.",
    "late_foreseen": "Requests answered 504 on arrival: the queue was too long for their deadline.",
    "late_queued": "Requests whose deadline passed, or was out of reach, while they waited.",
    "late_running": "Requests whose deadline passed while they were run.",
    "decode_s": "Seconds of decoding, of answered requests.",
    "queue_s": "Seconds in the queue, of answered requests.",
    "run_s": "Seconds of the runs that answered requests took part in.",
    "encode_s": "Seconds of encoding, of answered requests.",
    "fail_s": "Seconds from queue to failure, of failed requests.",
    "runs": "Runs of the graph.",
    "failed_runs": "Runs that raised.",
    "inline_runs": "Runs short enough to be made on the event loop.",
    "steps": "Steps of iterative requests.",
}
LAST_AT: Final = "last_at"  # unix seconds of the last answer
_CELL: Final = {name: i for i, name in enumerate((*TOTALS, LAST_AT))}

REQUESTS: Final = _CELL["requests"]
ROWS: Final = _CELL["rows"]
STEPS: Final = _CELL["steps"]
DECODE_S: Final = _CELL["decode_s"]
ENCODE_S: Final = _CELL["encode_s"]
"""Cells of `totals` that each request writes to; access by name costs three times as much."""

TOTALS_ROW: Final = "engine_totals"
GAUGES_ROW: Final = "engine_queued_rows"
RUNS_OF_ROWS: Final = "engine_runs_of_rows"
SECONDS_OF_ROWS: Final = "engine_seconds_of_rows"
STEP_SECONDS: Final = "engine_step_seconds"


class _Cell:
    def __set_name__(self, owner: type, name: str) -> None:
        self._at = _CELL[name]

    def __get__(self, counters: Counters, owner: type) -> float:
        value: float = counters.totals[self._at]
        return value

    def __set__(self, counters: Counters, value: float) -> None:
        counters.totals[self._at] = value


class Counters:
    """One graph's counters.

    Attributes:
        totals: a cell for each of TOTALS, in their order, and LAST_AT.
        queued: one cell, the rows that wait now.
        step_seconds: a histogram of the steps of iterative requests, from queue to answer.
        runs_of_rows, seconds_of_rows: how many runs had so many rows, 0 to `max_rows`, and their seconds together.
    """

    __slots__ = ("queued", "runs_of_rows", "seconds_of_rows", "step_seconds", "totals")

    def __init__(
        self, shared_counters: SharedCounters | None = None, labels: Labels = (), *, max_rows: int = 1
    ) -> None:
        shared_counters = shared_counters or SharedCounters()
        self.totals = shared_counters.cells(TOTALS_ROW, labels, size=len(_CELL))
        self.runs_of_rows = shared_counters.cells(RUNS_OF_ROWS, labels, size=max_rows + 1)
        self.seconds_of_rows = shared_counters.cells(SECONDS_OF_ROWS, labels, size=max_rows + 1)
        self.step_seconds = shared_counters.cells(STEP_SECONDS, labels, size=HISTOGRAM_CELLS)
        self.queued = shared_counters.cells(GAUGES_ROW, labels, gauge=True)

    requests = _Cell()
    rows = _Cell()
    succeeded = _Cell()
    failed = _Cell()
    rejected = _Cell()
    closed = _Cell()
    cancelled_queued = _Cell()
    cancelled_running = _Cell()
    late_foreseen = _Cell()
    late_queued = _Cell()
    late_running = _Cell()
    decode_s = _Cell()
    queue_s = _Cell()
    run_s = _Cell()
    encode_s = _Cell()
    fail_s = _Cell()
    runs = _Cell()
    failed_runs = _Cell()
    inline_runs = _Cell()
    steps = _Cell()
    last_at = _Cell()

    @property
    def queued_rows(self) -> int:
        """Rows that wait now."""
        return int(self.queued[0])

    @queued_rows.setter
    def queued_rows(self, rows: int) -> None:
        self.queued[0] = rows

    @property
    def cancelled(self) -> float:
        return self.cancelled_queued + self.cancelled_running

    @property
    def late(self) -> float:
        return self.late_foreseen + self.late_queued + self.late_running

    def as_dict(self) -> dict[str, float]:
        """The totals by name, LAST_AT included."""
        return totals_by_name(self.totals)


def totals_by_name(totals: Sequence[float]) -> dict[str, float]:
    return dict(zip(_CELL, totals, strict=True))
