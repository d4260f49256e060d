"""What the document of the API says of /v2 beyond its routes: names, versions, bodies in both forms, examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.engine.registry import Model
from app.protocols.open_inference.documents import ControlRequest, IndexRequest, InferRequest, OipError
from app.protocols.open_inference.errors import REASONS, is_mine
from app.protocols.open_inference.infer import HEADER_LENGTH
from app.protocols.open_inference.models import names
from app.web.openapi.operation import REF, declare, declare_requests
from app.web.request import head

TAG: Final = "open inference protocol"
DESCRIPTION: Final = 'For `tritonclient[http]` and the clients of KServe. Errors are `{"error": ...}`.'
JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"
INFER: Final = (
    "A body is JSON, or JSON with the raw little-endian tensors behind it, in the order of the inputs that give a "
    f"`binary_data_size`; `{HEADER_LENGTH}` is then the length of the JSON in bytes, of the body and of the answer. "
    "0 says that there is no JSON at all: the body is one row of the only input. The declared content type does not "
    "matter. A body may be compressed (`Content-Encoding: gzip` or `deflate`), and so is the answer where "
    "`Accept-Encoding` says so."
)
Example = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExampleModel:
    """The model of the examples.

    Attributes:
        name, version: for the path.
        requests, answers: bodies of an inference, by what they show.
    """

    name: str
    version: str
    requests: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)


def complete(document: dict[str, Any], models: Sequence[Model], shown: ExampleModel | None) -> None:
    """Add to the document in place.

    Args:
        shown: None where no model is loaded.
    """
    schemas = document["components"]["schemas"]
    declare(schemas, OipError)
    declare_requests(schemas, InferRequest, IndexRequest, ControlRequest)
    path_parameters = {
        "name": _path_parameter("name", (n for m in models for n in names(m)), shown.name if shown else None),
        "version": _path_parameter("version", (m.version for m in models), shown.version if shown else None),
    }
    for path, operations in document["paths"].items():
        if not is_mine(path):
            continue
        for method, operation in operations.items():
            operation["responses"].pop("422", None)  # FastAPI's own, which is never sent
            _complete(operation, path, method, path_parameters, shown)
            operation["responses"] = dict(sorted(operation["responses"].items()))


def _complete(
    operation: dict[str, Any],
    path: str,
    method: str,
    path_parameters: Mapping[str, dict[str, Any]],
    shown: ExampleModel | None,
) -> None:
    operation["parameters"] = [parameter for name, parameter in path_parameters.items() if f"{{{name}}}" in path]
    if path.startswith("/v2/repository/models/") and operation["parameters"]:
        operation["parameters"] = [_folder(shown)]
    if path.endswith("/infer"):
        _complete_infer(operation, shown)
    elif path.endswith("/index"):
        _body(operation, "IndexRequest", {"those that answer": {"ready": True}, "all": {}})
    elif path.endswith("load"):
        _body(operation, "ControlRequest", {"as it is": {}})
    elif method == "post":  # trace settings: those in force already
        operation["requestBody"] = {
            "content": {JSON: {"schema": {"type": "object"}, "example": {"trace_level": ["OFF"]}}}
        }
    if not operation["parameters"]:
        del operation["parameters"]


def _complete_infer(operation: dict[str, Any], shown: ExampleModel | None) -> None:
    operation["description"] = f"{INFER}\n\n{head.DOCUMENTED.format(late=503)} So says `timeout`, in microseconds."
    operation["parameters"] += [
        head.PARAMETER,
        {
            "name": HEADER_LENGTH,
            "in": "header",
            "required": False,
            "description": "bytes of JSON before the raw tensors; absent where all is JSON",
            "schema": {"type": "integer", "minimum": 0},
        },
    ]
    raw = {"schema": {"type": "string", "format": "binary", "description": "JSON, and raw tensors behind it"}}
    _body(operation, "InferRequest", shown.requests if shown else {})
    operation["requestBody"]["required"] = True
    operation["requestBody"]["content"][BINARY] = raw
    ok = operation["responses"]["200"]
    ok["content"][BINARY] = raw
    if shown and shown.answers:
        ok["content"][JSON]["examples"] = _examples(shown.answers)
    ok["headers"] = {
        HEADER_LENGTH: {
            "description": "bytes of JSON before the raw tensors; absent where all is JSON",
            "schema": {"type": "integer"},
        },
        "Content-Encoding": {"description": "gzip or deflate, where asked for", "schema": {"type": "string"}},
    }
    operation["responses"]["503"]["headers"] = {
        "Retry-After": {"description": "seconds, where the queue is full", "schema": {"type": "integer"}}
    }


def unauthorised() -> dict[str, Any]:
    """The answer to a key that is missing or wrong."""
    schema = {"$ref": REF.format(model=OipError.__name__)}
    return {"description": REASONS[401], "content": {JSON: {"schema": schema}}}


def _body(operation: dict[str, Any], schema: str, examples: Mapping[str, Any]) -> None:
    content: dict[str, Any] = {"schema": {"$ref": REF.format(model=schema)}}
    operation["requestBody"] = {"content": {JSON: content | ({"examples": _examples(examples)} if examples else {})}}


def _examples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {what: {"summary": what, "value": value} for what, value in values.items()}


def _path_parameter(name: str, known: Iterable[str], example: str | None) -> dict[str, Any]:
    """A part of the path that names a model or a version."""
    values = sorted(set(known), key=lambda value: (len(value), value) if name == "version" else (0, value))
    parameter = {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": values} if values else {"type": "string"},
    }
    return parameter if example is None else parameter | {"example": example}


def _folder(shown: ExampleModel | None) -> dict[str, Any]:
    """The part of the path that names a folder, which need not be loaded yet, and is one however many its graphs."""
    parameter = _path_parameter("name", (), shown.name.partition(".")[0] if shown else None)
    return parameter | {"description": "of its folder in the models folder"}
