"""Coders for tests, whose every answer is known: see `tests.made_models.coder_onnx`.

Requests that the tests of several tasks send, and how they read the answers, are here as well.
"""

from __future__ import annotations

import base64
import io
import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.app.live import LiveServer, Reply
from tests.made_models import PHOTO, make_classifier_folder, make_coder_folder

JSON, PNG, NPY = "application/json", "image/png", "application/x-npy"
ERRORS = tuple(0.006 * k for k in range(1, 41))
SIDE = PHOTO.height
MOST = 40  # rows in one request

Fault = tuple[Any, str, str, int, str, tuple[str, ...]]
"""A request that is refused: its body, query and `Accept`; the status, the subject, and words of the problem."""


def make_coders(root: Path) -> None:
    """`plain` and `normal` with a code of two numbers, `five` with its channels first, `one`, and a classifier."""
    make_coder_folder(root, "plain", errors=ERRORS)
    make_coder_folder(root, "normal", prior=True)
    make_coder_folder(root, "five", bands=5, prior=True, picture=PHOTO.model_copy(update={"layout": "chw"}))
    make_coder_folder(root, "one", bands=1)
    make_classifier_folder(root, "shades", picture=PHOTO)


def banded(*levels: int) -> NDArray[np.uint8]:
    """A picture of even horizontal bands, (32, 32, 3)."""
    rows = np.array(levels, np.uint8)[np.arange(SIDE) * len(levels) // SIDE]
    return np.ascontiguousarray(np.broadcast_to(rows[:, None, None], (SIDE, SIDE, 3)))


def striped() -> NDArray[np.uint8]:
    """White stripes beside black ones in the upper band, which the code cannot hold; the lower band black."""
    picture = banded(0, 0)
    picture[: SIDE // 2, ::2] = 255
    return picture


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def ask(
    server: LiveServer, path: str, value: Any = None, query: str = "", *, kind: str = JSON, **headers: str
) -> Reply:
    """POST a JSON value, or bytes of some other kind, or nothing."""
    body = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    named = {name.replace("_", "-"): header for name, header in headers.items()}
    declared = {} if body is None else {"Content-Type": kind}
    return server.ask("POST", path + (f"?{query}" if query else ""), body, {**declared, **named})


def check_fault(server: LiveServer, path: str, fault: Fault, *, kind_of_bytes: str = JSON) -> None:
    value, query, accept, status, subject, words = fault
    kind = kind_of_bytes if isinstance(value, bytes) else JSON
    ask(server, path, value, query, kind=kind, accept=accept).assert_refused(status, subject, words)


def at_once(server: LiveServer, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[tuple[bytes, bytes]]:
    """(head, body) of an answer as rows to each, sent from as many connections before the first is read."""
    lines = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in bodies]
    try:
        for line, value in zip(lines, bodies, strict=True):
            body = json.dumps(value).encode()
            head = f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: {NPY}\r\nContent-Type: {JSON}\r\n"
            line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answers = []
        for line in lines:
            answer = b""
            while chunk := line.recv(1 << 16):
                answer += chunk
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), answer[:500]
            answers.append((head, body))
        return answers
    finally:
        for line in lines:
            line.close()


def answered(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, reply.body
    assert reply.header("content-type") == JSON
    read: dict[str, Any] = reply.json()
    return read


def opened(png: bytes | str) -> NDArray[np.uint8]:
    """The pixels of a PNG, or of one in base64."""
    data = base64.b64decode(png, validate=True) if isinstance(png, str) else png
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.array(image)


def images(results: Iterable[Mapping[str, Any]]) -> NDArray[np.uint8]:
    return np.stack([opened(result["image"]) for result in results])


def rows_of(reply: Reply) -> NDArray[Any]:
    assert (reply.status, reply.header("content-type")) == (200, NPY), reply.body[:500]
    rows: NDArray[Any] = np.load(io.BytesIO(reply.body))
    return rows


def runs(server: LiveServer, model: str, graph: str) -> int:
    """How many runs that graph has made."""
    return int(server.app.state.registry.catalog.get(model).counters[graph].runs)


def levels_of(codes: Any, *, prior: bool = False) -> NDArray[np.uint8]:
    """The grey levels that the decoder makes of codes, whatever their shape."""
    values = np.asarray(codes, np.float64)
    return np.rint(255 * np.clip(0.5 + 0.25 * values if prior else values, 0, 1)).astype(np.uint8)
