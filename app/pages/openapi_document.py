"""The OpenAPI document: generated from the routes, completed from the loaded models.

`model` is an enumeration of what is loaded; the examples are real (`app/pages/examples.py`).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.core.manifest import Task
from app.middleware import errors
from app.middleware.api_keys import is_protected
from app.pages import examples
from app.protocols import libre_translate, open_inference, openai_audio
from app.tasks import TASKS
from app.web.context import Context
from app.web.openapi.forms import exactly_one
from app.web.openapi.operation import Operation, declare, in_order, named, shown_for
from app.web.request import head
from app.web.request.media_types import JSON

DESCRIPTION: Final = """\
Pictures, sound, clips, texts or rows of tables in; labels with calibrated probabilities, values with prediction
intervals, reconstructions, new pictures, pictures without noise or of another kind, words with their times,
translations and captions out.

* **Ask by task**: `/v1/classify`, `/v1/regress`, `/v1/reconstruct`, `/v1/generate`, `/v1/denoise`, `/v1/translate`,
  `/v1/transcribe`, `/v1/label-frames`, `/v1/caption`. `model` chooses; without it the task's default for what you send
  answers, and where no model does that, the answer is 404.
* **Send a text** as `{"text": "..."}`, a list of them, `text/plain`, or a column `text` of `text/csv`.
* **Send a row by its columns' names**: `{"instances": [{"hours": 5, ...}]}` or `text/csv`. The model's card lists the
  columns with their units and the range that training saw; a row outside of it is answered, and told so.
* **Send a picture as what it is**: a raw body (`image/png`, `image/jpeg`, ...), a file of a form (several at once), or
  in JSON as base64 or as nested pixels; many rows compactly as `application/x-npy`. What a picture really is is read
  from its bytes: a PNG that says it is a JPEG is read as the PNG it is.
* **Take pictures as what they are**: `Accept: image/png` gives one picture or a grid of many, `application/x-npy` the
  numbers.
* **Send sound as what it is**: `audio/wav` and the like, files `sound` of a form, base64 in JSON, or samples as
  `application/x-npy`. A microphone talks to `/v1/transcribe` by a WebSocket: little-endian samples of 16 bits and
  `{"event": "end"}` in, the same events out.
* **Watch what is drawn in steps**: `Accept: text/event-stream` of `/v1/generate`, and of `/v1/denoise` with `samples`;
  and what is heard and seen: of `/v1/transcribe` and `/v1/label-frames`.
* **Options** (`model`, `version`, ...) stand in the query, in the JSON object or in fields of the form, once.
* **How urgent it is** is said by the headers `X-Request-Deadline-Ms` and `X-Request-Priority`.
* **Errors** are `application/problem+json` (RFC 9457) and name the subject, what was expected and what came.
* **As tensors, by the clients of others**: the same models answer under `/v2` in the Open Inference Protocol, with
  errors in its own form.
