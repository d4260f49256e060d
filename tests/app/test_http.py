"""What holds for every answer: request id, headers, methods, unknown pages, one log line, one set of metrics."""

from __future__ import annotations

import json
import logging
from codecs import BOM_UTF8
from pathlib import Path

import pytest

from app.codecs.images.files import encode_png
from app.core.errors import ClientError
from app.middleware.errors import kinds
from app.telemetry.logs import JsonFormatter, TextFormatter
from tests.app.live import LiveServer, grey, open_server

PNG = encode_png(grey(100))
PATHS = ("/", "/docs", "/redoc", "/openapi.json", "/v1/models", "/health/live", "/health/ready", "/metrics", "/nowhere")


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_an_id_and_the_safe_headers_once(server: LiveServer, path: str) -> None:
    reply = server.get(path)
    assert len(reply.header("x-request-id") or "") == 24
    assert reply.header("x-content-type-options") == "nosniff"
    assert reply.header("referrer-policy") == "no-referrer"
    assert reply.header("x-frame-options") == "DENY"
    assert reply.header("server") is None
    assert reply.header("access-control-allow-origin") is None


def test_a_sane_request_id_is_given_back(server: LiveServer) -> None:
    assert server.get("/health/live", x_request_id="trace-1/a.b:c=d").header("x-request-id") == "trace-1/a.b:c=d"
    assert server.send("image/png", b"x", x_request_id="mine").problem(415)["request_id"] == "mine"


@pytest.mark.parametrize("wrong", ["", "a b", "a" * 129, 'a"b', "a;b", "<script>", "\xe9"])
def test_a_strange_request_id_is_replaced(server: LiveServer, wrong: str) -> None:
    assert len(server.get("/health/live", x_request_id=wrong).header("x-request-id") or "") == 24


@pytest.mark.parametrize("around", ["{} ", "  {}\t ", "\t{}"])
def test_white_space_around_a_header_is_no_part_of_it(server: LiveServer, around: str) -> None:
    named = {
        "X-Request-Deadline-Ms": "5000",
        "X-Request-Priority": "1",
        "X-Request-Id": "mine",
        "Accept": "application/x-npy",
        "Content-Type": "image/png",
        "Content-Encoding": "identity",
        "Content-Length": str(len(PNG)),
        "Connection": "close",
    }
    lines = [f"{name}:{around.format(value)}" for name, value in named.items()]
    request = "\r\n".join(["POST /v1/classify HTTP/1.1", "Host: a", *lines, "", ""]).encode() + PNG
    head, _, body = server.raw(request, close=False).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"x-request-id: mine\r\n" in head + b"\r\n"
    assert body.startswith(b"\x93NUMPY")
    within = server.raw(request.replace(b"5000", b"50 0"), close=False)
    assert within.startswith(b"HTTP/1.1 422")
    assert b"'50 0'" in within


def test_two_requests_have_two_ids(server: LiveServer) -> None:
    assert server.get("/health/live").header("x-request-id") != server.get("/health/live").header("x-request-id")


@pytest.mark.parametrize("path", PATHS[:-1])
def test_head_is_get_without_its_body(server: LiveServer, path: str) -> None:
    reply = server.ask("HEAD", path)
    assert (reply.status, reply.body) == (200, b"")
    if path != "/metrics":  # which has counted this very request
        assert reply.header("content-length") == server.get(path).header("content-length")


