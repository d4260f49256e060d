"""OpenTelemetry traces, as a collector gets them: a real one, over HTTP, that decodes what comes."""

from __future__ import annotations

import gzip
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.core.errors import LoadRefused
from app.settings import STANDARD_ENDPOINT, WrongSetting, read_settings
from app.telemetry.spans import SILENCE_S, Complaints
from tests.app.live import LiveServer, grey, open_server
from tests.app.server.test_shutdown import serve
from tests.app.server.test_supervisor import ask_once

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
SERVER = 2  # SpanKind of the protocol


class Collector:
    """What came in, decoded."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def spans(self) -> list[Any]:
        return [span for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for span in ss.spans]

    @property
    def resources(self) -> list[dict[str, Any]]:
        return [values(rs.resource) for r in self.requests for rs in r.resource_spans]

    def of(self, request_id: str) -> tuple[Any, list[Any]]:
        """The one span of a request, and those beneath it in their order."""
        (root,) = [span for span in self.spans if values(span).get("lectern.request_id") == request_id]
        below = [span for span in self.spans if span.parent_span_id == root.span_id]
        return root, sorted(below, key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))


def values(told: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in told.attributes}


@contextmanager
def collector(*, status: int = 200) -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            got.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as collector:
        got = Collector(f"http://127.0.0.1:{collector.server_port}")
        thread = threading.Thread(target=collector.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield got
        finally:
            collector.shutdown()
            thread.join()


def ask(server: LiveServer, request_id: str, **headers: str) -> int:
    return server.send_json({"image": grey(9).tolist(), "model": "shades"}, X_Request_Id=request_id, **headers).status


def test_an_answered_request_is_a_span_with_its_stages_one_after_the_other(models: Path) -> None:
    with collector() as got:
        before = time_ns()
        with open_server(models, otlp_endpoint=got.url) as server:
            assert ask(server, "seen") == 200
        after = time_ns()
    root, stages = got.of("seen")
    assert (root.name, root.kind, root.parent_span_id) == ("POST /v1/classify", SERVER, b"")
    assert values(root) == {
        "http.request.method": "POST", "http.route": "/v1/classify", "http.response.status_code": 200,
        "url.path": "/v1/classify", "lectern.request_id": "seen", "lectern.model": "shades", "lectern.rows": 1,
    }  # fmt: skip
    assert before <= root.start_time_unix_nano <= root.end_time_unix_nano <= after
    assert [stage.name for stage in stages] == ["decode", "queue", "run", "encode"]
    at = root.start_time_unix_nano
    for stage in stages:
        assert stage.trace_id == root.trace_id
        assert at <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        at = stage.end_time_unix_nano
    assert at <= root.end_time_unix_nano


def test_the_collector_is_told_which_process_of_which_service_it_was(models: Path) -> None:
    with collector() as got:
        for _ in range(2):
            with open_server(models, otlp_endpoint=got.url + "/") as server:
                ask(server, "x")
    assert {told["service.name"] for told in got.resources} == {"lectern"}
    assert len({told["service.instance.id"] for told in got.resources}) == 2


def test_an_operator_may_name_the_service(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "digits")
    with collector() as got, open_server(models, otlp_endpoint=got.url) as server:
        ask(server, "x")
    assert {told["service.name"] for told in got.resources} == {"digits"}


def test_the_caller_s_trace_goes_on(models: Path) -> None:
    with collector() as got, open_server(models, otlp_endpoint=got.url) as server:
        ask(server, "child", traceparent=f"00-{TRACE}-{CALLER}-01", tracestate="some=where")
    root, stages = got.of("child")
    assert (root.trace_id.hex(), root.parent_span_id.hex(), root.trace_state) == (TRACE, CALLER, "some=where")
    assert {stage.trace_id.hex() for stage in stages} == {TRACE}


def test_a_caller_that_does_not_sample_is_not_sampled_here(models: Path) -> None:
    with collector() as got, open_server(models, otlp_endpoint=got.url) as server:
        assert ask(server, "unsampled", traceparent=f"00-{TRACE}-{CALLER}-00") == 200
        assert ask(server, "sampled") == 200
    assert len(got.spans) == 5
    got.of("sampled")


@pytest.mark.parametrize(
    "wrong",
    ["", "x", f"00-{TRACE}-{CALLER}", f"ff-{TRACE}-{CALLER}-01", f"00-{'0' * 32}-{CALLER}-01", f"00-{TRACE}-\xe9-01"],
)
def test_a_traceparent_that_is_none_begins_a_new_trace(models: Path, wrong: str) -> None:
    with collector() as got, open_server(models, otlp_endpoint=got.url) as server:
        assert ask(server, "new", traceparent=wrong) == 200
    root, stages = got.of("new")
    assert root.parent_span_id == b""
    assert root.trace_id.hex() not in (TRACE, "0" * 32)
    assert len(stages) == 4


def test_health_and_metrics_are_not_traced_and_what_is_refused_is(models: Path) -> None:
    with collector() as got, open_server(models, otlp_endpoint=got.url) as server:
        for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics"):
            assert server.get(path).status == 200
        assert server.get("/nowhere/secret%FF", X_Request_Id="lost").status == 404
        assert server.ask("PROPFIND", "/v1/models", headers={"X-Request-Id": "odd"}).status == 405
        assert server.get("/v1/models/digits", X_Request_Id="card").status == 200
        assert ask(server, "late", X_Request_Deadline_Ms="0") == 504
    assert len(got.spans) == 4
    lost, odd, card, late = (got.of(name)[0] for name in ("lost", "odd", "card", "late"))
    assert (lost.name, values(lost)["http.response.status_code"]) == ("GET", 404)
    assert "http.route" not in values(lost)
    assert (odd.name.split()[0], values(odd)["http.request.method"]) == ("HTTP", "_OTHER")
    assert (card.name, values(card)["url.path"]) == ("GET /v1/models/{name}", "/v1/models/digits")
    assert (late.status.code, values(late)["error.type"]) == (2, "504")
    assert not lost.status.code


def test_the_same_request_by_the_router_is_one_span_even_where_the_process_has_a_provider(models: Path) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    other = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(other))
    was = trace._TRACER_PROVIDER
    trace._TRACER_PROVIDER = provider
    try:
        with collector() as got, open_server(models, otlp_endpoint=got.url) as server:
            server.get("/v1/models", X_Request_Id="once")
    finally:
        trace._TRACER_PROVIDER = was
    assert other.get_finished_spans() == ()


def no_collector() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.slow
def test_a_collector_that_is_down_disturbs_nobody_and_is_said_once(
    models: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    url = no_collector()
    with caplog.at_level(logging.INFO), open_server(models, otlp_endpoint=url) as server:
        assert [ask(server, f"r{i}") for i in range(20)] == [200] * 20
        began = monotonic()
    assert monotonic() - began < 10  # the server's own end, and two seconds
    said = [text for record in caplog.records if (text := record.getMessage()).startswith("traces to ")]
    assert len(said) == 1
    assert url + "/v1/traces" in said[0]
    assert not logging.getLogger("opentelemetry").propagate  # what it says of every batch goes no further


@pytest.mark.slow
def test_a_collector_that_never_answers_holds_up_the_end_for_two_seconds_at_most(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        with open_server(models, otlp_endpoint=f"http://127.0.0.1:{mute.getsockname()[1]}") as server:
            assert ask(server, "x") == 200
            began = monotonic()
        assert 2 < monotonic() - began < 8
    assert "the last traces are lost" in caplog.text


def test_each_worker_tells_of_its_own_requests(models: Path) -> None:
    with collector() as got, serve(models, 2, "--otlp-endpoint", got.url) as (started, _, port):
        for _ in range(4):
            assert ask_once(port) == 200
        started.send_signal(signal.SIGTERM)
        _, errors = started.communicate(timeout=20)
    assert (started.returncode, errors) == (0, "")
    roots = [span for span in got.spans if span.kind == SERVER]
    assert len(roots) == 4
    assert len({told["service.instance.id"] for told in got.resources}) == 2


def test_complaints_are_said_now_and_then_and_counted_between(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("app.telemetry.spans.monotonic", lambda: now)
    complaints = Complaints("http://me:secret@there/v1/traces")
    try:
        source = logging.getLogger("opentelemetry.sdk.x")
        for _ in range(4):
            source.warning("lost")
        now += SILENCE_S + 1
        source.error("lost again")
    finally:
        complaints.close()
    assert [record.getMessage() for record in caplog.records if record.name == "lectern.traces"] == [
        "traces to http://there/v1/traces: lost",
        "traces to http://there/v1/traces: lost again (and 3 more like it since the last time)",
    ]


def test_without_an_endpoint_nothing_of_the_sdk_is_loaded(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "app.telemetry.spans", None)  # importing it fails
    with open_server(models) as server:
        assert ask(server, "x") == 200


def test_an_endpoint_without_the_extra_is_refused_at_the_start_with_what_to_install(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "app.telemetry.spans")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(LoadRefused) as refused, open_server(models, otlp_endpoint="http://localhost:4318"):
        pass
    (line,) = refused.value.detail.splitlines()
    assert "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http" in line


def test_the_standard_variable_counts_where_ours_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LECTERN_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv(STANDARD_ENDPOINT, raising=False)
    assert read_settings({}).otlp_endpoint == ""
    monkeypatch.setenv(STANDARD_ENDPOINT, "http://standard:4318")
    assert read_settings({}).otlp_endpoint == "http://standard:4318"
    monkeypatch.setenv("LECTERN_OTLP_ENDPOINT", "http://ours:4318")
    assert read_settings({}).otlp_endpoint == "http://ours:4318"
    assert read_settings({"otlp_endpoint": "http://flag:4318"}).otlp_endpoint == "http://flag:4318"
    monkeypatch.setenv("LECTERN_OTLP_ENDPOINT", "")
    assert read_settings({}).otlp_endpoint == ""


def test_a_wrong_endpoint_in_the_standard_variable_is_said_by_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LECTERN_OTLP_ENDPOINT", raising=False)
    monkeypatch.setenv(STANDARD_ENDPOINT, "collector:4317")
    with pytest.raises(WrongSetting, match=f"^{STANDARD_ENDPOINT}: expected .*'collector:4317'$"):
        read_settings({})
