"""What the document of the API says of the endpoints beyond their routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.engine.model import Model
from app.protocols.libre_translate.errors import PATHS, REASONS, LibreError
from app.protocols.libre_translate.form import OPTIONAL, LibreTranslateRequest
from app.protocols.libre_translate.translations import PATH, TAKES
from app.web.openapi.forms import optional
from app.web.openapi.operation import REF, declare, declare_requests
from app.web.openapi.texts import example_text
from app.web.request import head
from app.web.request.media_types import JSON

TAG: Final = "libretranslate"
ABOUT: Final = "One text, or several as a list, in another language, as LibreTranslate answers them."
DESCRIPTION: Final = 'For clients of LibreTranslate. Errors are `{"error": ...}`.'
FORM_SHOWN: Final = {"q": "Where is the station?", "source": "en", "target": "pt"}
_OF_LISTS: Final = (401, 500, 503)


def complete(document: dict[str, Any], models: Sequence[Model], *, protected: bool) -> None:
    """Add to the document in place.

    Args:
        models: that are shown of those that translate.
        protected: whether an API key is needed.
    """
    schemas = document["components"]["schemas"]
    declare(schemas, LibreError)
    declare_requests(schemas, LibreTranslateRequest)
    operation = document["paths"][PATH]["post"]
    operation["description"] = f"{ABOUT}\n\n{head.DOCUMENTED.format(late=504)}"
    operation["parameters"] = [head.PARAMETER]
    body = {"schema": {"$ref": REF.format(model=LibreTranslateRequest.__name__)}}
    requests = _requests(models)
    fields = schemas[LibreTranslateRequest.__name__]["properties"]
    first = next(iter(requests.values()))["value"]
    form = {
        "type": "object",
        "additionalProperties": False,
        "required": list(first),
        "properties": {
            **{name: fields[name] | {"examples": [value]} for name, value in first.items()},
            **optional({name: fields[name] for name in OPTIONAL}),
        },
    }
    operation["requestBody"] = {
        "required": True,
        "content": {kind: {"schema": form} for kind in TAKES} | {JSON: body | {"examples": requests}},
    }
    error = {JSON: {"schema": {"$ref": REF.format(model=LibreError.__name__)}}}
    for path in PATHS:
        for method, one in document["paths"][path].items():
            responses = one["responses"]
            responses.pop("422", None)  # FastAPI's own, which is never sent
            for status, reason in REASONS.items():
                if (method == "post" or status in _OF_LISTS) and (status != 401 or protected):
                    responses[str(status)] = {"description": reason, "content": error}
            one["responses"] = dict(sorted(responses.items()))
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    operation["responses"]["429"]["headers"] = retry


def _requests(models: Sequence[Model]) -> dict[str, Any]:
    """One of each pair of languages; where there is none, one that shows the form."""
    found: dict[str, Any] = {
        f"{pair.source} to {pair.target}": {"q": example_text(model), "source": pair.source, "target": pair.target}
        for model in models
        if (pair := model.manifest.languages) is not None
    }
    return {name: {"value": value} for name, value in (found or {"a text": FORM_SHOWN}).items()}