def test_a_byte_order_mark_before_json_is_skipped_in_every_body(
    server: LiveServer, writers: LiveServer, coders: LiveServer
) -> None:
    row = {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3]}
    data, sized = [{**row, "data": [0] * 3072}], [{**row, "parameters": {"binary_data_size": 3072}}]
    for asked, path, body, behind in (
        (server, "/v1/classify", {"image": grey(100).tolist()}, b""),
        (server, "/v1/classify", {"images": [grey(100).tolist()] * 20}, b""),
        (server, "/v2/repository/index", {"ready": True}, b""),
        (server, "/v2/models/shades/infer", {"inputs": data}, b""),
        (server, "/v2/models/shades/infer", {"inputs": sized}, bytes(3072)),
        (writers, "/v1/classify", {"text": "a good film"}, b""),
        (writers, "/v1/translate", {"text": "the dog"}, b""),
        (writers, "/translate", {"q": "the dog", "source": "en", "target": "pt"}, b""),
        (coders, "/v1/generate", {"n": 2, "seed": 1}, b""),
    ):
        replies = []
        for text in (json.dumps(body).encode(), BOM_UTF8 + json.dumps(body).encode()):
            headers = {"Content-Type": "application/json"}
            headers |= {"Inference-Header-Content-Length": str(len(text))} if behind else {}
            replies.append(asked.ask("POST", path, text + behind, headers))
        assert [reply.status for reply in replies] == [200, 200], path
        assert replies[0].body == replies[1].body
    for wrong in (BOM_UTF8, BOM_UTF8 + BOM_UTF8 + b"{}", b"\xff\xfe{\0}\0"):
        server.ask("POST", "/v1/classify", wrong, {"Content-Type": "application/json"}).assert_refused(422, "body", [])


def test_a_raw_row_that_begins_like_a_byte_order_mark_is_a_row(server: LiveServer) -> None:
    row, headers = bytearray(3072), {"Inference-Header-Content-Length": "0"}
    row[: len(BOM_UTF8)] = BOM_UTF8
    assert server.ask("POST", "/v2/models/shades/infer", bytes(row), headers).status == 200


def test_head_sends_not_a_byte_after_its_head(server: LiveServer) -> None:
    reply = server.raw(b"HEAD /v1/models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", close=False)
    assert reply.endswith(b"\r\n\r\n")
    assert reply.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/models/", "/v1/classify/", "/health", "//"])
def test_an_unknown_page_is_a_problem_and_never_a_redirection(server: LiveServer, path: str) -> None:
    details = server.get(path).problem(404)
    assert path in details["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/classify", "POST"),
        ("DELETE", "/v1/classify", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/health/live", "GET, HEAD"),
        ("OPTIONS", "/v1/classify", "POST"),
        ("BREW", "/v1/classify", "POST"),
    ],
)
def test_another_method_is_told_which_ones_there_are(server: LiveServer, method: str, path: str, allow: str) -> None:
    reply = server.ask(method, path)
    if method == "BREW" and reply.status == 400:  # the HTTP parser knew it was none
        return
    assert allow in reply.problem(405)["detail"]
    assert reply.header("allow") == allow


def test_requests_one_after_the_other_share_a_connection(server: LiveServer) -> None:
    one = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert server.raw(one + one + last, close=False).count(b"HTTP/1.1 200 OK") == 3


def test_every_kind_of_problem_is_explained_where_its_type_points(server: LiveServer) -> None:
    details = server.get("/nowhere").problem(404)
    assert server.get(details["type"]).json() == {"type": "/errors/not-found", "status": 404, "title": "Not found"}
    for kind, cls in kinds().items():
        explained = server.get(f"/errors/{kind}").json()
        assert (explained["status"], explained["title"]) == (cls.status, cls.title)
    assert {"busy", "too-large", "unprocessable", "method-not-allowed"} < set(kinds())
    assert server.get("/errors/nothing").problem(404)


def test_what_nobody_foresaw_is_a_500_that_tells_only_its_id(models: Path, caplog: pytest.LogCaptureFixture) -> None:
    with open_server(models, only=("shades",)) as server:

        @server.app.get("/broken")
        async def broken() -> None:
            raise ZeroDivisionError("a secret of the server")

        with caplog.at_level(logging.INFO, logger="lectern.access"):
            reply = server.get("/broken", x_request_id="find-me")
        details = reply.problem(500)
        assert details["request_id"] == "find-me"
        assert b"secret" not in reply.body
        assert b"ZeroDivision" not in reply.body
        trace = next(record for record in caplog.records if record.exc_info)
        assert trace.fields == {"id": "find-me"}  # type: ignore[attr-defined]
        assert server.get("/health/live").status == 200


