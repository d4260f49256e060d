"""Requests of every form for every model of a folder, and requests that must be refused: what the soak sends."""

from __future__ import annotations

import base64
import csv
import gzip
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.codecs.npy import encode_npy
from app.codecs.open_inference import DATATYPES
from app.core.manifest import MANIFEST_FILE, Graph, Manifest, Picture, TensorSpec, numpy_dtype
from app.core.manifest.latent import Latent
from app.core.manifest.table import NumberColumn
from tests.bench.shapes import HEADER_LENGTH, JSON, Headers, dense

PAGES: Final = ("/health/ready", "/metrics", "/v1/models", "/v2", "/openapi.json", "/docs")
FREE_AXIS: Final = 4  # rows aside, what an axis of no fixed size gets


@dataclass(slots=True)
class Truth:
    """What is right to answer; None until the first answer has said it."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Send:
    """One request, what it is called in the report, and the first digit of the status that is right; where there is a
    truth, what is to be read of the answer and must equal it."""

    kind: str
    method: str
    path: str
    headers: Headers
    body: bytes
    good: int = 2
    truth: Truth | None = None
    reads: Callable[[bytes], Any] | None = None

    def is_right(self, status: int, body: bytes) -> bool:
        if status // 100 != self.good or self.reads is None or self.truth is None:
            return status // 100 == self.good
        read = self.reads(body)
        if self.truth.value is None:
            self.truth.value = read
        return bool(read == self.truth.value)

    def raw(self, host: str) -> bytes:
        headers = {"Host": host, "Content-Length": str(len(self.body)), **self.headers}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def mixture(folder: Path, *, times: int = 4) -> list[Send]:
    """Every form for every model of the folder so many times, and as many of the others again."""
    from tests.bench import sound_forms  # here: it makes these requests too

    files = sorted(folder.glob(f"*/*/{MANIFEST_FILE}"))
    manifests = [Manifest.model_validate_json(p.read_bytes()) for p in files]
    rng = np.random.default_rng(0)
    made = [send for manifest in manifests for _ in range(times) for send in of_model(manifest, rng)]
    for file, manifest in zip(files, manifests, strict=True):
        if manifest.modality == "audio":
            made += [*sound_forms.of_sound(file.parent, manifest)] * times
        elif manifest.modality == "video":
            made += [*sound_forms.of_clips(manifest)] * times
    made += [Send(f"GET {path}", "GET", path, {}, b"") for path in PAGES]
    return made + list(bad(manifests[0].name)) * 2


def of_model(manifest: Manifest, rng: np.random.Generator) -> Iterator[Send]:
    for name, graph in manifest.graphs.items():
        address = manifest.name if len(manifest.graphs) == 1 else f"{manifest.name}.{name}"
        for rows in (1, 5):
            yield from protocol(f"/v2/models/{address}/infer", graph, rows, rng)
    if manifest.modality in ("audio", "video"):
        return
    source = [domain.name for domain in manifest.domains[:1]]
    path = f"/v1/{manifest.task}" + "".join(f"?from={name}" for name in source)
    query = f"{path}{'&' if source else '?'}model={manifest.name}"
    if "denoise" in manifest.tasks:
        yield from noisy(manifest, rng)
    if manifest.task == "generate":
        yield from drawn(manifest, rng)
    if manifest.task in ("generate", "denoise"):
        return
    spec = next(iter(manifest.graphs.values())).inputs[0]
    rows = random(spec, 7, rng)
    if manifest.table is not None:  # a category is its index
        rows[:, [not isinstance(column, NumberColumn) for column in manifest.table.columns]] = 0
    yield Send("npy", "POST", query, {"Content-Type": "application/x-npy"}, encode_npy(rows))
    for picture in [domain.picture for domain in manifest.domains[:1]] or [manifest.picture]:
        if picture is not None:
            yield from pictures(path, query, manifest.name, picture, rng)
    if manifest.table is not None:
        records = [manifest.table.middle_row()] * 5
        yield Send("table JSON", "POST", path, JSON, dense({"model": manifest.name, "instances": records}))
        yield Send("table CSV", "POST", query, {"Content-Type": "text/csv"}, csv_of(records))
    if manifest.latent is not None:
        yield from generated(manifest, manifest.latent, rng)


def csv_of(rows: list[dict[str, float | str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def generated(manifest: Manifest, latent: Latent, rng: np.random.Generator) -> Iterator[Send]:
    model: dict[str, Any] = {"model": manifest.name}
    if manifest.drawn_labels:
        model["label"] = manifest.drawn_labels[0]
    codes = rng.normal(size=(3, latent.size)).round(3).tolist()
    png = {**JSON, "Accept": "image/png"}
    yield Send("latents", "POST", "/v1/generate", JSON, dense({**model, "latents": codes}))
    way = {**model, "between": codes[:2], "frames": 8}
    yield Send("between", "POST", "/v1/generate", png, dense(way))
    if latent.size == 2:
        yield Send("grid", "POST", "/v1/generate", png, dense({**model, "grid": {"side": 8}}))
    if latent.prior is not None:
        drawn = {**model, "n": 9, "seed": int(rng.integers(1000))}
        yield Send("prior", "POST", "/v1/generate", png, dense(drawn))


def drawn(manifest: Manifest, rng: np.random.Generator) -> Iterator[Send]:
    """Pictures of nothing but a seed, and of each label; step by step where that is how they are made."""
    ways: list[dict[str, Any]] = [{"n": 5}]
    if manifest.drawn_labels:
        ways.append({"labels": list(manifest.drawn_labels[:3])})
    if manifest.latent is not None:
        yield from generated(manifest, manifest.latent, rng)
    if manifest.sampling is not None:
        ways += [{"n": 2, "sampler": one.name, "steps": min(3, one.max_steps)} for one in manifest.sampling.samplers]
    for way in ways:
        body = dense({"model": manifest.name, "seed": int(rng.integers(1000)), **way})
        yield Send("drawn", "POST", "/v1/generate", JSON, body)
        if manifest.sampling is not None:
            yield Send("streamed", "POST", "/v1/generate", {**JSON, "Accept": "text/event-stream"}, body)


def noisy(manifest: Manifest, rng: np.random.Generator) -> Iterator[Send]:
    """Noise of a level that is told, and of one that is not."""
    p = manifest.picture
    height, width, channels = (p.height, p.width, p.channels) if p else (61, 93, 1)
    query, npy = f"/v1/denoise?model={manifest.name}", {"Content-Type": "application/x-npy"}
    rows = rng.normal(0.3, 0.2, (2, height, width, channels)).astype(np.float32)
    yield Send("noisy npy", "POST", query, npy, encode_npy(rows))
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(file, "PNG")
    yield Send("noisy PNG", "POST", f"{query}&sigma_255=50", {"Content-Type": "image/png"}, file.getvalue())


def protocol(path: str, graph: Graph, rows: int, rng: np.random.Generator) -> Iterator[Send]:
    tensors = {spec.name: random(spec, rows, rng) for spec in graph.inputs}
    heads = [
        {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": list(tensors[spec.name].shape)}
        for spec in graph.inputs
    ]
    data: list[dict[str, Any]] = [{**head, "data": tensors[str(head["name"])].ravel().tolist()} for head in heads]
    body = dense({"inputs": data})
    yield Send("OIP JSON", "POST", path, JSON, body)
    zipped = {**JSON, "Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    yield Send("OIP gzip", "POST", path, zipped, gzip.compress(body))
    sizes = [{**head, "parameters": {"binary_data_size": tensors[str(head["name"])].nbytes}} for head in heads]
    start = dense({"inputs": sizes, "parameters": {"binary_data_output": True}})
    raw = b"".join(tensor.tobytes() for tensor in tensors.values())
    yield Send("OIP binary", "POST", path, {HEADER_LENGTH: str(len(start))}, start + raw)
    if rows == len(tensors) == 1:
        yield Send("OIP raw", "POST", path, {HEADER_LENGTH: "0"}, raw)


def random(spec: TensorSpec, rows: int, rng: np.random.Generator) -> NDArray[Any]:
    """Rows that the graph takes: small numbers of its type."""
    shape = (rows, *(axis if isinstance(axis, int) else FREE_AXIS for axis in spec.shape[1:]))
    dtype = numpy_dtype(spec.dtype)
    if spec.name == "length":  # of a row: at least 1, and no more than there is of it
        return rng.integers(1, FREE_AXIS + 1, shape).astype(dtype)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 256 if dtype.kind == "u" else 2, shape).astype(dtype)  # a label of any model


def pictures(path: str, query: str, model: str, picture: Picture, rng: np.random.Generator) -> Iterator[Send]:
    """A picture of three times the size, as what it is, in a form, as base64; and pixels."""
    height, width = picture.height * 3, picture.width * 3
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[height // 5 : height // 2, width // 4 : width // 3] = rng.integers(100, 256, 3)
    pixels[height // 2 : height - 9, width // 4 : width - 12] = rng.integers(100, 256, 3)
    files = {}
    for name in ("PNG", "JPEG", "WEBP"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, name)
        files[name] = file.getvalue()
        yield Send(name, "POST", query, {"Content-Type": f"image/{name.lower()}"}, files[name])
    parts = b"".join(
        b'--line\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\n' + files["PNG"] + b"\r\n"
        for _ in range(3)
    )
    yield Send("form", "POST", query, {"Content-Type": "multipart/form-data; boundary=line"}, parts + b"--line--\r\n")
    text = base64.b64encode(files["JPEG"]).decode()
    yield Send("base64", "POST", path, JSON, dense({"model": model, "images": [text, text]}))
    nested = rng.integers(0, 256, (picture.height, picture.width, picture.channels)).tolist()
    yield Send("pixels", "POST", path, JSON, dense({"model": model, "image": nested}))


def bad(model: str) -> Iterator[Send]:
    """What must be refused with a status of 400 to 499."""
    infer, png = f"/v2/models/{model}/infer", {"Content-Type": "image/png"}
    yield Send("refused", "POST", "/v1/classify", JSON, b'{"image": [[1, 2', 4)
    yield Send("refused", "POST", "/v1/classify", JSON, b'{"image": "not base64!"}', 4)
    yield Send("refused", "POST", "/v1/classify?model=nobody", png, b"\x89PNG\r\n\x1a\n" + bytes(50), 4)
    yield Send("refused", "POST", "/v1/classify", png, b"\x89PNG\r\n\x1a\n" + bytes(500), 4)
    yield Send("refused", "POST", "/v1/classify", {"Content-Type": "text/plain"}, b"hello", 4)
    yield Send("refused", "POST", infer, {HEADER_LENGTH: "0"}, bytes(3), 4)
    yield Send("refused", "POST", infer, {HEADER_LENGTH: "9999"}, b"{}", 4)
    yield Send("refused", "POST", infer, JSON, b'{"inputs": []}', 4)
    yield Send("refused", "GET", "/no/such/page", {}, b"", 4)
