"""What is known of every request: its id, its log line, its metrics, the headers that all answers carry.

Pure ASGI and the outermost layer, so that whatever happens inside is seen here: an exception that nobody caught
becomes a 500 with a request id, and its trace goes to the log alone.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.engine.registry import Model, Registry
from app.logs import FIELDS
from app.problems import internal_error
from app.wire.context import TRACE, Trace, request_id_from

log = logging.getLogger("lectern.access")

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
CLIENT_GONE: Final = 499
TOO_LARGE: Final = 413
DISCARDED_BYTES: Final = 64 << 20
DISCARDED_S: Final = 1.0
SECONDS: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Metrics:
    """The app's own Prometheus registry: nothing global, so that several apps live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "lectern_requests", "Requests answered.", ["method", "path", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "lectern_request_seconds", "From the request's head to the end of its answer.", ["path"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._stage = Histogram(
            "lectern_stage_seconds", "Stages of answered requests.", ["model", "stage"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._batch = Histogram(
            "lectern_batch_rows", "Rows of one run of a graph.", ["graph"],
            buckets=ROWS, registry=self.registry,
        )  # fmt: skip
        self._children: dict[tuple[str, ...], Any] = {}

    def watch(self, models: Registry, *, version: str) -> None:
        """Report this registry's counters too, read when they are asked for."""
        self.registry.register(_Engine(models, version))

    def _child(self, metric: Counter | Histogram, *labels: str) -> Any:
        # labels() takes a lock and builds a tuple of texts each time; the children never change.
        key = (metric._name, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def observe(self, model: str, *, decode_s: float, queue_s: float, run_s: float, encode_s: float) -> None:
        """One answered request's stages, in seconds."""
        self._child(self._stage, model, "decode").observe(decode_s)
        self._child(self._stage, model, "queue").observe(queue_s)
        self._child(self._stage, model, "run").observe(run_s)
        self._child(self._stage, model, "encode").observe(encode_s)

    def run(self, graph: str, rows: int, seconds: float) -> None:
        """One run of a graph ("name/version/graph"); called from the graph's own thread."""
        self._child(self._batch, graph).observe(rows)

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        """One request is over."""
        self._child(self._requests, method if method in METHODS else "other", path, str(status)).inc()
        self._child(self._seconds, path).observe(seconds)


_COUNTED: Final = (
    ("requests", "Requests that reached the queue."),
    ("rows", "Rows that were run."),
    ("runs", "Runs of the graph."),
    ("failed_runs", "Runs that raised."),
    ("rejected", "Requests refused because the queue was full."),
    ("cancelled", "Requests that left before their answer."),
)


class _Engine(Collector):
    """Reads the batchers' counters when scraped; costs a request nothing."""

    def __init__(self, models: Registry, version: str) -> None:
        self._models = models
        self._version = version

    def collect(self) -> Iterable[Metric]:
        labels = ["model", "version", "graph"]
        for name, text in _COUNTED:
            family = CounterMetricFamily(f"lectern_engine_{name}", text, labels=labels)
            for model, graph, counters in self._each():
                family.add_metric([model.manifest.name, model.manifest.version, graph], getattr(counters, name))
            yield family
        queued = GaugeMetricFamily("lectern_engine_queued_rows", "Rows that wait for a run.", labels=labels)
        for model, graph, counters in self._each():
            queued.add_metric([model.manifest.name, model.manifest.version, graph], counters.queued_rows)
        yield queued
        info = GaugeMetricFamily("lectern_model_info", "A loaded model.", labels=["model", "version", "device"])
        for model in self._models.models:
            info.add_metric([model.manifest.name, model.manifest.version, model.device], 1)
        yield info
        yield GaugeMetricFamily("lectern_refused_models", "Model folders refused.", value=len(self._models.refused))
        build = GaugeMetricFamily("lectern_build_info", "What is running.", labels=["version", "python", "device"])
        build.add_metric([self._version, platform.python_version(), self._models.device], 1)
        yield build

    def describe(self) -> Iterable[Metric]:
        return ()

    def _each(self) -> Iterator[tuple[Model, str, Any]]:
        for model in self._models.models:
            for graph, counters in model.counters.items():
                yield model, graph, counters


class Telemetry:
    """The outermost layer."""

    def __init__(self, app: ASGIApp, *, finished: Callable[[str, str, int, float], None]) -> None:
        self.app = app
        self._finished = finished

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = perf_counter()
        method: str = scope["method"]
        scope = dict(scope)
        trace = scope[TRACE] = Trace(request_id_from(_first(scope["headers"], b"x-request-id")))
        headers = [(b"x-request-id", trace.request_id.encode("ascii")), *HEADERS]
        is_head = method == "HEAD"
        if is_head:  # answered as GET is, without the body
            scope["method"] = "GET"
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]} if len(message["headers"]) > 4 else ()
                message["headers"] = [*message["headers"], *(h for h in headers if h[0] not in own)]
                if trace.unread:
                    message["headers"].append((b"connection", b"close"))
            elif is_head:
                message = {**message, "body": b""}
            elif trace.unread and status == TOO_LARGE and not message.get("more_body", False):
                # Closing on a client that still sends would reset the connection and take the answer with it.
                await send({**message, "more_body": True})
                await _discard(receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            started = status
            status = 500
            log.exception("unforeseen %s", type(error).__name__, extra={FIELDS: {"id": trace.request_id}})
            if started:
                raise  # the head is out: only a closed connection can say that the rest is missing
            await internal_error(trace.request_id, scope["path"])(scope, receive, send_on)
        finally:
            seconds = perf_counter() - began
            self._finished(method, _template(scope), status or CLIENT_GONE, seconds)
            if log.isEnabledFor(logging.INFO):
                log.info("request", extra={FIELDS: _fields(scope, trace, method, status or CLIENT_GONE, seconds)})


async def _discard(receive: Receive) -> None:
    """Read on for a while and forget it, until the body or the client's patience ends."""
    left = DISCARDED_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARDED_S):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


def _first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    for key, value in headers:
        if key == name:
            return value
    return None


def _template(scope: Scope) -> str:
    """The route's pattern, not the path: a metric per path would let clients fill the memory."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "none"


def _fields(scope: Scope, trace: Trace, method: str, status: int, seconds: float) -> dict[str, Any]:
    fields = {
        "id": trace.request_id,
        "method": method[:20],
        "path": scope["path"][:200],
        "status": status,
        "ms": round(seconds * 1e3, 2),
    }
    if trace.model is not None:
        fields |= {"model": trace.model, "rows": trace.rows}
    return fields
