"""Metrics for Prometheus: figures of requests, of stages and of the graphs, added up over all processes.

A request costs a few additions in shared counters; names and texts are made for each page.
"""

from __future__ import annotations

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.utils import floatToGoString

from app.core.shared_counters import HISTOGRAM_CELLS, SECONDS, Labels, Memory, SharedCounters, observe, read
from app.engine import counters as engine
from app.engine.model import Model
from app.engine.registry import Registry
from app.web import work_pool
from app.web.request.trace import Trace

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STAGES: Final = ("decode", "queue", "run", "encode")
GRAPH: Final = ("model", "version", "graph")

REQUESTS: Final = "lectern_requests"
REQUEST_SECONDS: Final = "lectern_request_seconds"
STAGE_SECONDS: Final = "lectern_stage_seconds"

# name, text, labels; a cell each.
COUNTED: Final = (
    (REQUESTS, "Requests answered.", ("method", "path", "status")),
    ("lectern_connections", "Connections opened.", ()),
    ("lectern_worker_restarts", "Workers that died and were replaced.", ()),
    (work_pool.REFUSED, "Pieces of decoding, encoding and searching refused: too much of it waits.", ()),
    (work_pool.DROPPED, "Pieces of it whose client hung up, or whose deadline passed.", ()),
)
# Several totals of the engine are one family here, by their cause.
CAUSES: Final = {
    "lectern_rejected": ("Requests refused by a model.", {"rejected": "queue full", "closed": "model closing"}),
    "lectern_cancelled": (
        "Requests whose client hung up.",
        {"cancelled_queued": "in the queue", "cancelled_running": "in a run"},
    ),
    "lectern_late": (
        "Requests whose deadline could not be kept.",
        {"late_foreseen": "on arrival", "late_queued": "in the queue", "late_running": "in a run"},
    ),
}
ALONE: Final = ("requests", "rows", "succeeded", "failed", "runs", "failed_runs", "inline_runs", "steps")

GAUGES: Final = (
    ("lectern_engine_queued_rows", "Rows that wait for a run.", GRAPH, engine.GAUGES_ROW),
    ("lectern_open_connections", "Connections that are open.", (), "lectern_open_connections"),
    (work_pool.QUEUED, "Pieces of decoding, encoding and searching that wait.", (), work_pool.QUEUED),
)
# name, text, labels, the row of the counters.
AT_ONCE: Final = 32  # rows of a family between two turns of the event loop; a millisecond or two

Figures = dict[str, dict[Labels, list[float]]]
Rows = Sequence[tuple[Labels, list[float]]]


class Metrics:
    """The figures of one process, and the page that adds up all of them.

    Args:
        shared_counters: where this process counts.
        blocks: those of all processes, this one's among them.
    """

    def __init__(self, shared_counters: SharedCounters, blocks: Callable[[], Iterable[Memory]]) -> None:
        self._shared_counters = shared_counters
        self._blocks = blocks
        self._models: Registry | None = None
        self._version = ""
        self._requests: dict[tuple[str, str, int], tuple[memoryview[float], memoryview[float]]] = {}
        self._stages: dict[str, tuple[memoryview[float], ...]] = {}

    def watch(self, models: Registry, *, version: str) -> None:
        """Add the metrics of this registry's models."""
        self._models, self._version = models, version

    async def page(self) -> bytes:
        """The text for Prometheus, as of now. It gives way to the event loop after every few families."""
        figures: Figures = {}
        for block in self._blocks():
            add(figures, block)
            await asyncio.sleep(0)
        assert self._models is not None
        parts, before = [], ""
        for family in families(figures, self._models, self._version):
            text = generate_latest(_Just(family))
            if family.name == before:  # its further rows: without the lines that say what it is
                text = b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"# "))
            parts.append(text)
            before = family.name
            await asyncio.sleep(0)
        return b"".join(parts)

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """One request is over."""
        found = self._requests.get((method, path, status))
        if found is None:
            shown = method if method in METHODS else "other"
            found = self._requests[method, path, status] = (
                self._shared_counters.cells(REQUESTS, (shown, path, str(status))),
                self._shared_counters.cells(REQUEST_SECONDS, (path,), size=HISTOGRAM_CELLS),
            )
        found[0][0] += 1
        observe(found[1], seconds)

    def observe(
        self, trace: Trace, model: Model, graph: str, *, decode_s: float, queue_s: float, run_s: float, encode_s: float
    ) -> None:
        """The stages of one request that a model has answered, in seconds."""
        cells = self._stages.get(model.name)
        if cells is None:
            cells = self._stages[model.name] = tuple(
                self._shared_counters.cells(STAGE_SECONDS, (model.name, stage), size=HISTOGRAM_CELLS)
                for stage in STAGES
            )
        totals = model.counters[graph].totals
        totals[engine.DECODE_S] += decode_s
        totals[engine.ENCODE_S] += encode_s
        for histogram, seconds in zip(cells, (decode_s, queue_s, run_s, encode_s), strict=True):
            histogram[bisect_left(SECONDS, seconds)] += 1  # as `observe` does it, whose call would cost as much
            histogram[-1] += seconds
        trace.stages = (("decode", decode_s), ("queue", queue_s), ("run", run_s), ("encode", encode_s))


