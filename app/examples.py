"""Examples for the OpenAPI document, made from what is loaded: each answers 200 when sent as it stands.

They come from the golden rows that lie in a model's own folder and were compared with its answers when it was loaded;
where none of these can be shown as a picture, a stroke is drawn. `models` are, of each name, the version that answers
where none is asked for.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app import problems
from app.codecs.images import decode, encode_png
from app.codecs.oip import DATATYPES
from app.core.errors import ClientError, LecternError
from app.core.manifest import Picture, TensorSpec, numpy_dtype
from app.engine.registry import Model
from app.protocols import oip
from app.protocols.oip.models import graph_names
from app.tasks.classify import DEFAULT_TOP_K, to_json

SMALL_PIXELS: Final = 28 * 28
"""Pictures up to this size are also shown as nested pixels: more would be a wall of digits."""
SHOWN_PICTURES: Final = 3
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
        "accept is 'text/html', answers are given as application/json or application/x-npy",
        "application/json, application/x-npy",
        "'text/html'",
    ),
    408: ("body", "the body did not arrive within 30 s", "the whole body within 30 s", "a part of it"),
    413: ("images", "the request has 300 pictures, at most 256 are taken", "at most 256 pictures", "300"),
    415: ("body", "body: is a PDF document, expected a picture", "PNG, JPEG, WebP, BMP, GIF or TIFF", "a PDF document"),
    422: ("top_k", "top_k is 0, model 'digits' has 10 labels: it must be 1 to 10", "1 to 10", "0"),
    429: ("model", "the queue of model 'digits' is full", "fewer rows at once", "a full queue"),
    500: ("", "The server failed on this request; its log has the reason under the request id.", "", ""),
    503: ("model", "model 'digits' is shutting down", "", ""),
    504: ("model", "model 'digits' did not answer 1 rows within 60 s", "an answer within 60 s", "none"),
}


def problem(status: int) -> dict[str, Any]:
    """What an error of this status looks like."""
    subject, detail, expected, got = PROBLEMS[status]
    kind, cls = next(((k, c) for k, c in problems.kinds().items() if c.status == status), ("", LecternError))
    told = {
        "type": f"/errors/{kind}" if status != 500 else "about:blank",
        "title": cls.title if status != 500 else LecternError.title,
        "status": status,
        "detail": detail,
        "request_id": "5f0c5a1d1c4be1a9b7d80e3f",
    }
    return told | {k: v for k, v in (("subject", subject), ("expected", expected), ("got", got)) if v}


def _golden(model: Model) -> dict[str, NDArray[Any]]:
    """The arrays of the model's golden file by name; empty where it has none."""
    golden = model.manifest.golden
    if golden is None:
        return {}
    try:
        data = (model.folder / golden.file).read_bytes()
    except OSError:  # it was there when the model was loaded
        return {}
    if hashlib.sha256(data).hexdigest() != golden.sha256:  # and it was this model's
        return {}
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _pictures(model: Model) -> list[tuple[NDArray[np.uint8], bytes]]:
    """A few golden rows that the codec can read, as pixels and as PNG; a drawn picture where there is none."""
    picture = model.manifest.picture
    if picture is None:
        return []
    rows = _golden(model).get(model.manifest.graphs["classifier"].inputs[0].name, ())
    golden = [_as_picture(row, picture) for row in rows]
    for candidates in (golden, [drawn(picture.height, picture.width, picture.channels)]):
        made = [(pixels, encode_png(pixels)) for pixels in candidates]
        if readable := [(pixels, png) for pixels, png in made if _can_be_read(png, picture)]:
            return readable[:SHOWN_PICTURES]
    return []


