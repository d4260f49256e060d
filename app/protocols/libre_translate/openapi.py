"""What the document of the API says of the endpoints beyond their routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.engine.model import Model
from app.protocols.libre_translate.errors import PATHS, REASONS, LibreError
from app.protocols.libre_translate.form import LibreTranslateRequest
from app.protocols.libre_translate.translations import PATH, TAKES
from app.web.openapi.operation import REF, declare
from app.web.openapi.texts import example_text
from app.web.request import head
from app.web.request.media_types import JSON

TAG: Final = "libretranslate"
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
    for kind in (LibreError, LibreTranslateRequest):
        declare(schemas, kind)
    operation = document["paths"][PATH]["post"]
    operation["description"] = head.DOCUMENTED.format(late=504)
    operation["parameters"] = [head.PARAMETER]
    body = {"schema": {"$ref": REF.format(model=LibreTranslateRequest.__name__)}}
    examples = {"examples": _requests(models)}
    operation["requestBody"] = {"required": True, "content": dict.fromkeys(TAKES, body) | {JSON: body | examples}}
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
