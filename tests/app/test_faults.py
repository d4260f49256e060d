"""What clients and inputs do wrong to a real process: nobody else notices, and the metrics say what it was."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from onnx import TensorProto, helper

from app.codecs.npy import encode_npy
from tests.app.load import ask_until, request_of
from tests.app.server.test_shutdown import Line, get
from tests.app.server.test_supervisor import scraped
from tests.app.test_main import process
from tests.app.test_starving import waits_ms
from tests.made_models import LABELS, classifier_manifest, classifier_onnx, onnx_bytes, write_folder

KNOWN = 200  # pixels as bright as this, or brighter, are in nobody's table
SIDE = 400
MANY = tuple(f"label {k}" for k in range(1000))


def picky_onnx() -> bytes:
    """The row of a table that the brightest pixel names; one that the table does not have raises."""
    table = np.zeros((KNOWN, len(LABELS)), np.float32)
    table[np.arange(KNOWN), np.arange(KNOWN) % len(LABELS)] = 1
    return onnx_bytes(
        [
            helper.make_node("Cast", ["image"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Flatten", ["whole"], ["flat"], axis=1),
            helper.make_node("Cast", ["flat"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["floats"], ["brightest"], axes=[1], keepdims=0),
            helper.make_node("Cast", ["brightest"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "place"], ["probabilities"], axis=0),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", 28, 28, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", len(LABELS)])],
        {"table": table},
    )


def slow_onnx(times: int = 1) -> bytes:
    """Multiplies large matrices `times` as many times as the brightest pixel says, then answers the same to all."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "matrix"], ["after"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("before", TensorProto.FLOAT, [SIDE, SIDE]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("after", TensorProto.FLOAT, [SIDE, SIDE])],
    )
    return onnx_bytes(
        [
            helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["floats"], ["brightest"], keepdims=0),
            helper.make_node("Mul", ["brightest", "times"], ["product"]),
            helper.make_node("Cast", ["product"], ["turns"], to=TensorProto.INT64),
            helper.make_node("Loop", ["turns", "", "matrix"], ["last"], body=body),
            helper.make_node("ReduceMax", ["last"], ["zero"], keepdims=0),
            helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "nothing"], ["zeros"]),
            helper.make_node("Add", ["zeros", "zero"], ["sums"]),
            helper.make_node("Softmax", ["sums"], ["probabilities"], axis=1),
        ],
        [value("image", TensorProto.UINT8, ["rows", 28, 28, 1])],
        [value("probabilities", TensorProto.FLOAT, ["rows", len(LABELS)])],
        {
            "times": np.float32(times),
            "matrix": np.zeros((SIDE, SIDE), np.float32),
            "nothing": np.zeros((784, len(LABELS)), np.float32),
        },
    )


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    root = tmp_path_factory.mktemp("models")
    for name, graph in (("picky", picky_onnx()), ("slow", slow_onnx())):
        write_folder(root, classifier_manifest(graph, name=name), {"classifier.onnx": graph})
    tall = classifier_onnx(len(MANY))
    write_folder(root, classifier_manifest(tall, name="tall", labels=MANY, max_rows=64), {"classifier.onnx": tall})
    flags = ("--models", str(root), "--device", "cpu", "--threads", "1", "--log-level", "error")
    with process(*flags, errors=subprocess.DEVNULL) as (started, _, port):
        yield port
        assert started.poll() is None


def bright(model: str, pixel: int, accept: str = "*/*", rows: int = 1) -> bytes:
    body = encode_npy(np.full((rows, 28, 28, 1), pixel, np.uint8))
    request = request_of(f"/v1/classify?model={model}", body, "application/x-npy")
    return request.replace(b"\r\n\r\n", f"\r\nAccept: {accept}\r\n\r\n".encode(), 1)


def grown(port: int, before: dict[str, float], name: str) -> float:
    """By how much a counter has grown, over all labels that begin with `name`."""
    now = scraped(port)
    return sum(value - before.get(key, 0) for key, value in now.items() if key.startswith(name))


