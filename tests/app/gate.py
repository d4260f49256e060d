"""Runs that wait to be let through, and requests that are sent and not waited for."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

from tests.app.live import LiveServer

PATIENCE_S = 20


class Gate:
    """Before the runs of a model's denoiser: each waits to be let through, and is written down."""

    def __init__(self, server: LiveServer, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batcher = server.app.state.registry.catalog.get(model)._batchers["denoiser"]
        self.run = self.batcher._runner.run
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.rows: list[int] = []
        self.levels: list[set[int]] = []  # of noise, told of the rows of each run
        self.waiting: list[int] = []
        monkeypatch.setattr(self.batcher._runner, "run", self)
        monkeypatch.setattr(self.batcher, "_inline_s", 0.0)  # on a thread of its own, so that the loop goes on

    def __call__(self, tensors: Any) -> Any:
        self.rows.append(len(tensors["x"]))
        self.levels.append(set(np.rint(255 * tensors["sigma"]).astype(int).tolist()))
        self.waiting.append(self.batcher._queue.rows)
        self.entered.release()
        assert self.go.acquire(timeout=PATIENCE_S)
        return self.run(tensors)

    def wait(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_S)

    def open(self) -> None:
        self.go.release(1000)

    def on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for what the server's own event loop does."""
        asyncio.run_coroutine_threadsafe(work, self.batcher._loop).result(PATIENCE_S)


def post(server: LiveServer, path: str, body: bytes, *, kind: str, accept: str = "*/*") -> socket.socket:
    """A request that is sent and not waited for."""
    line = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: {accept}\r\nContent-Type: {kind}\r\n"
    line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return line


def received(line: socket.socket) -> bytes:
    answer = b""
    while chunk := line.recv(1 << 16):
        answer += chunk
    line.close()
    return answer
