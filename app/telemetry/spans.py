"""OpenTelemetry traces: a span per request, with its stages beneath it, exported to a collector by OTLP over HTTP.

Only imported where an endpoint is set; needs the extra `otel`. Spans are created when a request is over, from its
`Trace`, and are sent in batches by a thread of the SDK. What cannot be delivered is lost, and the log reports it now
and then. Sampling, headers, time-outs and batches are the SDK's: OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, ...
"""

from __future__ import annotations

import logging
import re
import threading
import uuid
from time import monotonic, time_ns
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.telemetry.metrics import METHODS
from app.web.request.trace import Trace

log = logging.getLogger("lectern.traces")
sdk = logging.getLogger("opentelemetry")
sdk.addHandler(logging.NullHandler())  # after the end nobody hears it

PATH: Final = "/v1/traces"
UNTRACED: Final = ("/health/", "/v2/health/", "/metrics")
FLUSH_S: Final = 2.0
SILENCE_S: Final = 60.0
MOST_OF_PATH: Final = 200


class Spans:
    """The exporter of spans, which starts at once. The SDK's provider of the whole process is left alone.

    Args:
        endpoint: the collector's address, without the path that traces have there.
        version: of this server.
    """

    def __init__(self, endpoint: str, *, version: str) -> None:
        endpoint = endpoint.rstrip("/") + PATH
        ours = {
            "service.name": "lectern",
            "service.version": version,
            "service.instance.id": str(uuid.uuid4()),
        }
        # What the operator sets in OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES wins.
        resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        self._complaints = Complaints(endpoint)
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("lectern", version)
        self._parents = TraceContextTextMapPropagator()

    def close(self) -> None:
        """Send what is left, for at most FLUSH_S; blocks for as long."""
        # The provider's own shutdown would wait half a minute for a collector that is down.
        flush = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        flush.start()
        flush.join(FLUSH_S)
        if flush.is_alive():
            log.warning("the last traces are lost: they did not reach the collector in %g s", FLUSH_S)
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._complaints.close()

    def add(self, trace: Trace, method: str, path: str, route: str, status: int, seconds: float) -> None:
        """One request is over, now, `seconds` after its head came."""
        if route.startswith(UNTRACED):
            return
        end = time_ns()
        begin = end - int(seconds * 1e9)
        known = method if method in METHODS else "_OTHER"
        attributes: dict[str, str | int] = {
            "http.request.method": known,
            "http.response.status_code": status,
            "url.path": path[:MOST_OF_PATH],
            "lectern.request_id": trace.request_id,
        }
        name = known if known != "_OTHER" else "HTTP"
        if route != "none":
            attributes["http.route"] = route
            name = f"{name} {route}"
        if trace.model is not None:
            attributes["lectern.model"] = trace.model
        if trace.rows is not None:
            attributes["lectern.rows"] = trace.rows
        if status >= 500:
            attributes["error.type"] = str(status)
        span = self._tracer.start_span(
            name, self._parent(trace), kind=SpanKind.SERVER, attributes=attributes, start_time=begin
        )
        if span.is_recording():
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR))
            if trace.stages:
                self._stages(trace, set_span_in_context(span, Context()), begin, end)
        span.end(end)

    def _parent(self, trace: Trace) -> Context:
        """The caller's span as in W3C Trace Context; without one an empty context, for a new trace."""
        carrier = {
            name: value.decode("latin-1")
            for name in ("traceparent", "tracestate")
            if (value := trace.headers.get(name.encode())) is not None
        }
        return self._parents.extract(carrier, Context()) if carrier else Context()

    def _stages(self, trace: Trace, parent: Context, begin: int, end: int) -> None:
        """One after the other, up to the end: what is in no stage is mostly the body that was still to come."""
        at = max(begin, end - sum(int(seconds * 1e9) for _, seconds in trace.stages))
        for name, seconds in trace.stages:
            until = min(end, at + int(seconds * 1e9))
            self._tracer.start_span(name, parent, start_time=at).end(until)
            at = until


class Complaints(logging.Handler):
    """Handles what the SDK logs, every lost batch, and logs it once in SILENCE_S."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(logging.WARNING)
        self._endpoint = re.sub("//[^/]*@", "//", endpoint)  # a password is none of the log's
        self._next = 0.0
        self._unsaid = 0
        sdk.addHandler(self)
        sdk.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        now = monotonic()
        if now < self._next:
            self._unsaid += 1
            return
        before = f" (and {self._unsaid} more like it since the last time)" if self._unsaid else ""
        self._next, self._unsaid = now + SILENCE_S, 0
        log.warning("traces to %s: %s%s", self._endpoint, record.getMessage()[:500], before)

    def close(self) -> None:
        sdk.removeHandler(self)
        super().close()