def logged(server: LiveServer, caplog: pytest.LogCaptureFixture, query: str = "") -> logging.LogRecord:
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="lectern.access"):
        server.send("image/png", PNG, query, authorization="Bearer a-key", x_request_id="line-1")
        server.get("/health/live")  # its line comes after the other's
    return next(r for r in caplog.records if getattr(r, "fields", {}).get("id") == "line-1")


def test_one_line_is_logged_per_request_without_body_or_key(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    record = logged(server, caplog)
    line = json.loads(JsonFormatter().format(record))
    assert line.pop("ms") > 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info", "logger": "lectern.access", "message": "request", "id": "line-1", "method": "POST",
        "path": "/v1/classify", "status": 200, "model": "shades", "rows": 1,
    }  # fmt: skip
    text = TextFormatter().format(record)
    assert " INFO request id=line-1 method=POST path=/v1/classify status=200 ms=" in text
    assert "a-key" not in text


def test_a_path_cannot_write_a_log_line_of_its_own(server: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="lectern.access"):
        server.get("/x%0a2026-01-01T00:00:00.000Z%20INFO%20request%20status=200%1b[2J%e2%80%a8", x_request_id="evil")
        server.get("/health/live")
    record = next(r for r in caplog.records if getattr(r, "fields", {}).get("id") == "evil")
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record)
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line


def sample(text: str, name: str) -> float:
    """The value of one sample of the metrics' text."""
    found = [line for line in text.splitlines() if line.startswith(name + " ")]
    assert len(found) == 1, name
    return float(found[0].rsplit(" ", 1)[1])


def test_the_metrics_count_what_was_asked(models: Path) -> None:
    with open_server(models, only=("shades",)) as server:
        server.send("image/png", PNG)
        server.send_form(("image", PNG, "a"), ("image", PNG, "b"))
        server.send("application/pdf", PNG)
        for i in range(3):
            server.get(f"/nowhere/{i}")
        server.get("/v1/models/shades")
        reply = server.get("/metrics")
    assert (reply.header("content-type") or "").startswith("text/plain")
    text = reply.body.decode()
    requests = 'lectern_requests_total{method="%s",path="%s",status="%d"}'
    assert sample(text, requests % ("POST", "/v1/classify", 200)) == 2
    assert sample(text, requests % ("POST", "/v1/classify", 415)) == 1
    assert sample(text, requests % ("GET", "none", 404)) == 3
    assert sample(text, requests % ("GET", "/v1/models/{name}", 200)) == 1
    for stage in ("decode", "queue", "run", "encode"):
        assert sample(text, f'lectern_stage_seconds_count{{model="shades",stage="{stage}"}}') == 2
    engine = '{graph="classifier",model="shades",version="1"}'
    assert sample(text, f"lectern_engine_rows_total{engine}") == 3
    assert sample(text, f"lectern_engine_requests_total{engine}") == 2
    assert sample(text, f"lectern_engine_queued_rows{engine}") == 0
    assert sample(text, f"lectern_batch_rows_sum{engine}") == 3
    assert sample(text, 'lectern_model_info{device="cpu",model="shades",version="1"}') == 1
    assert sample(text, "lectern_refused_models") == 0


def test_other_origins_are_let_in_only_where_they_are_named(models: Path) -> None:
    with open_server(models, only=("shades",), cors_origins=("https://here.example",)) as server:
        preflight = {"Origin": "https://here.example", "Access-Control-Request-Method": "POST"}
        allowed = server.ask("OPTIONS", "/v1/classify", headers=preflight)
        assert allowed.header("access-control-allow-origin") == "https://here.example"
        other = server.ask("OPTIONS", "/v1/classify", headers=preflight | {"Origin": "https://there.example"})
        assert other.header("access-control-allow-origin") is None
        answer = server.send("image/png", PNG, origin="https://here.example")
        assert answer.header("access-control-allow-origin") == "https://here.example"


def test_client_errors_are_all_below_500() -> None:
    for cls in kinds().values():
        assert issubclass(cls, ClientError) == (400 <= cls.status < 500 and cls.status != 429)
