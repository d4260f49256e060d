"""The OpenAPI document: generated from the routes, completed from the loaded models.

`model` is an enumeration of what is loaded, and every example is made from rows that lie in a model's own folder, so
that it answers 200 when sent as it stands.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import numpy as np
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from numpy.typing import NDArray

from app import problems
from app.codecs.images import decode, encode_png
from app.core.errors import ClientError
from app.core.manifest import Picture
from app.engine.registry import Model
from app.keys import is_protected
from app.tasks import classify
from app.wire.context import Context
from app.wire.pictures import FORM, IMAGES, JSON, NPY

DESCRIPTION: Final = """\
Pictures in, labels with calibrated probabilities out.

* **Send a picture as what it is**: a raw body (`image/png`, `image/jpeg`, ...), a file of a form (several at once), or
  in JSON as base64 or as nested pixels; many rows compactly as `application/x-npy`. What a picture really is is read
  from its bytes: a PNG that says it is a JPEG is read as the PNG it is.
* **Options** (`model`, `version`, `top_k`) stand in the query, in the JSON object or in fields of the form, once.
* **Errors** are `application/problem+json` (RFC 9457) and name the subject, what was expected and what came.
* Every answer has an `X-Request-Id`: yours if you sent a sane one, a new one otherwise.
"""
REASONS: Final = {
    401: "The API key is missing or not known.",
    404: "There is no such model or version; the names that exist are listed.",
    406: "The answer is not given in the form that `Accept` asks for.",
    408: "The body did not arrive in time.",
    413: "More bytes, rows or pixels than the limits.",
    415: "A content type or an image format that is not taken.",
    422: "Understood, and wrong: the subject, what was expected and what came.",
    429: "The queue is full; `Retry-After` says when to come back.",
    503: "Not ready, or shutting down.",
    504: "The model did not answer in time.",
}
SMALL_PIXELS: Final = 28 * 28
"""Pictures up to this size are also shown as nested pixels: more would be a wall of digits."""


def install(app: FastAPI, context: Context, *, has_keys: bool) -> None:
    """Make `app.openapi()` the completed document, kept until what is loaded changes."""
    kept: dict[int, dict[str, Any]] = {}

    def document() -> dict[str, Any]:
        generation = context.registry.generation
        if generation not in kept:
            kept.clear()
            kept[generation] = build(app, context, has_keys=has_keys)
        return kept[generation]

    app.openapi = document  # type: ignore[method-assign]  # FastAPI documents this as the way


def build(app: FastAPI, context: Context, *, has_keys: bool) -> dict[str, Any]:
    """The document as it is now."""
    document = get_openapi(
        title=app.title, version=app.version, summary="From labelled data to a documented endpoint.",
        description=DESCRIPTION, routes=app.routes,
        tags=[
            {"name": "tasks", "description": "What the models do."},
            {"name": "models", "description": "What the models are."},
            {"name": "operation", "description": "For those who run this server."},
        ],
    )  # fmt: skip
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form, which is not ours
        schemas.pop(name, None)
    schemas["Problem"] = problems.Problem.model_json_schema()
    models = [m for m in context.registry.models if m.manifest.task == "classify"]
    _complete_classify(document, schemas, models, context)
    _complete_cards(document, context)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete_errors(operation, path, has_keys=has_keys)
    if has_keys:
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    return document


def _complete_errors(operation: dict[str, Any], path: str, *, has_keys: bool) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    protected = has_keys and is_protected(path)
    if path == classify.PATH:
        statuses = [404, 406, 408, 413, 415, 422, 429, 503, 504]
    elif "{name}" in path:
        statuses = [404, 422]
    else:
        statuses = [422] if path.startswith("/v1") else []
    for status in [401, *statuses] if protected else statuses:
        responses[str(status)] = {
            "description": REASONS[status],
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    if "429" in responses:
        responses["429"]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    operation["responses"] = dict(sorted(responses.items()))
    if protected:
        operation["security"] = [{"bearer": []}, {"header": []}]


def _name_schema(names: list[str]) -> dict[str, Any]:
    return {"type": "string", "enum": names} if names else {"type": "string"}


def _options(models: list[Model]) -> dict[str, dict[str, Any]]:
    """The options' schemas, with what is loaded."""
    most = max((len(m.manifest.labels) for m in models), default=0)
    fields = classify.ClassifyRequest.model_fields
    schemas = {
        "model": _name_schema(sorted({m.name for m in models})),
        "version": _name_schema(sorted({m.version for m in models}, key=int)),
        "top_k": {"type": "integer", "minimum": 1} | ({"maximum": most} if most else {}),
    }
    return {name: {"description": fields[name].description, **schema} for name, schema in schemas.items()}