def test_a_poisoned_row_fails_its_own_request_and_none_of_its_neighbours(port: int) -> None:
    def ask(client: int) -> Counter[tuple[int, int]]:
        seen: Counter[tuple[int, int]] = Counter()
        with Line(port) as line:
            for turn in range(40):
                poisoned = turn % 4 == client % 4
                pixel = 230 if poisoned else client * 4
                status, _, reported = line.ask(bright("picky", pixel))
                seen[poisoned, status] += 1
                if not poisoned:
                    assert reported["results"][0]["index"] == pixel % len(LABELS)
        return seen

    before = scraped(port)
    with ThreadPoolExecutor(8) as pool:
        seen = sum(pool.map(ask, range(8)), Counter())
    assert seen == {(True, 500): 80, (False, 200): 240}
    assert grown(port, before, 'lectern_engine_failed_total{graph="classifier",model="picky"') == 80
    assert grown(port, before, 'lectern_engine_succeeded_total{graph="classifier",model="picky"') == 240
    assert grown(port, before, 'lectern_requests_total{method="POST",path="/v1/classify",status="500"}') == 80


def test_clients_that_hang_up_in_the_queue_and_in_the_run_are_counted_by_cause_and_leave_no_work(port: int) -> None:
    of_slow = 'graph="classifier",model="slow",version="1"}'
    cancelled = 'lectern_cancelled_total{cause="%s",' + of_slow
    queued = f"lectern_engine_queued_rows{{{of_slow}"

    def waiting() -> float:
        with Line(port) as line:
            line.send(get("/metrics"))
            page = line.answer_of_any()[2].decode()
        return sum(float(text.split()[-1]) for text in page.splitlines() if text.startswith(queued))

    with Line(port) as line:  # from here on it is known to be slow, and has a thread to run in
        assert line.ask(bright("slow", 200))[0] == 200
    before = scraped(port)
    with Line(port) as patient, Line(port) as in_run:
        in_run.send(bright("slow", 250))
        ask_until(lambda: grown(port, before, f"lectern_engine_requests_total{{{of_slow}") == 1 and waiting() == 0)
        with Line(port) as in_queue:
            in_queue.send(bright("slow", 255))
            ask_until(lambda: waiting() == 1)
        ask_until(lambda: waiting() == 0)
        in_run.close()
        assert patient.ask(bright("slow", 1))[0] == 200
    ask_until(
        lambda: grown(port, before, 'lectern_requests_total{method="POST",path="/v1/classify",status="499"}') == 2
    )
    assert grown(port, before, cancelled % "in the queue") == 1
    assert grown(port, before, cancelled % "in a run") == 1
    assert grown(port, before, f"lectern_engine_runs_total{{{of_slow}") == 2, "the one in the queue was never run"


@pytest.mark.skipif(sys.platform != "linux", reason="counts on Linux's buffers")
def test_readers_that_stop_reading_their_answers_hold_up_nobody_and_still_get_all(port: int) -> None:
    request = bright("tall", 90, accept="application/x-npy", rows=256)  # 1 MB each
    before = scraped(port)
    with ExitStack() as opened:
        stopped = []
        for _ in range(8):
            line = opened.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.settimeout(20)
            line.connect(("127.0.0.1", port))
            line.sendall(request)
            stopped.append(line)
        waits = waits_ms(port, bright("picky", 3), 100)
        assert sorted(waits)[90] < 100
        answers = []
        for line in stopped:
            file = opened.enter_context(line.makefile("rb"))
            assert file.readline().startswith(b"HTTP/1.1 200")
            length = 0
            while head := file.readline().strip().lower():
                length = int(head.split(b":")[1]) if head.startswith(b"content-length:") else length
            answers.append(file.read(length))
    assert len({*answers}) == 1
    assert len(answers[0]) > 256 * len(MANY) * 4
    assert grown(port, before, 'lectern_requests_total{method="POST",path="/v1/classify",status="200"}') == 108
