"""Texts in the OpenAPI document: their schemas, the bodies that bring them, and examples."""

from __future__ import annotations

from typing import Final

from app.engine.model import Model
from app.web.openapi.operation import Schema, file_schema
from app.web.request.media_types import CSV, TEXT

# As a picture in JSON: the codec checks it, which knows the model.
TEXT_SCHEMA: Final[Schema] = {
    "description": "a text, or a list of them",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
    ],
}
CSV_TEXTS: Final = "texts: a header with a column `text`, and a text a line"


def text_inputs(max_rows: int) -> dict[str, Schema]:
    """The schema of `text` in a JSON body."""
    one, several = TEXT_SCHEMA["anyOf"]
    return {"text": TEXT_SCHEMA | {"anyOf": [one, several | {"maxItems": max_rows}]}}


def text_bodies() -> dict[str, Schema]:
    """Schemas of the bodies other than JSON that texts come in, by media type."""
    plain = {"type": "string", "minLength": 1, "contentMediaType": TEXT, "description": "one text, in UTF-8"}
    return {TEXT: plain, CSV: file_schema(CSV, CSV_TEXTS)}


def example_text(model: Model) -> str | None:
    """That of the manifest; None of a model that reads no text."""
    return None if model.manifest.text is None else model.manifest.text.example
