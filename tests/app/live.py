"""A whole server for tests: models made here, the real uvicorn on a port of its own, a plain client."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray

from app.main import create_app
from app.server.serving import Server, bind, uvicorn_config
from app.settings import Settings
from tests import made_models as models_made
from tests.in_loop import turns

DIGITS = ("none", "little", "some", "much", "all")
SHADES = tuple(f"shade {k}" for k in range(10))


def strokes() -> NDArray[np.uint8]:
    """Three pictures with ink, (3, 28, 28, 1): a bar, a corner, a ring."""
    rows = np.zeros((3, 28, 28, 1), np.uint8)
    rows[0, 5:23, 12:15] = 255
    rows[1, 5:22, 6:9] = rows[1, 19:22, 6:20] = 200
    rows[2, 6:22, 6:22] = 255
    rows[2, 9:19, 9:19] = 0
    return rows


def grey(level: int, side: int = 32) -> NDArray[np.uint8]:
    """A uniform picture (side, side, 3)."""
    return np.full((side, side, 3), level, np.uint8)


def make_models(root: Path) -> None:
    """`digits` 1 and 2, with golden rows that a person could read; `shades` (photos); `broken`, to be refused."""
    rows = strokes()
    for version, labels in (("1", ("paper", "ink")), ("2", DIGITS)):
        graph = models_made.classifier_onnx(len(labels))
        answers = models_made.brightness_probabilities(rows, len(labels)).astype(np.float32)
        golden = models_made.npz(image=rows, probabilities=answers)
        manifest = models_made.classifier_manifest(graph, name="digits", version=version, labels=labels)
        manifest["golden"] = {
            "file": "golden.npz",
            "sha256": models_made.sha256(golden),
            "graph": "classifier",
            "rows": len(rows),
            "atol": 1e-4,
        }
        folder = models_made.write_folder(root, manifest, {"classifier.onnx": graph, "golden.npz": golden})
    models_made.change_manifest(folder, report="report/index.html")
    (folder / "report").mkdir()
    (folder / "report" / "index.html").write_text("<!doctype html><title>r</title><p>a report", encoding="utf-8")
    models_made.make_classifier_folder(root, "shades", labels=SHADES, picture=models_made.PHOTO)
    broken = models_made.make_classifier_folder(root, "broken")
    models_made.change_manifest(broken, surprise=1)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) < 2, f"{name} came {len(found)} times: {found}"
        return found[0] if found else None

    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self, status: int) -> dict[str, Any]:
        """The problem that this must be, of this status."""
        assert self.status == status, (self.status, self.body[:500])
        assert self.header("content-type") == "application/problem+json"
        details: dict[str, Any] = self.json()
        assert details["status"] == status
        assert details["request_id"] == self.header("x-request-id")
        assert details["title"]
        assert details["detail"]
        return details

    def assert_refused(self, status: int, subject: str | None, words: Iterable[str]) -> dict[str, Any]:
        """The problem that this must be: of this status, with the subject (None: any) and every one of the words."""
        details = self.problem(status)
        assert subject in (None, details["subject"])
        everything = " ".join(str(details.get(key, "")) for key in ("detail", "expected", "got"))
        for word in words:
            assert word in everything
        return details


@dataclass(frozen=True)
class LiveServer:
    """A server that runs, and ways to talk to it."""

    port: int
    app: FastAPI
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the server's own event loop does; `condition` is looked at after each of its turns, on it."""
        asyncio.run_coroutine_threadsafe(turns(condition), self.loop).result()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, dict(headers or {}), encode_chunked=isinstance(body, Iterator))
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def send(self, kind: str, body: bytes, query: str = "", **headers: str) -> Reply:
        """POST /v1/classify."""
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return self.ask("POST", "/v1/classify" + (f"?{query}" if query else ""), body, {"Content-Type": kind, **named})

    def send_json(self, value: Any, query: str = "", **headers: str) -> Reply:
        return self.send("application/json", json.dumps(value).encode(), query, **headers)

    def send_form(self, *parts: tuple[str, bytes] | tuple[str, bytes, str], query: str = "", **headers: str) -> Reply:
        kind, body = form(*parts)
        return self.send(kind, body, query, **headers)

    def raw(self, request: bytes, *, close: bool = True) -> bytes:
        """All that comes back for these very bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            if close:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        return received


def form(*parts: tuple[str, bytes] | tuple[str, bytes, str]) -> tuple[str, bytes]:
    """(content type, body) of a form: (name, data) is a field, (name, data, filename) a file."""
    boundary = "a-line-that-no-picture-has"
    body = b""
    for name, data, *filename in parts:
        named = f'; filename="{filename[0]}"' if filename else ""
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + data + b"\r\n"
        )
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()


class _Server(Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI, opened: threading.Event) -> None:
        super().__init__(config, app)
        self._opened = opened
        self.loop: asyncio.AbstractEventLoop

    def capture_signals(self) -> AbstractContextManager[None]:
        return nullcontext()  # they belong to the main thread, which tests

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self._opened.set()


@contextmanager
def open_server(models: Path, **settings: Any) -> Iterator[LiveServer]:
    """Serve a folder from a thread until the block ends."""
    chosen = Settings(models=models, device="cpu", threads=1, port=0, **settings)
    app = create_app(chosen)
    listening = bind(chosen.host, 0)
    opened = threading.Event()
    server = _Server(uvicorn_config(app, chosen), app, opened)
    failed: list[BaseException] = []

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            await server.serve(sockets=[listening])

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # told to the test below
            failed.append(error)
            opened.set()

    thread = threading.Thread(target=run, name="server")
    thread.start()
    try:
        assert opened.wait(60)
        if not failed:
            yield LiveServer(listening.getsockname()[1], app, server.loop)
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
    if failed:
        raise failed[0]
    assert not thread.is_alive()