def add(figures: Figures, block: Memory) -> None:
    """Add a process's cells to those of the same names and labels."""
    for row in read(block):
        of = figures.setdefault(row.name, {})
        known = of.get(row.labels)
        values: list[float] = [*row.cells]
        if known is not None and len(known) == len(values):
            values = [a + b for a, b in zip(known, values, strict=True)]
        of[row.labels] = values


class _Just(CollectorRegistry):
    """One family alone, for a library that writes pages."""

    def __init__(self, family: Metric) -> None:
        super().__init__(auto_describe=False)
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def families(figures: Figures, models: Registry, version: str) -> Iterator[Metric]:
    """All that the page has. A family of many rows comes in several, of `AT_ONCE` rows each."""

    def rows(name: str) -> Iterator[Rows]:
        found = sorted(figures.get(name, {}).items())
        for i in range(0, max(1, len(found)), AT_ONCE):
            yield found[i : i + AT_ONCE]

    for name, text, labels in COUNTED:
        for some in rows(name):
            family = CounterMetricFamily(name, text, labels=labels)
            for values, cells in some:
                family.add_metric(values, cells[0])
            yield family
    for some in rows(REQUEST_SECONDS):
        yield _histograms(REQUEST_SECONDS, "From a request's head to the end of its answer.", ("path",), some)
    for some in rows(STAGE_SECONDS):
        yield _histograms(STAGE_SECONDS, "Stages of answered requests.", ("model", "stage"), some)
    for some in rows(engine.STEP_SECONDS):
        steps = [row for row in some if any(row[1])]
        text = "Steps of iterative requests, from queue to answer."
        yield _histograms("lectern_step_seconds", text, GRAPH, steps)
    totals = [[(labels, engine.totals_by_name(values)) for labels, values in some] for some in rows(engine.TOTALS_ROW)]
    for name in ALONE:
        for of in totals:
            yield _total(name, of)
    for name, (text, causes) in CAUSES.items():
        for of in totals:
            yield _by_cause(name, text, causes, of)
    for some in rows(engine.RUNS_OF_ROWS):
        yield _batches(some)
    for name, text, labels, row in GAUGES:
        for some in rows(row):
            yield _gauge(name, text, labels, some)
    yield from _loaded(models, version)


def _loaded(models: Registry, version: str) -> Iterator[Metric]:
    info = GaugeMetricFamily("lectern_model_info", "A loaded model.", labels=["model", "version", "device"])
    for model in models.catalog.models:
        info.add_metric([model.name, model.version, model.device], 1)
    yield info
    yield GaugeMetricFamily("lectern_refused_models", "Model folders refused.", value=len(models.catalog.refused))
    build = GaugeMetricFamily("lectern_build_info", "What is running.", labels=["version", "python", "device"])
    build.add_metric([version, platform.python_version(), models.device], 1)
    yield build


def _total(name: str, totals: Sequence[tuple[Labels, dict[str, float]]]) -> Metric:
    family = CounterMetricFamily(f"lectern_engine_{name}", engine.TOTALS[name], labels=GRAPH)
    for labels, of in totals:
        family.add_metric(labels, of[name])
    return family


def _by_cause(
    name: str, text: str, causes: Mapping[str, str], totals: Sequence[tuple[Labels, dict[str, float]]]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=(*GRAPH, "cause"))
    for labels, of in totals:
        for total, cause in causes.items():
            family.add_metric((*labels, cause), of[total])
    return family


def _batches(rows: Rows) -> Metric:
    family = HistogramMetricFamily("lectern_batch_rows", "Rows of one run of a graph.", labels=GRAPH)
    for labels, runs in rows:
        buckets = [(str(bound), sum(runs[: bound + 1])) for bound in ROWS] + [("+Inf", sum(runs))]
        family.add_metric(labels, buckets, sum(size * count for size, count in enumerate(runs)))
    return family


def _histograms(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, cells in rows:
        *counts, total = cells
        bounds = [*map(floatToGoString, SECONDS), "+Inf"]
        family.add_metric(values, [(bound, sum(counts[: i + 1])) for i, bound in enumerate(bounds)], total)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, cells in rows:
        family.add_metric(values, cells[0])
    return family
