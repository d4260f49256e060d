"""What the document of the API says of the endpoint beyond its route."""

from __future__ import annotations

from typing import Any, Final

from app.protocols.openai_audio.documents import DELTA, DONE, OpenAIDelta, OpenAIDone
from app.protocols.openai_audio.errors import REASONS, OpenAIError
from app.protocols.openai_audio.form import FORMATS, GRANULARITIES, IGNORED, TIMES
from app.protocols.openai_audio.transcriptions import PATH
from app.web.openapi.forms import optional
from app.web.openapi.operation import FILE, REF, Schema, declare, events_schema, named
from app.web.request import head
from app.web.request.media_types import EVENT_STREAM, FORM, JSON, SRT, TEXT, VTT

TAG: Final = "openai"
ABOUT: Final = "The words of one recording, as OpenAI's transcription answers them."
DESCRIPTION: Final = 'For the client `openai`. Errors are `{"error": {"message": ...}}`.'


def complete(document: dict[str, Any], models: list[str], *, protected: bool) -> None:
    """Add to the document in place.

    Args:
        models: names of those that transcribe, the default first.
        protected: whether an API key is needed.
    """
    schemas = document["components"]["schemas"]
    declare(schemas, OpenAIError, OpenAIDelta, OpenAIDone)
    operation = document["paths"][PATH]["post"]
    operation["description"] = f"{ABOUT}\n\n{head.DOCUMENTED.format(late=504)}"
    operation["parameters"] = [head.PARAMETER]
    operation["requestBody"] = {"required": True, "content": {FORM: {"schema": _form(models)}}}
    text = {"schema": {"type": "string"}}
    events = events_schema(
        "with `stream`: the words that no longer change, as they are heard; in the end all of them",
        {DELTA: OpenAIDelta, DONE: OpenAIDone, "error": OpenAIError},
    )
    operation["responses"]["200"]["content"] |= dict.fromkeys((TEXT, SRT, VTT), text)
    operation["responses"]["200"]["content"][EVENT_STREAM] = {"schema": events}
    operation["responses"].pop("422", None)  # FastAPI's own, which is never sent
    error = {JSON: {"schema": {"$ref": REF.format(model=OpenAIError.__name__)}}}
    for status, reason in REASONS.items():
        if status != 401 or protected:
            operation["responses"][str(status)] = {"description": reason, "content": error}
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    operation["responses"]["429"]["headers"] = retry
    operation["responses"] = dict(sorted(operation["responses"].items()))


def _form(models: list[str]) -> dict[str, Any]:
    ignored = {"type": "string", "description": "taken, and makes no difference here"}
    granularity = {"type": "string", "enum": list(GRANULARITIES)}
    others: dict[str, Schema] = {
        "response_format": {"type": "string", "enum": list(FORMATS), "description": f"`{FORMATS[0]}` without"},
        "stream": {"type": "boolean", "description": "of json and text, by a model that streams"},
        **dict.fromkeys(IGNORED, ignored),
        "temperature": ignored | {"type": "number", "minimum": 0, "maximum": 1},
    }
    return {
        "type": "object",
        "required": ["file", "model"],
        "additionalProperties": False,
        "properties": {
            "file": FILE | {"description": "a sound file"},
            "model": named(models),
            TIMES: {"type": "array", "items": granularity, "examples": [[]], "description": "of every format but text"},
            **optional(others),
        },
    }
