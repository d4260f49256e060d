"""Triton's statistics of a model, from the counters that its graphs keep.

Source: triton-inference-server/server, docs/protocol/extension_statistics.md. Times are of whole requests; a run's time
counts in full for each request that took part in it, so that `compute_infer` is what the requests saw, and
`batch_stats` what the processor did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.core.shared_counters import Labels, Row
from app.engine.counters import LAST_AT, RUNS_OF_ROWS, SECONDS_OF_ROWS, TOTALS_ROW, totals_by_name
from app.protocols.open_inference.documents import BatchStats, Duration, InferenceStats, ModelStatistics

NONE: Final = Duration(count=0, ns=0)


@dataclass(slots=True)
class Figures:
    """One graph's counters, of all processes together.

    Attributes:
        totals: by name, as in `app.engine.counters`.
        runs, seconds: of runs, by their rows.
    """

    totals: dict[str, float] = field(default_factory=dict)
    runs: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def summed(rows: Iterable[Row]) -> dict[Labels, Figures]:
    """The figures of each graph (model, version, graph), from the rows of every process's tally."""
    found: dict[Labels, Figures] = {}
    for name, labels, cells, _ in rows:
        if name == TOTALS_ROW:
            totals = found.setdefault(labels, Figures()).totals
            for key, value in totals_by_name(cells.tolist()).items():
                known = totals.get(key, 0.0)
                totals[key] = max(known, value) if key == LAST_AT else known + value
        elif name in (RUNS_OF_ROWS, SECONDS_OF_ROWS):
            figures = found.setdefault(labels, Figures())
            _add(figures.runs if name == RUNS_OF_ROWS else figures.seconds, cells.tolist())
    return found


def statistics(name: str, version: str, figures: Figures) -> ModelStatistics:
    """What Triton would say of a graph that has these figures."""
    get = figures.totals.get
    stages = {key: get(f"{key}_s", 0.0) for key in ("decode", "queue", "run", "encode")}
    succeeded = get("succeeded", 0.0)
    by_rows = [
        (rows, runs, seconds)
        for rows, (runs, seconds) in enumerate(zip(figures.runs, figures.seconds, strict=True))
        if runs
    ]
    return ModelStatistics(
        name=name,
        version=version,
        last_inference=int(get(LAST_AT, 0.0) * 1e3),
        inference_count=int(sum(rows * runs for rows, runs, _ in by_rows)),
        execution_count=int(sum(runs for _, runs, _ in by_rows)),
        inference_stats=InferenceStats(
            success=_duration(succeeded, sum(stages.values())),
            fail=_duration(get("failed", 0.0), get("fail_s", 0.0)),
            queue=_duration(succeeded, stages["queue"]),
            compute_input=_duration(succeeded, stages["decode"]),
            compute_infer=_duration(succeeded, stages["run"]),
            compute_output=_duration(succeeded, stages["encode"]),
            cache_hit=NONE,
            cache_miss=NONE,
        ),
        batch_stats=[
            BatchStats(batch_size=rows, compute_input=NONE, compute_infer=_duration(runs, seconds), compute_output=NONE)
            for rows, runs, seconds in by_rows
        ],
    )


def of_graph(found: Mapping[Labels, Figures], name: str, version: str, labels: Labels) -> ModelStatistics:
    """As `statistics`; all zero for a graph that has not run."""
    return statistics(name, version, found.get(labels) or Figures())


def _duration(count: float, seconds: float) -> Duration:
    return Duration(count=int(count), ns=round(max(0.0, seconds) * 1e9))


def _add(to: list[float], values: Sequence[float]) -> None:
    to.extend([0.0] * (len(values) - len(to)))
    for i, value in enumerate(values):
        to[i] += value
