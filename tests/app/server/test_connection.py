"""What comes before there is a request: bytes that are no HTTP, heads without an end, clients that wait."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.codecs.images.files import encode_png
from app.core.shared_counters import SharedCounters
from app.server import connection
from tests.app.live import LiveServer, grey, open_server

PNG = encode_png(grey(100))


def as_problem(reply: bytes, status: int) -> dict[str, Any]:
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    told: dict[str, Any] = json.loads(body)
    assert told["status"] == status
    assert f"x-request-id: {told['request_id']}".encode() in head
    assert all(told[name] for name in ("subject", "expected", "got"))
    return told


POST = b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        POST + b"Transfer-Encoding: gzip\r\n\r\nhello",
        POST + b"X: a\r\n folded\r\n\r\n",
        POST + b"X: a\0b\r\n\r\n",
        POST + b"X : a\r\n\r\n",
    ],
    ids=["words", "TLS", "HTTP/2", "two framings", "two lengths", "gzip", "folded", "a null byte", "a space"],
)
def test_what_is_not_http_answers_400_as_a_problem(server: LiveServer, request_: bytes) -> None:
    told = as_problem(server.raw(request_, close=False), 400)
    assert told["type"] == "/errors/bad-http"
    assert server.get(told["type"]).json()["status"] == 400


def send_until_answered(server: LiveServer, head: bytes, piece: bytes) -> bytes:
    """What comes back when the pieces never end; fails after 2 MB."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(head)
        line.settimeout(0)
        for _ in range((2 << 20) // len(piece)):
            try:
                line.settimeout(20)
                line.sendall(piece)
                line.settimeout(0.001)
                return line.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                return b""
    raise AssertionError("nobody minded")


def test_a_head_without_an_end_answers_431(server: LiveServer) -> None:
    for head in (b"GET /", b"GET / HTTP/1.1\r\nHost: a\r\nX: "):
        told = as_problem(send_until_answered(server, head, b"a" * 8192), 431)
        assert told["expected"] == "at most 65536 bytes"
    assert b"431" in send_until_answered(server, b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: a\r\n" * 1000)[:20]


@pytest.mark.parametrize("piece", [b"X: aaaaa\r\n" * 800, b"a" * 8000], ids=["many", "one"])
def test_trailers_without_an_end_close_the_line(server: LiveServer, piece: bytes) -> None:
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: "
    assert not send_until_answered(server, head, piece).startswith(b"HTTP/1.1 2")


def test_a_head_of_half_the_limit_and_a_body_of_many_times_it_are_taken(server: LiveServer) -> None:
    padding = "a" * (connection.MAX_HEAD_BYTES // 2)
    for _ in range(2):
        assert server.send("image/png", PNG, x_padding=padding).status == 200
    assert server.send("image/png", PNG + bytes(500_000)).status == 200


def test_requests_one_after_the_other_are_not_added_up(server: LiveServer) -> None:
    one = b"GET /health/live HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 30_000 + b"\r\n\r\n"
    last = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert server.raw(one * 5 + last, close=False).count(b"HTTP/1.1 200 OK") == 6


@pytest.mark.parametrize("begun", [b"", b"GET / HT"])
def test_a_client_that_never_ends_its_head_is_let_go(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.05)
    assert server.raw(begun, close=False) == b""


def test_nor_is_a_second_head_waited_for_without_end(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT_S", 0.05)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        line.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while b"alive" not in answer:
            answer += line.recv(65536)
        line.sendall(b"GET / HT")
        while got := line.recv(65536):
            answer += got
    assert answer.count(b"HTTP/1.1 200") == 1


def opened_and_closed(server: LiveServer) -> tuple[int, int]:
    """How many connections were opened and closed since the start."""
    counters: SharedCounters = server.app.state.shared_counters
    return int(counters.cells("lectern_connections")[0]), int(counters.cells("lectern_closed_connections")[0])


def test_a_reader_that_takes_nothing_of_its_answers_is_cut_off(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "READER_TIMEOUT_S", 0.1)
    asks = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
    before, _ = opened_and_closed(server)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(asks * 400)  # far more answers than the sockets between them hold
        server.until(lambda: opened_and_closed(server) == (before + 1, before + 1))
        received = 0
        with suppress(ConnectionResetError):
            while taken := len(line.recv(1 << 20)):
                received += taken
    assert received < 400 * len(server.get("/openapi.json").body)


def test_a_slow_reader_that_takes_something_is_waited_for(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "READER_TIMEOUT_S", 0.2)
    size = len(server.get("/openapi.json").body)
    asks = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 39
    asks += b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    received = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(asks)
        while taken := len(line.recv(size // 4)):
            received += taken
    assert received > 40 * size


@pytest.mark.parametrize(("path", "status"), [("/v1/classify", b"413"), ("/v2/models/shades/infer", b"400")])
def test_a_body_over_the_limit_is_sent_to_its_end_and_answered(server: LiveServer, path: str, status: bytes) -> None:
    body = bytes(16 << 20)  # more than the sockets between client and server hold
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(head.encode() + body)  # a connection closed meanwhile would raise
        answer = b""
        while got := line.recv(65536):
            answer += got
    assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.slow
def test_an_idle_connection_is_closed_when_its_time_is_over_and_not_while_it_is_used(models: Path) -> None:
    ask = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    with (
        open_server(models, only=("shades",), keep_alive_s=1) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as line,
    ):
        began = time.monotonic()
        for _ in range(4):
            line.sendall(ask)
            reply = b""
            while not reply.endswith(b"}"):
                reply += line.recv(65536)
            line.settimeout(0.4)
            with pytest.raises(TimeoutError):  # open, and silent
                line.recv(1)
            line.settimeout(20)
        used_s = time.monotonic() - began
        assert line.recv(1) == b""
        assert 1.5 < used_s < time.monotonic() - began < used_s + 2


BODY = b"GET /health/live HTTP/1.1\r\nHost: smuggled\r\n\r\n"


@pytest.mark.parametrize("apart", [False, True], ids=["in one piece", "head and body apart"])
def test_a_body_behind_the_offer_of_another_protocol_is_still_the_body(
    server: LiveServer, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = threading.Event()
    original = connection.Connection.data_received

    def data_received(self: connection.Connection, data: bytes) -> None:
        original(self, data)
        came.set()

    monkeypatch.setattr(connection.Connection, "data_received", data_received)
    head = (
        b"POST /v2/models/shades/infer HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    )
    head += b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    after = b"GET /health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(head if apart else head + BODY + after)
        if apart:
            assert came.wait(20)
            line.sendall(BODY + after)
        received = b""
        while chunk := line.recv(65536):
            received += chunk
    assert received.count(b"HTTP/1.1 ") == 2
    assert received.startswith(b"HTTP/1.1 400 ")  # the body is no JSON
    assert b"alive" not in received
    assert b'"status":"ready"' in received


def test_a_good_request_that_offers_another_protocol_is_answered(server: LiveServer) -> None:
    reply = server.send("image/png", PNG, "model=shades", Upgrade="h2c", Connection="Upgrade")
    assert reply.status == 200


def test_thousands_of_offers_in_one_packet_are_so_many_requests(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    ask = b"GET /health/live HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    last = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    received = server.raw(ask * 3000 + last, close=False)
    assert received.count(b"HTTP/1.1 200 ") == 3001
    assert not [record for record in caplog.records if record.exc_info]


def test_connect_is_refused(server: LiveServer) -> None:
    as_problem(server.raw(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", close=False), 400)


def test_pipelined_requests_go_with_their_client(server: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    body = bytes(32 * 32 * 3)
    ask = b"POST /v2/models/shades/infer HTTP/1.1\r\nHost: a\r\nInference-Header-Content-Length: 0\r\n"
    ask += b"Content-Length: %d\r\n\r\n" % len(body) + body
    before, _ = opened_and_closed(server)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
            line.sendall(ask * 3)
    server.until(lambda: opened_and_closed(server) == (before + 20, before + 20))
    assert server.get("/health/live").status == 200
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]
