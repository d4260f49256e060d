"""When the models cannot answer: a full queue, a passed deadline, a failed run, a server that is closing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.errors import Busy, InferenceFailed, Unavailable
from app.core.manifest import Tensors
from app.engine.runner import Answer
from tests.app.live import LiveServer, grey, open_server

PNG = encode_png(grey(100))


@pytest.fixture(scope="module")
def fragile(models: Path) -> Iterator[LiveServer]:
    with open_server(models, only=("shades",), request_timeout_s=0.1, docs=False) as opened:
        yield opened


@pytest.fixture
def run(fragile: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Awaitable[Answer]]], None]:
    """Sets what happens to a request that reaches the model."""
    (model,) = fragile.app.state.registry.catalog.models

    def set_run(behaviour: Callable[[], Awaitable[Answer]]) -> None:
        async def replaced(
            graph: str, tensors: Tensors, *, deadline: float, priority: int, of: int, owed: bool
        ) -> Answer:
            return await behaviour()

        monkeypatch.setattr(model, "run", replaced)

    return set_run


def raising(error: Exception) -> Callable[[], Awaitable[Answer]]:
    async def behaviour() -> Answer:
        raise error

    return behaviour


Set = Callable[[Callable[[], Awaitable[Answer]]], None]


def test_a_full_queue_answers_429_and_says_when_to_come_back(fragile: LiveServer, run: Set) -> None:
    run(raising(Busy("the queue is full", retry_after_s=2.6)))
    reply = fragile.send("image/png", PNG)
    assert reply.problem(429)["type"] == "/errors/busy"
    assert reply.header("retry-after") == "3"


def test_a_server_that_closes_answers_503(fragile: LiveServer, run: Set) -> None:
    run(raising(Unavailable("model 'shades' is shutting down")))
    assert fragile.send("image/png", PNG).problem(503)["detail"] == "model 'shades' is shutting down"


def test_a_model_that_does_not_answer_in_time_is_given_up_with_504(
    fragile: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model,) = fragile.app.state.registry.catalog.models
    batcher = model._batchers["classifier"]
    go_on, original = threading.Event(), batcher._runner.run

    def held(tensors: Tensors) -> dict[str, NDArray[Any]]:
        assert go_on.wait(20)
        answers: dict[str, NDArray[Any]] = original(tensors)
        return answers

    monkeypatch.setattr(batcher, "_inline_s", 0.0)
    monkeypatch.setattr(batcher._runner, "run", held)
    running = fragile.send("image/png", PNG).problem(504)  # given up while it is run
    queued = fragile.send("image/png", PNG, x_request_deadline_ms="20").problem(504)  # the run still goes on
    go_on.set()
    assert "while they were run" in running["detail"]
    assert "in the queue" in queued["detail"]
    assert (model.counters["classifier"].late_running, model.counters["classifier"].late_queued) == (1, 1)


def test_a_run_that_fails_is_a_500_that_names_the_model(fragile: LiveServer, run: Set) -> None:
    run(raising(InferenceFailed("model 'shades' could not be run")))
    details = fragile.send("image/png", PNG).problem(500)
    assert (details["type"], details["detail"]) == ("/errors/inference-failed", "model 'shades' could not be run")


def test_probabilities_that_are_not_numbers_are_never_sent(fragile: LiveServer, run: Set) -> None:
    async def poisoned() -> Answer:
        wrong = np.full((1, 10), np.nan, np.float32)
        return Answer(tensors={"probabilities": wrong}, queue_s=0.0, run_s=0.0, batch_rows=1)

    run(poisoned)
    for accept in ("application/json", "application/x-npy"):
        assert "not numbers" in fragile.send("image/png", PNG, accept=accept).problem(500)["detail"]


def test_it_answers_again_afterwards(fragile: LiveServer) -> None:
    assert fragile.send("image/png", PNG).status == 200


@pytest.mark.parametrize("rows", [5, 100], ids=["few rows", "more than is read ahead"])
def test_rows_of_a_client_that_hangs_up_leave_the_queue_before_they_are_run(
    models: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    began, go_on, ran = threading.Event(), threading.Event(), []
    with open_server(models, only=("shades",)) as server:
        (model,) = server.app.state.registry.catalog.models
        batcher = model._batchers["classifier"]
        original = batcher._runner.run

        def held(tensors: Tensors) -> dict[str, NDArray[Any]]:
            ran.append(len(tensors["image"]))
            began.set()
            assert go_on.wait(20)
            answers: dict[str, NDArray[Any]] = original(tensors)
            return answers

        monkeypatch.setattr(batcher._runner, "run", held)
        counters = batcher.counters

        def sent(rows: int) -> socket.socket:
            body = encode_npy(np.zeros((rows, 32, 32, 3), np.uint8))
            head = "POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-npy\r\n"
            head += f"Content-Length: {len(body)}"
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
            return connection

        with sent(1) as first:
            assert began.wait(20)
            second = sent(rows)
            server.until(lambda: counters.queued_rows == rows)
            second.close()
            server.until(lambda: counters.cancelled == 1)
            assert counters.queued_rows == 0
            go_on.set()
            assert first.recv(100).startswith(b"HTTP/1.1 200 ")
        assert server.send("image/png", PNG).status == 200
        assert ran == [1, 1]
        assert 'path="/v1/classify",status="499"} 1.0' in server.get("/metrics").body.decode()
