"""Requests of the Open Inference Protocol, and of the pages that tell of the server and its models."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.bench.recorded import TOO_MANY_BYTES, Headers, Recorded
from tests.bench.recorded_tasks import golden
from tests.bench.shapes import HEADER_LENGTH, JSON, dense

DATATYPES: Final = {"uint8": "UINT8", "float32": "FP32", "int64": "INT64"}
Tensors = dict[str, NDArray[Any]]
PAGES: Final = (
    "/", "/docs", "/redoc", "/openapi.json", "/static/page.css", "/health/live", "/health/ready", "/v1/models", "/v2",
    "/v2/health/live", "/v2/health/ready", "/v2/trace/setting", "/errors/too-late", "/errors/unprocessable",
)  # fmt: skip


def infer(model: str, version: str = "") -> str:
    return f"/v2/models/{model}{f'/versions/{version}' if version else ''}/infer"


def described(tensors: Tensors) -> list[dict[str, Any]]:
    return [
        {"name": name, "datatype": DATATYPES[str(rows.dtype)], "shape": list(rows.shape)}
        for name, rows in tensors.items()
    ]


def as_json(tensors: Tensors, *, flat: bool = True, **more: Any) -> bytes:
    inputs = [
        {**head, "data": (rows.ravel() if flat else rows).tolist()}
        for head, rows in zip(described(tensors), tensors.values(), strict=True)
    ]
    return dense({"inputs": inputs, **more})


def binary(tensors: Tensors, **more: Any) -> tuple[bytes, Headers]:
    """Body and headers of raw tensors behind the JSON that describes them."""
    inputs = [
        {**head, "parameters": {"binary_data_size": rows.nbytes}}
        for head, rows in zip(described(tensors), tensors.values(), strict=True)
    ]
    head = dense({"inputs": inputs, **more})
    body = head + b"".join(rows.tobytes() for rows in tensors.values())
    return body, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def every_graph(models: Path) -> Iterator[tuple[str, Tensors]]:
    """A name under /v2 for each kind of graph, and golden rows for it."""
    for model, tensors in (
        ("cnn-mnist", ("image",)),
        ("mlp-pass", ("row",)),
        ("perceptron.net_input", ("row",)),
        ("vae-2d.encoder", ("image",)),
        ("diffusion-mnist.denoiser", ("x", "sigma", "label")),
        ("cgan-mnist", ("latent", "label")),
        ("cyclegan-strokes.thin_to_thick", ("image",)),
    ):
        yield model, {name: golden(models, model.partition(".")[0], name)[:3] for name in tensors}


def of_protocol(path: str, tensors: Tensors) -> Iterator[Recorded]:
    """Every form of one inference, of a few rows."""
    one = {name: rows[:1] for name, rows in tensors.items()}
    body = as_json(tensors)
    yield Recorded("JSON", path, body, JSON)
    yield Recorded("nested JSON", path, as_json(one, flat=False, id="an id"), JSON)
    yield Recorded("JSON without a content type", path, body)
    yield Recorded(
        "gzip in and out", path, gzip.compress(body, mtime=0), {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    )
    yield Recorded(
        "deflate in and out", path, zlib.compress(body), {"Content-Encoding": "deflate", "Accept-Encoding": "deflate"}
    )
    for there in (False, True):
        raw, headers = binary(tensors, parameters={"binary_data_output": there}, id="7")
        yield Recorded(f"binary in, binary out {there}", path, raw, headers)
        yield Recorded(f"binary in, binary out {there}, gzip", path, raw, {**headers, "Accept-Encoding": "gzip;q=0.5"})
    urgent = {"timeout": 50_000_000, "priority": 1}
    yield Recorded("with timeout and priority", path, as_json(one, parameters=urgent), JSON)
    if len(one) == 1:
        (rows,) = one.values()
        yield Recorded("raw", path, rows.tobytes(), {HEADER_LENGTH: "0"})
        yield Recorded("raw, gzip out", path, rows.tobytes(), {HEADER_LENGTH: "0", "Accept-Encoding": "gzip"})


def refused(path: str, image: NDArray[np.uint8], output: str) -> Iterator[Recorded]:
    """What the protocol refuses of a model that takes `image`, uint8 (1, ...), and gives `output`."""
    raw, zero = image.tobytes(), {HEADER_LENGTH: "0"}
    (head,) = described({"image": image})
    flat = image.ravel().tolist()
    for name, entry in (
        ("another name", {"name": "picture"}),
        ("another datatype", {"datatype": "FP32"}),
        ("another shape", {"shape": [1, 2, 3]}),
        ("a shape of texts", {"shape": ["1"]}),
        ("a value too many", {"data": [*flat, 1]}),
        ("true for all", {"data": [True] * len(flat)}),
        ("256", {"data": [256, *flat[1:]]}),
        ("a text", {"data": ["1", *flat[1:]]}),
        ("ragged data", {"data": [[1], [2, 3]]}),
        ("data and binary_data_size", {"parameters": {"binary_data_size": len(raw)}}),
    ):
        yield Recorded(name, path, dense({"inputs": [{**head, "data": flat, **entry}]}), JSON, 400)
    good = {"inputs": [{**head, "data": flat}]}
    for name, more in (
        ("no inputs", {"inputs": []}),
        ("an input twice", {"inputs": good["inputs"] * 2}),
        ("an output that there is not", {"outputs": [{"name": "sum"}]}),
        ("classes below 0", {"outputs": [{"name": output, "parameters": {"classification": -1}}]}),
        ("an id that is a number", {"id": 7}),
        ("a timeout that is a text", {"parameters": {"timeout": "soon"}}),
        ("a priority below 0", {"parameters": {"priority": -1}}),
    ):
        yield Recorded(name, path, dense({**good, **more}), JSON, 400)
    yield Recorded("a timeout of one microsecond", path, dense({**good, "parameters": {"timeout": 1}}), JSON, 503)
    sized = {"inputs": [{**head, "parameters": {"binary_data_size": 5}}]}
    yield Recorded("fewer bytes than the shape has", path, dense(sized), JSON, 400)
    for name, body, headers, status in (
        ("half a row", raw[: len(raw) // 2], zero, 400),
        ("no row", b"", zero, 400),
        ("a header length beyond the body", b"{}", {HEADER_LENGTH: "9999"}, 400),
        ("a header length that is none", b"{}", {HEADER_LENGTH: "some"}, 400),
        ("no JSON", b"{", JSON, 400),
        ("a list", b"[]", JSON, 400),
        ("no body", b"", {}, 400),
        ("no gzip", b"{}", {"Content-Encoding": "gzip"}, 400),
        ("gzip cut short", gzip.compress(raw, mtime=0)[:-9], {"Content-Encoding": "gzip", **zero}, 400),
        ("a compression that is not taken", raw, {"Content-Encoding": "br", **zero}, 400),
        ("a deadline at once", raw, {"X-Request-Deadline-Ms": "0", **zero}, 503),
        ("a deadline that is none", raw, {"X-Request-Deadline-Ms": "soon", **zero}, 400),
        ("a priority that is none", raw, {"X-Request-Priority": "0", **zero}, 400),
        ("a client that goes last", raw, {"X-Request-Priority": "3", **zero}, 200),
        ("a body too large", None, {"Content-Length": str(TOO_MANY_BYTES), **zero}, 400),
    ):
        yield Recorded(name, path, body, headers, status)
    yield Recorded("a wrong method", path, None, {}, 405, "PUT")
    yield Recorded("GET", path, None, {}, 405, "GET")


def of_protocols(models: Path) -> Iterator[Recorded]:
    """All that is asked of the shipped models under /v2."""
    for model, tensors in every_graph(models):
        yield from of_protocol(infer(model), tensors)
    image = golden(models, "cnn-mnist", "image")
    yield from refused(infer("cnn-mnist"), image[:1], "probabilities")
    zero = {HEADER_LENGTH: "0"}
    yield Recorded("in a version", infer("cnn-mnist", "1"), image[0].tobytes(), zero)
    yield Recorded("no such version", infer("cnn-mnist", "7"), image[0].tobytes(), zero, 404)
    yield Recorded("no such model", infer("none"), image[0].tobytes(), zero, 404)
    yield Recorded("no such graph", infer("cnn-mnist.decoder"), image[0].tobytes(), zero, 404)
    yield Recorded("a model of two graphs", infer("vae-2d"), image[0].tobytes(), zero, 404)
    best = [{"name": "probabilities", "parameters": {"classification": 3}}]
    yield Recorded("classification", infer("cnn-mnist"), as_json({"image": image[:2]}, outputs=best), JSON)
    best = [{"name": "probabilities", "parameters": {"classification": 2, "binary_data": True}}]
    yield Recorded("classification in bytes", infer("cnn-mnist"), as_json({"image": image[:2]}, outputs=best), JSON)
    mu = [{"name": "mu", "parameters": {"binary_data": True}}, {"name": "logvar"}]
    yield Recorded("one output of each kind", infer("vae-2d.encoder"), as_json({"image": image[:2]}, outputs=mu), JSON)
    yield Recorded("too many rows", infer("cnn-mnist"), *binary({"image": np.zeros((513, 28, 28, 1), np.uint8)}), 400)
    latent: Tensors = {"latent": np.zeros((1, 64), np.float32)}
    for label, status in ((9, 200), (10, 400), (-1, 400)):
        body = as_json({**latent, "label": np.array([label])})
        yield Recorded(f"label {label}", infer("cgan-mnist"), body, JSON, status)
    gap = {"row": np.array([[9, np.nan, 2]], np.float32)}
    yield Recorded("a missing value", infer("mlp-grade"), *binary(gap))
    yield Recorded("NaN in JSON", infer("mlp-grade"), as_json(gap), JSON, 400)
    two: Tensors = {"latent": np.zeros((2, 64), np.float32), "label": np.zeros(1, np.int64)}
    yield Recorded("rows that differ", infer("cgan-mnist"), as_json(two), JSON, 400)
    yield Recorded("an input too few", infer("cgan-mnist"), as_json(latent), JSON, 400)
    yield Recorded("raw for two inputs", infer("cgan-mnist"), bytes(264), zero, 400)
    yield Recorded("a number beyond float32", infer("mlp-pass"), dense({"inputs": [
        {"name": "row", "datatype": "FP32", "shape": [1, 2], "data": [1e39, 0]}]}), JSON, 400)  # fmt: skip


def of_pages(models: Path) -> Iterator[Recorded]:
    """What is read of the server and of each model, and what there is not."""
    names = sorted(folder.name for folder in models.iterdir() if folder.is_dir())
    paths = [*PAGES, *(f"/v1/models/{name}" for name in names), "/v1/models/cnn-mnist?version=1"]
    paths += ["/v1/models/perceptron/report", "/v2/models/stats", "/v2/models/cnn-mnist/stats"]
    for name in ("cnn-mnist", "vae-2d.encoder", "diffusion-mnist.denoiser", "mlp-grade"):
        one = f"/v2/models/{name}"
        paths += [one, f"{one}/config", f"{one}/ready", f"{one}/versions/1", f"{one}/versions/1/config"]
    for path in paths:
        yield Recorded("page", path, method="GET")
    for path in ("/v1/models", "/health/ready", "/v2"):
        yield Recorded("head alone", path, method="HEAD")
    for path, status in (
        ("/no/such/page", 404), ("/v1/models/none", 404), ("/v1/models/cnn-mnist?version=9", 404),
        ("/v1/models/cnn-mnist?verison=1", 422), ("/v1/models/none/report", 404), ("/errors/none", 404),
        ("/v2/no/such/page", 404), ("/v2/models/none", 404), ("/v2/models/vae-2d", 404),
        ("/v2/models/cnn-mnist/versions/9/config", 404), ("/v2/models/none/stats", 404),
        ("/v1/classify/", 404), ("/v1//classify", 404), ("/static/none.css", 404),
    ):  # fmt: skip
        yield Recorded("what there is not", path, None, {}, status, "GET")
    for path in ("/v1/models", "/health/live", "/v2", "/metrics", "/openapi.json"):
        yield Recorded("a wrong method", path, b"", {}, 405, "DELETE")
    yield Recorded("repository", "/v2/repository/index", b"")
    yield Recorded("repository, ready ones", "/v2/repository/index", b'{"ready": true}', JSON)
    yield Recorded("repository, a wrong field", "/v2/repository/index", b'{"ready": "yes"}', JSON, 400)
    yield Recorded("load, switched off", "/v2/repository/models/cnn-mnist/load", b"", {}, 403)
    yield Recorded("unload, switched off", "/v2/repository/models/cnn-mnist/unload", b"", {}, 403)
    yield Recorded("trace on", "/v2/trace/setting", b'{"trace_level": ["TIMESTAMPS"]}', JSON, 400)
    yield Recorded("trace off", "/v2/trace/setting", b'{"trace_level": null}', JSON)
    yield Recorded("what was counted", "/metrics", method="GET")
