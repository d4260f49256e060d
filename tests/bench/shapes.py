"""The forms of request that are measured, and how their answers are read back."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.codecs.images.files import decode
from app.codecs.npy import encode_npy
from tests.bench.models import PICTURE, images, numbers

Headers = Mapping[str, str]
Probabilities = NDArray[np.float32]
HEADER_LENGTH: Final = "Inference-Header-Content-Length"
RAW: Final = {"Content-Type": "application/octet-stream", HEADER_LENGTH: "0"}
JSON: Final = {"Content-Type": "application/json"}
DISTINCT: Final = 64  # different bodies, sent in turn


@dataclass(frozen=True, slots=True)
class Request:
    """One request, and the rows that the model must be given for it."""

    path: str
    headers: Headers
    body: bytes
    rows: NDArray[Any]

    def raw(self, host: str) -> bytes:
        """The bytes on the wire, HTTP/1.1, to be kept alive."""
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


@dataclass(frozen=True, slots=True)
class Shape:
    """One form of request."""

    what: str
    rows: int
    make: Callable[[str, NDArray[Any]], Request]  # model's name, rows
    read: Callable[[Headers, bytes], Probabilities]  # headers in lower case, body

    def requests(self, model: str) -> list[Request]:
        """DISTINCT requests (fewer of the large ones), no two alike."""
        count = DISTINCT if self.rows == 1 else 8
        source = numbers if model == "heavy" else images
        rows: NDArray[Any] = source(count * self.rows)
        return [self.make(model, rows[i * self.rows : (i + 1) * self.rows]) for i in range(count)]


def raw(model: str, rows: NDArray[Any]) -> Request:
    return Request(f"/v2/models/{model}/infer", RAW, rows.tobytes(), rows)


def oip_json(model: str, rows: NDArray[Any]) -> Request:
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return Request(f"/v2/models/{model}/infer", JSON, dense({"inputs": [tensor]}), rows)


def oip_binary(model: str, rows: NDArray[Any]) -> Request:
    size = {"binary_data_size": rows.nbytes}
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(rows.shape), "parameters": size}
    head = dense({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return Request(f"/v2/models/{model}/infer", headers, head + rows.tobytes(), rows)


def npy(model: str, rows: NDArray[Any]) -> Request:
    return Request(f"/v1/classify?model={model}", {"Content-Type": "application/x-npy"}, encode_npy(rows), rows)


def nested(model: str, rows: NDArray[Any]) -> Request:
    return Request("/v1/classify", JSON, dense({"model": model, "image": rows[0, 0].tolist()}), rows)


def png(model: str, rows: NDArray[Any]) -> Request:
    """Nearly all of the time goes into finding the writing, which is centred and scaled."""
    file = io.BytesIO()
    Image.fromarray(rows[0, 0]).save(file, "PNG")
    data = file.getvalue()
    return Request(f"/v1/classify?model={model}", {"Content-Type": "image/png"}, data, _read(data))


def digit(model: str, rows: NDArray[Any]) -> Request:
    """Centred and scaled already, as MNIST's digits are: it is decoded and nothing else."""
    return png(model, _read(png(model, rows).body))


def _read(data: bytes) -> NDArray[np.uint8]:
    """What the model is given: (1, 1, 28, 28)."""
    return decode(data, PICTURE, subject="body", max_pixels=28 * 28)[None]


def dense(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def from_oip(headers: Headers, body: bytes) -> Probabilities:
    length = headers.get(HEADER_LENGTH.lower())
    if length is not None:
        return np.frombuffer(body[int(length) :], np.float32)
    return np.array(json.loads(body)["outputs"][0]["data"], np.float32)


def from_classify(headers: Headers, body: bytes) -> Probabilities:
    return np.array([list(r["probabilities"].values()) for r in json.loads(body)["results"]], np.float32)


SHAPES: Final[dict[str, Shape]] = {
    "A": Shape("/v2 raw: one row's bytes", 1, raw, from_oip),
    "B": Shape("/v2 JSON: 784 numbers", 1, oip_json, from_oip),
    "C": Shape("/v2 binary: 64 rows", 64, oip_binary, from_oip),
    "N": Shape("/v1/classify, .npy", 1, npy, from_classify),
    "J": Shape("/v1/classify, JSON of nested pixels", 1, nested, from_classify),
    "P": Shape("/v1/classify, a PNG file", 1, png, from_classify),
    "D": Shape("/v1/classify, a PNG file as MNIST has them", 1, digit, from_classify),
}
