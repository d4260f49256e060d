"""Metrics for Prometheus: figures of requests, of stages and of the graphs, added up over all processes.

A request costs a few additions in shared counters; names and texts are made for each page.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.core.shared_counters import HISTOGRAM_CELLS, SECONDS, Labels, Memory, SharedCounters, observe, read
from app.engine import counters as engine
from app.engine.model import Model
from app.engine.registry import Registry
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

Figures = dict[tuple[str, Labels], list[float]]


class Metrics:
    """The figures of one process, and the page that adds up all of them.

    Args:
        shared_counters: where this process counts.
        blocks: those of all processes, this one's among them.
    """

    def __init__(self, shared_counters: SharedCounters, blocks: Callable[[], Iterable[Memory]]) -> None:
        self._shared_counters = shared_counters
        self._blocks = blocks
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests: dict[tuple[str, str, int], tuple[memoryview[float], memoryview[float]]] = {}
        self._stages: dict[str, tuple[memoryview[float], ...]] = {}

    def watch(self, models: Registry, *, version: str) -> None:
        """Add the metrics of this registry's models."""
        self._registry.register(_Page(models, version, self._blocks))

    def page(self) -> bytes:
        """The text for Prometheus, as of now."""
        return generate_latest(self._registry)

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


def added(blocks: Iterable[Memory]) -> Figures:
    """The cells of the same names and labels, added up over the blocks."""
    figures: Figures = {}
    for block in blocks:
        for row in read(block):
            known = figures.get((row.name, row.labels))
            values: list[float] = [*row.cells]
            if known is not None and len(known) == len(values):
                values = [a + b for a, b in zip(known, values, strict=True)]
            figures[row.name, row.labels] = values
    return figures


class _Page(Collector):
    def __init__(self, models: Registry, version: str, blocks: Callable[[], Iterable[Memory]]) -> None:
        self._models = models
        self._version = version
        self._blocks = blocks

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        figures = added(self._blocks())

        def rows(name: str) -> list[tuple[Labels, list[float]]]:
            return sorted((labels, values) for (found, labels), values in figures.items() if found == name)

        for name, text, labels in COUNTED:
            family = CounterMetricFamily(name, text, labels=labels)
            for values, cells in rows(name):
                family.add_metric(values, cells[0])
            yield family
        yield _histograms(
            REQUEST_SECONDS, "From a request's head to the end of its answer.", ("path",), rows(REQUEST_SECONDS)
        )
        yield _histograms(STAGE_SECONDS, "Stages of answered requests.", ("model", "stage"), rows(STAGE_SECONDS))
        yield _histograms(
            "lectern_step_seconds",
            "Steps of iterative requests, from queue to answer.",
            GRAPH,
            [row for row in rows(engine.STEP_SECONDS) if any(row[1])],
        )
        yield from _totals(rows(engine.TOTALS_ROW))
        yield _batches(rows(engine.RUNS_OF_ROWS))
        yield _gauge("lectern_engine_queued_rows", "Rows that wait for a run.", GRAPH, rows(engine.GAUGES_ROW))
        yield _gauge("lectern_open_connections", "Connections that are open.", (), rows("lectern_open_connections"))
        yield from self._loaded()

    def _loaded(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("lectern_model_info", "A loaded model.", labels=["model", "version", "device"])
        for model in self._models.catalog.models:
            info.add_metric([model.name, model.version, model.device], 1)
        yield info
        yield GaugeMetricFamily(
            "lectern_refused_models", "Model folders refused.", value=len(self._models.catalog.refused)
        )
        build = GaugeMetricFamily("lectern_build_info", "What is running.", labels=["version", "python", "device"])
        build.add_metric([self._version, platform.python_version(), self._models.device], 1)
        yield build


def _totals(rows: Sequence[tuple[Labels, list[float]]]) -> Iterator[Metric]:
    totals = [(labels, engine.totals_by_name(values)) for labels, values in rows]
    for name in ALONE:
        family = CounterMetricFamily(f"lectern_engine_{name}", engine.TOTALS[name], labels=GRAPH)
        for labels, of in totals:
            family.add_metric(labels, of[name])
        yield family
    for name, (text, causes) in CAUSES.items():
        family = CounterMetricFamily(name, text, labels=(*GRAPH, "cause"))
        for labels, of in totals:
            for total, cause in causes.items():
                family.add_metric((*labels, cause), of[total])
        yield family


def _batches(rows: Sequence[tuple[Labels, list[float]]]) -> Metric:
    family = HistogramMetricFamily("lectern_batch_rows", "Rows of one run of a graph.", labels=GRAPH)
    for labels, runs in rows:
        buckets = [(str(bound), sum(runs[: bound + 1])) for bound in ROWS] + [("+Inf", sum(runs))]
        family.add_metric(labels, buckets, sum(size * count for size, count in enumerate(runs)))
    return family


def _histograms(name: str, text: str, labels: Sequence[str], rows: Sequence[tuple[Labels, list[float]]]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, cells in rows:
        *counts, total = cells
        bounds = [*map(floatToGoString, SECONDS), "+Inf"]
        family.add_metric(values, [(bound, sum(counts[: i + 1])) for i, bound in enumerate(bounds)], total)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], rows: Sequence[tuple[Labels, list[float]]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, cells in rows:
        family.add_metric(values, cells[0])
    return family