def drawn(height: int, width: int, channels: int = 1) -> NDArray[np.uint8]:
    """One upright stroke, light on dark: (H, W) or (H, W, channels)."""
    pixels = np.zeros((height, width, channels), np.uint8)
    pixels[height // 6 : -(height // 6) or None, width * 3 // 7 : width * 4 // 7 + 1] = 255
    return pixels[:, :, 0] if channels == 1 else pixels


def answered(model: Model) -> list[tuple[bytes, str]]:
    """The golden rows as PNG, each with the label that the model gives it."""
    graph = model.manifest.graphs["classifier"] if model.manifest.task == "classify" else None
    picture, arrays = model.manifest.picture, _golden(model)
    if graph is None or picture is None or graph.inputs[0].name not in arrays:
        return []
    best = arrays[graph.outputs[0].name].argmax(axis=1).tolist()
    rows = arrays[graph.inputs[0].name]
    return [
        (encode_png(_as_picture(row, picture)), model.manifest.labels[index])
        for row, index in zip(rows, best, strict=True)
    ]


def _as_picture(row: NDArray[Any], picture: Picture) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3), whatever the graph's layout."""
    pixels = row if picture.layout == "hwc" else np.moveaxis(row, 0, -1)
    return np.ascontiguousarray(pixels[..., 0] if picture.channels == 1 else pixels)


def _can_be_read(png: bytes, picture: Picture) -> bool:
    """Whether the codec takes it: a blank golden row, say, shows no digit."""
    try:
        decode(png, picture, subject="golden", max_pixels=picture.height * picture.width)
    except ClientError:
        return False
    return True


def requests(models: Iterable[Model]) -> dict[str, Any]:
    """Bodies for POST /v1/classify, by name."""
    examples: dict[str, Any] = {}
    for model in models:
        made = _pictures(model)
        if not made:
            continue
        texts = [base64.b64encode(png).decode("ascii") for _, png in made]
        forms = {
            "a picture as base64": {"image": texts[0], "model": model.name},
            "several pictures, the two best labels": {"images": texts, "model": model.name, "top_k": 2},
        }
        if made[0][0].size <= SMALL_PIXELS:
            forms["nested pixels"] = {"image": made[0][0].tolist(), "model": model.name}
        examples |= {
            f"{model.name}: {what}": {"summary": f"{model.name}: {what}", "value": forms[what]} for what in forms
        }
    # Without one, the page would make up a body with both `image` and `images`, which is refused.
    if not examples:
        text = base64.b64encode(encode_png(drawn(28, 28))).decode("ascii")
        examples["a picture as base64"] = {"summary": "a picture as base64", "value": {"image": text}}
    return examples


def answers(models: Iterable[Model]) -> dict[str, Any]:
    """What POST /v1/classify says to a golden row of each model."""
    examples: dict[str, Any] = {}
    for model in models:
        probabilities = _golden(model).get("probabilities")
        if probabilities is not None:
            told = to_json(model, probabilities[:1], min(DEFAULT_TOP_K, len(model.manifest.labels)))
            examples[model.name] = {"value": json.loads(told)}
    return examples


def inference(models: Iterable[Model]) -> oip.Shown | None:
    """Bodies for POST /v2/models/.../infer, all for one model: the one with the smallest rows.

    They have its first golden row, or zeros where it has none; no bodies where a row would be a wall of numbers.
    """
    graphs = [(model, name, graph) for model in models for name, graph in graph_names(model).items()]
    if not graphs:
        return None
    model, name, graph = min(graphs, key=lambda one: sum(_values(t) for t in one[0].manifest.graphs[one[2]].inputs))
    spec = model.manifest.graphs[graph]
    if sum(_values(t) for t in spec.inputs) > SMALL_VALUES:
        return oip.Shown(name, model.version)
    golden = model.manifest.golden
    arrays = _golden(model) if golden and golden.graph == graph else {}
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
    return oip.Shown(name, model.version, forms, answers)


def _one_row(spec: TensorSpec) -> list[int]:
    return [1, *(axis if isinstance(axis, int) else 1 for axis in spec.shape[1:])]


def _values(spec: TensorSpec) -> int:
    return math.prod(_one_row(spec))


def _tensor(spec: TensorSpec, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    row = arrays[spec.name][:1] if spec.name in arrays else np.zeros(_one_row(spec), numpy_dtype(spec.dtype))
    datatype = DATATYPES[spec.dtype]
    return {"name": spec.name, "shape": list(row.shape), "datatype": datatype, "data": row.ravel().tolist()}
