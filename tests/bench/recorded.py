"""Requests in every form of body and with every kind of error, made of a few pictures: the same at every call.

What is here holds for any model; `recorded_tasks.py` and `recorded_protocol.py` ask the shipped ones. None of them
knows the server's code.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.bench.shapes import JSON, dense

NPY, CSV, PNG, EVENTS = "application/x-npy", "text/csv", "image/png", "text/event-stream"
FILES: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
BOUNDARY: Final = "a-line-that-no-picture-has"
FORM: Final = f"multipart/form-data; boundary={BOUNDARY}"
TOO_MANY_BYTES: Final = 40 << 20
TOO_MANY_PIXELS: Final = 7100  # squared

Headers = Mapping[str, str]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request, what it is called in a report, and the status that its answer must have."""

    name: str
    path: str
    body: bytes | None = None
    headers: Headers = field(default_factory=dict)
    status: int = 200
    method: str = "POST"


def npy(rows: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def picture(pixels: Pixels, form: str = "PNG") -> bytes:
    """A file of (H, W), (H, W, 1) or (H, W, 3)."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(file, form)
    return file.getvalue()


@cache
def too_large() -> bytes:
    """Few bytes, many pixels."""
    return picture(np.zeros((TOO_MANY_PIXELS, TOO_MANY_PIXELS), np.uint8))


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def form(*files: bytes, **fields: str) -> bytes:
    """A body of the type FORM: files named `image`, then fields."""
    parts = [('image"; filename="p.png', data) for data in files]
    parts += [(name, value.encode()) for name, value in fields.items()]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
    return b"".join((head % name).encode() + data + b"\r\n" for name, data in parts) + f"--{BOUNDARY}--\r\n".encode()


def typed(kind: str, accept: str = "") -> dict[str, str]:
    return {"Content-Type": kind} | ({"Accept": accept} if accept else {})


def address(path: str, **options: object) -> str:
    return path + "?" * bool(options) + "&".join(f"{name}={value}" for name, value in options.items())


def pictures(path: str, pixels: Pixels, **options: object) -> Iterator[Recorded]:
    """Two pictures (2, H, W, C) in every form of body, with options in the query, in the form or in JSON."""
    ask = address(path, **options)
    first, second = (picture(row) for row in pixels)
    for kind in FILES:
        yield Recorded(f"{kind} file", ask, picture(pixels[0], kind), typed(f"image/{kind.lower()}"))
    fields = {name: str(value) for name, value in options.items()}
    yield Recorded("form of one file", ask, form(first), typed(FORM))
    yield Recorded("form of two files and fields", path, form(first, second, **fields), typed(FORM))
    yield Recorded("base64", path, dense({"image": text(first), **options}), JSON)
    yield Recorded("base64 as a data: URL", ask, dense({"image": f"data:image/png;base64,{text(first)}"}), JSON)
    yield Recorded("two in base64", path, dense({"images": [text(first), text(second)], **options}), JSON)
    flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    yield Recorded("nested pixels", ask, dense({"image": flat[0].tolist()}), JSON)
    yield Recorded("nested pixels and base64", ask, dense({"images": [pixels[0].tolist(), text(second)]}), JSON)
    yield Recorded("npy", ask, npy(pixels), typed(NPY))
    yield Recorded("npy in Fortran's order", ask, npy(np.asfortranarray(pixels)), typed(NPY))


def wrong_pictures(path: str, pixels: Pixels, **options: object) -> Iterator[Recorded]:
    """Bodies that nobody can read, with pixels as in `pictures`."""
    ask, file = address(path, **options), picture(pixels[0])
    yield Recorded("no body", ask, b"", typed(PNG), 422)
    yield Recorded("half a PNG", ask, file[: len(file) // 2], typed(PNG), 422)
    yield Recorded("a PDF", ask, b"%PDF-1.7 and so on", typed(PNG), 415)
    yield Recorded("a picture too small", ask, picture(pixels[0, :2, :2]), typed(PNG), 422)
    yield Recorded("a picture too large", ask, too_large(), typed(PNG), 413)
    yield Recorded("no base64", ask, b'{"image": "no base64!"}', JSON, 422)
    yield Recorded("a picture that is a number", ask, b'{"image": 5}', JSON, 422)
    ragged = [[1, 2, 3, 4], [1, 2], [1, 2, 3, 4], [1, 2, 3, 4]]
    yield Recorded("ragged pixels", ask, dense({"image": ragged}), JSON, 422)
    yield Recorded("image and images", ask, dense({"image": text(file), "images": [text(file)]}), JSON, 422)
    yield Recorded("a form without a picture", ask, form(), typed(FORM), 422)
    yield Recorded("a form with a field that there is not", ask, form(file, imagine="1"), typed(FORM), 422)
    yield Recorded("a form without a boundary", ask, form(file), typed("multipart/form-data"), 422)
    yield Recorded("rows of another size", ask, npy(pixels[:, :-1]), typed(NPY), 422)
    yield Recorded("rows of another type", ask, npy(pixels.astype(np.complex64)), typed(NPY), 422)
    yield Recorded("no npy", ask, b"numbers", typed(NPY), 415)


def refused(path: str, body: bytes, headers: Headers, *, other: str, **options: object) -> Iterator[Recorded]:
    """What every task refuses beside a body that it would answer; `other` is a model of another task."""
    ask = address(path, **options)
    for name, options_, status in (
        ("no such model", {"model": "none"}, 404),
        ("no such version", {"model": other, "version": 9}, 404),
        ("a model of another task", {"model": other}, 422),
        ("no such option", {"modle": "x"}, 422),
        ("no such version of the default", {"version": 7}, 404),
    ):
        yield Recorded(name, address(path, **{**options, **options_}), body, headers, status)
    yield Recorded("an option twice", f"{path}?version=1&version=2", body, headers, 422)
    for name, header, value, status in (
        ("no such form of answer", "Accept", "image/gif", 406),
        ("a deadline at once", "X-Request-Deadline-Ms", "0", 504),
        ("a deadline that is none", "X-Request-Deadline-Ms", "soon", 422),
        ("a patient client", "X-Request-Deadline-Ms", "50000", 200),
        ("a priority that is none", "X-Request-Priority", "9", 422),
        ("a client that goes first", "X-Request-Priority", "1", 200),
        ("a compressed body", "Content-Encoding", "gzip", 415),
        ("a content type that is not taken", "Content-Type", "text/plain", 415),
        ("an id that cannot be repeated", "X-Request-Id", "two words", 200),
    ):
        yield Recorded(name, ask, body, {**headers, header: value}, status)
    untyped = {name: value for name, value in headers.items() if name != "Content-Type"}
    yield Recorded("no content type", ask, body, untyped, 415)
    yield Recorded("a body too large", ask, None, {**headers, "Content-Length": str(TOO_MANY_BYTES)}, 413)
    yield Recorded("JSON cut short", path, b'{"image": [[1, 2', JSON, 422)
    yield Recorded("JSON with a field that there is not", path, b'{"imagine": 1}', JSON, 422)
    yield Recorded("JSON with a field twice", path, b'{"model": "a", "model": "b"}', JSON, 422)
    yield Recorded("JSON that is a list", path, b"[1, 2]", JSON, 422)
    yield Recorded("a model that is a number", path, b'{"model": 7}', JSON, 422)
    yield Recorded("a wrong method", path, None, {}, 405, "PUT")
    yield Recorded("GET", path, None, {}, 405, "GET")
