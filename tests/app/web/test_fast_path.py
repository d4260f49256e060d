"""The short way past the router gives what the routes give, and counts and refuses the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.web.fast_path import Direct
from tests.app.live import LiveServer, Reply, grey, open_server

PNG = encode_png(grey(100))
ROWS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
INFER = "/v2/models/shades/infer"
V1 = "/v1/classify?model=shades"
RAW = {"Inference-Header-Content-Length": "0"}


def tensor(data: object) -> bytes:
    return json.dumps(
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": data}]}
    ).encode()


FLAT = ROWS[0].ravel().tolist()
ASKED = {
    "a picture": (V1, PNG, {"Content-Type": "image/png"}),
    "rows as npy": (V1, encode_npy(ROWS), {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}),
    "json": (V1, json.dumps({"image": ROWS[0].tolist()}).encode(), {"Content-Type": "application/json"}),
    "no such model": ("/v1/classify?model=none", PNG, {"Content-Type": "image/png"}),
    "no such option": ("/v1/classify?modle=shades", PNG, {"Content-Type": "image/png"}),
    "a type that is not taken": (V1, PNG, {"Content-Type": "text/plain"}),
    "no body": (V1, b"", {"Content-Type": "image/png"}),
    "a deadline that is none": (V1, PNG, {"Content-Type": "image/png", "X-Request-Deadline-Ms": "soon"}),
    "a priority that is none": (V1, PNG, {"Content-Type": "image/png", "X-Request-Priority": "9"}),
    "a deadline at once": (V1, PNG, {"Content-Type": "image/png", "X-Request-Deadline-Ms": "0"}),
    "a patient client of low priority": (
        V1, PNG, {"Content-Type": "image/png", "X-Request-Deadline-Ms": "9000", "X-Request-Priority": "3"},
    ),
    "protocol, json": (INFER, tensor(FLAT), {"Content-Type": "application/json"}),
    "protocol, raw": (INFER, ROWS[0].tobytes(), RAW),
    "protocol, version": ("/v2/models/shades/versions/1/infer", ROWS[0].tobytes(), RAW),
    "protocol, gzip wanted": (INFER, tensor(FLAT), {"Accept-Encoding": "gzip"}),
    "protocol, no such version": ("/v2/models/shades/versions/7/infer", ROWS[0].tobytes(), RAW),
    "protocol, half a row": (INFER, ROWS[0].tobytes()[:100], RAW),
    "protocol, a deadline at once": (INFER, ROWS[0].tobytes(), {**RAW, "X-Request-Deadline-Ms": "0"}),
    "protocol, a value too many": (INFER, tensor([*FLAT, 1]), {}),
    "protocol, true for 1": (INFER, tensor([True, *FLAT[1:]]), {}),
    "protocol, 256": (INFER, tensor([256, *FLAT[1:]]), {}),
    "protocol, a text": (INFER, tensor(["1", *FLAT[1:]]), {}),
}  # fmt: skip


def direct(server: LiveServer) -> Direct:
    layer = server.app.front  # type: ignore[attr-defined]
    while not isinstance(layer, Direct):
        layer = layer.app
    return layer


@pytest.fixture(scope="module")
def short_way(models: Path) -> Iterator[LiveServer]:
    with open_server(models, only=("shades",)) as server:
        yield server
        assert direct(server)._known  # it was taken


@pytest.fixture(scope="module")
def long_way(models: Path) -> Iterator[LiveServer]:
    with open_server(models, only=("shades",)) as server:
        direct(server)._ways = ()
        yield server
        assert not direct(server)._known


def comparable(reply: Reply) -> object:
    ids = {"x-request-id", "date"}
    headers = sorted((key.lower(), value) for key, value in reply.headers if key.lower() not in ids)
    numbers = [(key, "" if key == "server-timing" else value) for key, value in headers]
    body: object = reply.body
    if reply.header("content-type") == "application/problem+json":
        body = {key: value for key, value in reply.json().items() if key != "request_id"}
    if b"deadline is" in reply.body:  # it tells how far away
        return reply.status, sorted(key for key, _ in numbers)
    return reply.status, numbers, body


@pytest.mark.parametrize("asked", ASKED)
def test_both_ways_answer_alike(short_way: LiveServer, long_way: LiveServer, asked: str) -> None:
    path, body, headers = ASKED[asked]
    assert comparable(short_way.ask("POST", path, body, headers)) == comparable(
        long_way.ask("POST", path, body, headers)
    )


def test_both_ways_are_counted_alike(short_way: LiveServer, long_way: LiveServer) -> None:
    counted = []
    for server in (short_way, long_way):
        for path, body, headers in ASKED.values():
            server.ask("POST", path, body, headers)
        lines = server.get("/metrics").body.decode().splitlines()
        counted.append({line for line in lines if line.startswith("lectern_requests_total")})
    assert counted[0] == counted[1]
    assert any('path="/v2/models/{name}/infer"' in line for line in counted[0])


def test_a_deadline_at_once_is_504_and_503_where_triton_says_so(short_way: LiveServer) -> None:
    told = short_way.send("image/png", PNG, "model=shades", x_request_deadline_ms="0").problem(504)
    assert (told["type"], told["subject"]) == ("/errors/too-late", "deadline")
    assert short_way.ask("POST", INFER, ROWS[0].tobytes(), {**RAW, "X-Request-Deadline-Ms": "0"}).status == 503


def test_a_kept_connection_takes_answer_after_answer_and_pipelined_ones_in_order(short_way: LiveServer) -> None:
    def request(level: int, connection: str) -> bytes:
        body = np.full((1, 32, 32, 3), level, np.uint8).tobytes()
        head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nInference-Header-Content-Length: 0\r\nConnection: {connection}\r\n"
        return head.encode() + b"X-Request-Id: level-%d\r\nContent-Length: %d\r\n\r\n" % (level, len(body)) + body

    received = short_way.raw(request(10, "keep-alive") + request(20, "keep-alive") + request(30, "close"), close=False)
    assert received.count(b"HTTP/1.1 200 OK") == 3
    places = [received.index(b"x-request-id: level-%d" % level) for level in (10, 20, 30)]
    assert places == sorted(places)
    assert received.count(b"connection: close") == 1
