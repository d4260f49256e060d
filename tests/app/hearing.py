"""Sessions of `/v1/transcribe` by hand, and runs that wait to be let through."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.app.live import LiveServer
from tests.made_sounds import pcm

PATIENCE_S = 20
BROKEN_OFF = 1006
END = '{"event": "end"}'


class Gate:
    """Before the runs of a model's first graph: each waits to be let through, and its rows are written down."""

    def __init__(self, server: LiveServer, monkeypatch: pytest.MonkeyPatch, model: str = "listener") -> None:
        self.model = server.app.state.registry.catalog.get(model)
        self.batcher = next(iter(self.model._batchers.values()))
        self.run = self.batcher._runner.run
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.rows: list[int] = []
        monkeypatch.setattr(self.batcher._runner, "run", self)
        monkeypatch.setattr(self.batcher, "_inline_s", 0.0)  # on a thread of its own, so that the loop goes on

    def __call__(self, tensors: Any) -> Any:
        self.rows.append(len(tensors["sound"]))
        self.entered.release()
        assert self.go.acquire(timeout=PATIENCE_S)
        return self.run(tensors)

    def wait(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_S)

    def open(self) -> None:
        self.go.release(1000)


@contextmanager
def session(server: LiveServer, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    with connect(f"ws://127.0.0.1:{server.port}/v1/transcribe{query}", open_timeout=PATIENCE_S, **options) as line:
        yield line


def say(line: ClientConnection, samples: NDArray[np.floating[Any]], size: int = 1 << 14) -> None:
    """Send samples in messages of so many bytes."""
    data = pcm(samples)
    for at in range(0, len(data), size):
        line.send(data[at : at + size])


def event(line: ClientConnection) -> dict[str, Any]:
    """The next message."""
    read: dict[str, Any] = json.loads(line.recv(timeout=PATIENCE_S))
    return read


def rest(line: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    """All messages that are still to come, and the code with which the server closes."""
    found = []
    with suppress(ConnectionClosed):
        while True:
            found.append(event(line))
    code = line.close_code
    assert code is not None
    assert code != BROKEN_OFF
    return found, code