* Every answer has an `X-Request-Id`: yours if you sent a sane one, a new one otherwise.
"""
OTHERS_SHOWN: Final = 2  # examples of a model that is not a default
REASONS: Final = {
    401: "The API key is missing or not known.",
    404: "There is no such model or version; the names that exist are listed.",
    406: "The answer is not given in the form that `Accept` asks for.",
    408: "The body did not arrive in time.",
    409: "This model cannot do it; another one, which is named, can.",
    413: "More bytes, rows, pixels or seconds than the limits.",
    415: "A content type or a file format that is not taken.",
    422: "Understood, and wrong: the subject, what was expected and what came.",
    429: "The queue is full; `Retry-After` says when to come back.",
    500: "The server failed; its log has the reason under the request id.",
    503: "Not ready, or shutting down.",
    504: "Too late: the model did not, or could not, answer in the time that the request or the server gives.",
}


def install(app: FastAPI, context: Context, *, has_keys: bool, server: str = "") -> None:
    """Make `app.openapi()` the completed document, kept until what is loaded changes.

    Args:
        server: the path of this server on its host; empty where it is the whole of it.
    """
    kept: dict[int, dict[str, Any]] = {}

    def document() -> dict[str, Any]:
        generation = context.registry.catalog.generation
        if generation not in kept:
            kept.clear()
            kept[generation] = build(app, context, has_keys=has_keys) | (
                {"servers": [{"url": server}]} if server else {}
            )
        return kept[generation]

    app.openapi = document  # type: ignore[method-assign]  # FastAPI documents this as the way


def build(app: FastAPI, context: Context, *, has_keys: bool) -> dict[str, Any]:
    """The document as it is now."""
    document = get_openapi(
        title=app.title, version=app.version, summary="From data to a documented endpoint.",
        description=DESCRIPTION, routes=app.routes,
        tags=[
            {"name": "tasks", "description": "What the models do."},
            {"name": "models", "description": "What the models are."},
            {"name": open_inference.TAG, "description": open_inference.DESCRIPTION},
            {"name": openai_audio.TAG, "description": openai_audio.DESCRIPTION},
            {"name": libre_translate.TAG, "description": libre_translate.DESCRIPTION},
            {"name": "operation", "description": "For those who run this server."},
        ],
    )  # fmt: skip
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form, which is not ours
        schemas.pop(name, None)
    schemas["Problem"] = errors.Problem.model_json_schema()
    further: dict[str, tuple[int, ...]] = {}
    for task, endpoint in TASKS.items():
        assert endpoint.describe is not None
        operation = endpoint.describe(context.registry, context.limits)
        further[endpoint.path] = operation.errors
        _complete_task(document, schemas, endpoint.path, operation, _requests(task, operation, context))
    _complete_cards(document, context)
    open_inference.complete(
        document, context.registry.catalog.models, examples.inference(context.registry.catalog.defaults)
    )
    openai_audio.complete(document, in_order(context.registry, "transcribe", ("audio",)), protected=has_keys)
    libre_translate.complete(document, shown_for(context.registry, "translate"), protected=has_keys)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete_errors(operation, path, has_keys=has_keys, further=further.get(path))
    _drop_titles(document)
    if has_keys:
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    return document


def _complete_errors(operation: dict[str, Any], path: str, *, has_keys: bool, further: tuple[int, ...] | None) -> None:
    """`further`: statuses of errors that a task has beside those of every task; None for what is no task."""
    responses = operation["responses"]
    protected = has_keys and is_protected(path)
    if protected:
        operation["security"] = [{"bearer": []}, {"header": []}]
    if open_inference.is_mine(path):
        if protected:
            operation["responses"] = dict(sorted((responses | {"401": open_inference.unauthorised()}).items()))
        return
    if openai_audio.is_mine(path) or libre_translate.is_mine(path):
        return
    responses.pop("422", None)
    if further is not None:
        statuses = sorted([404, 406, 408, 413, 415, 422, 429, 500, 503, 504, *further])
    elif "{name}" in path:
        statuses = [404, 422]
    else:
        statuses = [422] if path.startswith("/v1") else []
    for status in [401, *statuses] if protected else statuses:
        responses[str(status)] = {
            "description": REASONS[status],
            "content": {
                errors.MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": examples.problem(status),
                }
            },
        }
    if "429" in responses:
        responses["429"]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    operation["responses"] = dict(sorted(responses.items()))


def _requests(task: str, operation: Operation, context: Context) -> dict[str, Any]:
    """Its examples: all of the models that answer where none is named, before the first few of each other one."""
    first = {model.name for model in context.registry.catalog.default_models(cast("Task", task)).values()}
    found, others, shown = {}, {}, Counter[str]()
    for title, body in operation.requests.items():
        name = body.get("model")
        if name is None or name in first:
            found[title] = body
        elif shown[name] < OTHERS_SHOWN:
            others[title] = body
            shown[name] += 1
    return found | others


def _complete_task(
    document: dict[str, Any], schemas: dict[str, Any], path: str, task: Operation, requests: dict[str, Any]
) -> None:
    operation = document["paths"][path]["post"]
    operation["parameters"] = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema["description"],
            "schema": {k: v for k, v in schema.items() if k != "description"},
        }
        for name, schema in task.options.items()
    ]
    operation["parameters"].append(head.PARAMETER)
    deadline = head.DOCUMENTED.format(late=504)
    operation["description"] = "\n\n".join(filter(None, [task.about, task.rule, deadline]))
    declare(schemas, *task.schemas)
    schemas[task.body] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {**task.inputs, **task.options},
    }
    if task.one_of:
        listed = ", ".join(f"`{name}`" for name in task.one_of)
        schemas[task.body]["description"] = f"Exactly one of {listed}, and options."
        schemas[task.body] |= exactly_one(task.one_of)
    if task.rule:
        schemas[task.body]["description"] = task.rule
    sent = {name: {"summary": name, "value": value} for name, value in requests.items()}
    json_body = {"schema": {"$ref": f"#/components/schemas/{task.body}"}} | ({"examples": sent} if sent else {})
    operation["requestBody"] = {
        "required": not task.optional_body,
        "content": {JSON: json_body} | {kind: {"schema": schema} for kind, schema in task.takes.items()},
    }
    ok = operation["responses"]["200"]
    ok["content"] |= {kind: {"schema": schema} for kind, schema in task.gives.items()}
    if task.answers:
        ok["content"][JSON]["examples"] = {name: {"value": value} for name, value in task.answers.items()}
    ok["headers"] = {
        "Server-Timing": {
            "description": "decode, queue and run in milliseconds, and the rows that shared the run",
            "schema": {"type": "string"},
        },
        "X-Model": {"description": "name/version of the model that answered", "schema": {"type": "string"}},
        "X-Device": {"description": "where it ran", "schema": {"type": "string"}},
        **{name: {"description": about, "schema": {"type": "string"}} for name, about in task.headers.items()},
    }


def _complete_cards(document: dict[str, Any], context: Context) -> None:
    names = sorted({m.name for m in context.registry.catalog.models})
    for path, operations in document["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", []):
            if path.startswith("/v1") and parameter["name"] == "name":
                parameter["schema"] = named(names)


def _drop_titles(value: Any) -> None:
    """Take away the titles that pydantic makes of fields' names: makers of clients name classes after them, alike."""
    if isinstance(value, list):
        for inner in value:
            _drop_titles(inner)
    elif isinstance(value, dict):
        for schema in (*value.get("properties", {}).values(), value.get("schema")):
            if isinstance(schema, dict):
                schema.pop("title", None)
        for key, inner in value.items():
            if key not in ("example", "examples"):
                _drop_titles(inner)


def text(app: FastAPI) -> str:
    """The document as it is sent."""
    return json.dumps(app.openapi(), separators=(",", ":"), ensure_ascii=False)