def _complete_classify(
    document: dict[str, Any], schemas: dict[str, Any], models: list[Model], context: Context
) -> None:
    operation = document["paths"][classify.PATH]["post"]
    options = _options(models)
    operation["parameters"] = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema["description"],
            "schema": {k: v for k, v in schema.items() if k != "description"},
        }
        for name, schema in options.items()
    ]
    limit = context.limits.max_rows
    schemas["ClassifyRequest"] = {
        "title": "ClassifyRequest",
        "description": "Either `image` or `images`, and options.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "image": classify.PICTURE_SCHEMA,
            "images": {"type": "array", "minItems": 1, "maxItems": limit, "items": classify.PICTURE_SCHEMA},
            **options,
        },
        "oneOf": [{"required": ["image"]}, {"required": ["images"]}],
    }
    file = {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"}
    form = {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": {
            "image": {"type": "array", "minItems": 1, "maxItems": limit, "items": file, "description": "image files"},
            **options,
        },
    }
    examples = _examples(models)
    operation["requestBody"] = {
        "required": True,
        "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/ClassifyRequest"}}
            | ({"examples": examples} if examples else {}),
            FORM: {"schema": form},
            **{kind: {"schema": file} for kind in IMAGES},
            NPY: {"schema": file | {"description": "uint8 rows of the model's own shape, as numpy.save writes them"}},
        },
    }
    ok = operation["responses"]["200"]
    ok["content"][NPY] = {"schema": file | {"description": "float32 probabilities (rows, labels)"}}
    ok["headers"] = {
        "Server-Timing": {
            "description": "decode, queue and run in milliseconds, and the rows that shared the run",
            "schema": {"type": "string"},
        },
        "X-Model": {"description": "name/version of the model that answered", "schema": {"type": "string"}},
        "X-Device": {"description": "where it ran", "schema": {"type": "string"}},
    }


def _complete_cards(document: dict[str, Any], context: Context) -> None:
    names = sorted({m.name for m in context.registry.models})
    for path, operations in document["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", []):
            if "{name}" in path and parameter["name"] == "name":
                parameter["schema"] = _name_schema(names)


def golden_rows(model: Model) -> NDArray[Any] | None:
    """Rows of the model's own golden file, one per label at most; None where it has none."""
    golden, picture = model.manifest.golden, model.manifest.picture
    if golden is None or picture is None:
        return None
    name = model.manifest.graphs[golden.graph].inputs[0].name
    try:
        with np.load(model.folder / golden.file, allow_pickle=False) as file:
            rows: NDArray[Any] = file[name]
    except (OSError, ValueError, KeyError):  # it was there when the model was loaded
        return None
    return rows


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


def _examples(models: list[Model]) -> dict[str, Any]:
    """Requests that answer 200 as they stand, from each model's golden rows."""
    examples: dict[str, Any] = {}
    for model in models:
        rows, picture = golden_rows(model), model.manifest.picture
        if rows is None or picture is None or model.name + ": a picture" in examples:
            continue
        made = [(pixels, encode_png(pixels)) for pixels in (_as_picture(row, picture) for row in rows)]
        made = [(pixels, png) for pixels, png in made if _can_be_read(png, picture)][:3]
        if not made:
            continue
        texts = [base64.b64encode(png).decode("ascii") for _, png in made]
        examples[f"{model.name}: a picture"] = {
            "summary": f"{model.name}: a picture as base64",
            "value": {"image": texts[0], "model": model.name},
        }
        examples[f"{model.name}: several"] = {
            "summary": f"{model.name}: several pictures, the two best labels",
            "value": {"images": texts, "model": model.name, "top_k": 2},
        }
        if made[0][0].size <= SMALL_PIXELS:
            examples[f"{model.name}: pixels"] = {
                "summary": f"{model.name}: nested pixels",
                "value": {"image": made[0][0].tolist(), "model": model.name},
            }
    return examples


def response(app: FastAPI) -> Response:
    """The document as it is sent."""
    return Response(json.dumps(app.openapi(), separators=(",", ":"), ensure_ascii=False), media_type=JSON)
