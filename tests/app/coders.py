"""Coders for tests, whose every answer is known: see `tests.models_made.coder_onnx`."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping
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
