"""What the document of the API says of the endpoint beyond its route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.engine.registry import Model
from app.protocols.openai_audio.errors import REASONS, OpenAIError
from app.protocols.openai_audio.form import FORMATS, GRANULARITIES, IGNORED, TIMES
from app.protocols.openai_audio.transcriptions import PATH
from app.web.openapi.operation import FILE, REF, declare, named
from app.web.request import head
from app.web.request.media_types import EVENT_STREAM, FORM, JSON, SRT, TEXT, VTT

TAG: Final = "openai"
DESCRIPTION: Final = 'For the client `openai`. Errors are `{"error": {"message": ...}}`.'


def complete(document: dict[str, Any], models: Sequence[Model], *, protected: bool) -> None:
    """Add to the document in place.

    Args:
        models: that transcribe.
        protected: whether an API key is needed.
    """
    schemas = document["components"]["schemas"]
    declare(schemas, OpenAIError)
    operation = document["paths"][PATH]["post"]
    operation["description"] = head.DOCUMENTED.format(late=504)
    operation["parameters"] = [head.PARAMETER]
    operation["requestBody"] = {"required": True, "content": {FORM: {"schema": _form(models)}}}
    text = {"schema": {"type": "string"}}
    operation["responses"]["200"]["content"] |= dict.fromkeys((TEXT, SRT, VTT, EVENT_STREAM), text)
    operation["responses"].pop("422", None)  # FastAPI's own, which is never sent
    error = {JSON: {"schema": {"$ref": REF.format(model=OpenAIError.__name__)}}}
    for status, reason in REASONS.items():
        if status != 401 or protected:
            operation["responses"][str(status)] = {"description": reason, "content": error}
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    operation["responses"]["429"]["headers"] = retry
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _form(models: Sequence[Model]) -> dict[str, Any]:
    ignored = {"type": "string", "description": "taken, and makes no difference here"}
    granularity = {"type": "string", "enum": list(GRANULARITIES)}
    return {
        "type": "object",
        "required": ["file", "model"],
        "additionalProperties": False,
        "properties": {
            "file": FILE | {"description": "a sound file"},
            "model": named(sorted({model.name for model in models})),
            "response_format": {"type": "string", "enum": list(FORMATS), "default": FORMATS[0]},
            TIMES: {"type": "array", "items": granularity, "description": "of every format but text"},
            "stream": {"type": "boolean", "description": "of json and text, by a model that streams"},
            **dict.fromkeys(IGNORED, ignored),
            "temperature": ignored | {"type": "number", "minimum": 0, "maximum": 1},
        },
    }
