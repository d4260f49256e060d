"""The OpenAPI document: generated from the routes, completed from the loaded models.

`model` is an enumeration of what is loaded; the examples are real (`app/examples.py`).
"""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from app import examples, problems
from app.engine.registry import Model
from app.keys import is_protected
from app.protocols import oip
from app.tasks import classify
from app.wire import urgency
from app.wire.context import Context
from app.wire.pictures import FORM, IMAGES, JSON, NPY

DESCRIPTION: Final = """\
Pictures in, labels with calibrated probabilities out.

* **Send a picture as what it is**: a raw body (`image/png`, `image/jpeg`, ...), a file of a form (several at once), or
  in JSON as base64 or as nested pixels; many rows compactly as `application/x-npy`. What a picture really is is read
  from its bytes: a PNG that says it is a JPEG is read as the PNG it is.
* **Options** (`model`, `version`, `top_k`) stand in the query, in the JSON object or in fields of the form, once.
* **How urgent it is** is said by the headers `X-Request-Deadline-Ms` and `X-Request-Priority`.
* **Errors** are `application/problem+json` (RFC 9457) and name the subject, what was expected and what came.
* **As tensors, by the clients of others**: the same models answer under `/v2` in the Open Inference Protocol, with
  errors in its own form.
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
    500: "The server failed; its log has the reason under the request id.",
    503: "Not ready, or shutting down.",
    504: "Too late: the model did not, or could not, answer in the time that the request or the server gives.",
}


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
            {"name": oip.TAG, "description": oip.DESCRIPTION},
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
    oip.complete(document, context.registry.models, examples.inference(context.registry.defaults))
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
    protected = has_keys and is_protected(path)
    if protected:
        operation["security"] = [{"bearer": []}, {"header": []}]
    if oip.is_mine(path):
        if protected:
            operation["responses"] = dict(sorted((responses | {"401": oip.unauthorised()}).items()))
        return
    responses.pop("422", None)
    if path == classify.PATH:
        statuses = [404, 406, 408, 413, 415, 422, 429, 500, 503, 504]
    elif "{name}" in path:
        statuses = [404, 422]
    else:
        statuses = [422] if path.startswith("/v1") else []
    for status in [401, *statuses] if protected else statuses:
        responses[str(status)] = {
            "description": REASONS[status],
            "content": {
                problems.MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": examples.problem(status),
                }
            },
        }
    if "429" in responses:
        responses["429"]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    operation["responses"] = dict(sorted(responses.items()))


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
    operation["parameters"].append(urgency.PARAMETER)
    operation["description"] = urgency.DOCUMENTED.format(late=504)
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
    shown = [model for model in context.registry.defaults if model in models]
    sent = examples.requests(shown)
    operation["requestBody"] = {
        "required": True,
        "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/ClassifyRequest"}} | ({"examples": sent} if sent else {}),
            FORM: {"schema": form},
            **{kind: {"schema": file} for kind in IMAGES},
            NPY: {"schema": file | {"description": "uint8 rows of the model's own shape, as numpy.save writes them"}},
        },
    }
    ok = operation["responses"]["200"]
    ok["content"][NPY] = {"schema": file | {"description": "float32 probabilities (rows, labels)"}}
    if answers := examples.answers(shown):
        ok["content"][JSON]["examples"] = answers
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
            if path.startswith("/v1") and parameter["name"] == "name":
                parameter["schema"] = _name_schema(names)


def response(app: FastAPI) -> Response:
    """The document as it is sent."""
    return Response(json.dumps(app.openapi(), separators=(",", ":"), ensure_ascii=False), media_type=JSON)
