"""Examples for the OpenAPI document, made from what is loaded: each answers 200 when sent as it stands.

They come from the golden rows that lie in a model's own folder. Those of the tasks are made by the tasks themselves;
here are the ones that belong to no task. `models` are, of each name, the version that answers where none is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.open_inference import DATATYPES
from app.core.errors import LecternError
from app.core.manifest import Graph, TensorSpec, numpy_dtype
from app.engine.registry import Model
from app.middleware import errors
from app.protocols import open_inference
from app.protocols.open_inference.models import graph_names
from app.web.openapi.golden import golden_rows

SMALL_VALUES: Final = 4096
"""Rows up to this size are shown as JSON under /v2."""

# subject, detail, expected, got: sentences that the app says.
PROBLEMS: Final[dict[int, tuple[str, str, str, str]]] = {
    401: (
        "header.authorization",
        "this needs an API key, and none or an unknown one was given",
        "Authorization: Bearer KEY, or X-API-Key: KEY",
        "no key",
    ),
    404: ("version", "no version of model 'digits' is called '9': there is 1, 2", "1, 2", "'9'"),
    406: (
        "header.accept",
        "accept is 'text/html', answers are given as application/json or application/x-npy or text/csv",
        "application/json, application/x-npy, text/csv",
        "'text/html'",
    ),
    408: ("body", "the body did not arrive within 30 s", "the whole body within 30 s", "a part of it"),
    409: (
        "model",
        "model 'hearer' needs the whole recording and cannot stream: ask 'listener', which streams",
        "'listener'",
        "'hearer'",
    ),
    413: ("images", "the request has 600 pictures, at most 512 are taken", "at most 512 pictures", "600"),
    415: (
        "body",
        "body: is a PDF document, expected a picture",
        "PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF",
        "a PDF document",
    ),
    422: ("top_k", "top_k is 0, model 'digits' has 10 labels: it must be 1 to 10", "1 to 10", "0"),
    429: ("model", "the queue of model 'digits' is full", "fewer rows at once", "a full queue"),
    500: ("", "The server failed on this request; its log has the reason under the request id.", "", ""),
    503: ("model", "model 'digits' is shutting down", "", ""),
    504: ("model", "model 'digits' did not answer 1 rows within 60 s", "an answer within 60 s", "none"),
}


def problem(status: int) -> dict[str, Any]:
    """What an error of this status looks like."""
    subject, detail, expected, got = PROBLEMS[status]
    kind, cls = next(((k, c) for k, c in errors.kinds().items() if c.status == status), ("", LecternError))
    content = {
        "type": f"/errors/{kind}" if status != 500 else "about:blank",
        "title": cls.title if status != 500 else LecternError.title,
        "status": status,
        "detail": detail,
        "request_id": "5f0c5a1d1c4be1a9b7d80e3f",
    }
    return content | {k: v for k, v in (("subject", subject), ("expected", expected), ("got", got)) if v}


def inference(models: Iterable[Model]) -> open_inference.ExampleModel | None:
    """Bodies for POST /v2/models/.../infer, all for one model: the one with the smallest rows, of fixed size if any is.

    They have its first golden row, or zeros where it has none; no bodies where a row would be a wall of numbers, nor
    where a graph with variable axes has no golden row, for it may refuse rows of one step.
    """
    graphs = [(model, name, graph) for model in models for name, graph in graph_names(model).items()]
    if not graphs:
        return None
    model, name, graph = min(graphs, key=lambda one: _size(one[0].manifest.graphs[one[2]]))
    spec = model.manifest.graphs[graph]
    varies, values = _size(spec)
    golden = model.manifest.golden
    arrays = {}
    if golden and golden.graph == graph and values <= SMALL_VALUES:
        arrays = _first_whole(golden_rows(model))
        values = sum(arrays[t.name].size for t in spec.inputs if t.name in arrays)
    if values > SMALL_VALUES or (varies and not arrays):
        return open_inference.ExampleModel(name, model.version)
    body = {"inputs": [_tensor(t, arrays) for t in spec.inputs]}
    forms: dict[str, Any] = {"one row": body}
    urgent = {"priority": 1, "timeout": 30_000_000}
    forms["before others, within 30 s, with an id"] = {"id": "seven", "parameters": urgent, **body}
    first = spec.outputs[0]
    if model.manifest.labels and first.shape[1:] == (len(model.manifest.labels),):
        best = {"name": first.name, "parameters": {"classification": 2}}
        forms["the two best labels"] = {**body, "outputs": [best]}
    answers = {}
    if all(t.name in arrays for t in spec.outputs):
        outputs = [_tensor(t, arrays) for t in spec.outputs]
        answers["one row"] = {"model_name": name, "model_version": model.version, "outputs": outputs}
    return open_inference.ExampleModel(name, model.version, forms, answers)


def _first_whole(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The first row in which nothing is missing, (1, ...) each; JSON has no NaN. Nothing where there is no such row."""
    whole = [i for i in range(min(map(len, arrays.values()), default=0)) if all(map(_finite, _row(arrays, i)))]
    return {name: array[whole[0] : whole[0] + 1] for name, array in arrays.items()} if whole else {}


def _row(arrays: dict[str, NDArray[Any]], i: int) -> list[NDArray[Any]]:
    return [array[i] for array in arrays.values()]


def _finite(row: NDArray[Any]) -> bool:
    return bool(np.isfinite(row).all())


def _one_row(spec: TensorSpec) -> list[int]:
    return [1, *(axis if isinstance(axis, int) else 1 for axis in spec.shape[1:])]


def _size(graph: Graph) -> tuple[bool, int]:
    """Whether its inputs vary in size, and the numbers in one row of them, of one step where they do."""
    varies = any(not isinstance(axis, int) for spec in graph.inputs for axis in spec.shape[1:])
    return varies, sum(math.prod(_one_row(spec)) for spec in graph.inputs)


def _tensor(spec: TensorSpec, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    row = arrays[spec.name] if spec.name in arrays else np.zeros(_one_row(spec), numpy_dtype(spec.dtype))
    datatype = DATATYPES[spec.dtype]
    return {"name": spec.name, "shape": list(row.shape), "datatype": datatype, "data": row.ravel().tolist()}
