"""Forms of files and options in the OpenAPI document.

Swagger UI fills in every field and sends it: the first value of an enumeration, an example, or one that it makes of the
schema. So that a form with a chosen file is answered as it stands, the first value of each option is the empty text,
which is sent by browsers for what nobody filled in and means that the option is not given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from app.web.openapi.operation import FILE, Schema

_NOT_GIVEN: Final[Schema] = {"type": "string", "maxLength": 0}


def files_schema(described: str, most: int) -> Schema:
    """One file or several of a form."""
    return {"type": "array", "minItems": 1, "maxItems": most, "items": FILE, "description": described}


def form_schema(files: Mapping[str, Schema], options: Mapping[str, Schema]) -> Schema:
    """A form of files and options.

    Args:
        files: the fields of files. Of several, a form has one.
    """
    form: Schema = {"type": "object", "additionalProperties": False}
    if len(files) == 1:
        return form | {"required": list(files), "properties": {**files, **optional(options)}}
    listed = " or ".join(f"`{name}`" for name in files)
    return form | {
        "description": f"Either {listed}, and options.",
        "properties": {**{name: _left_out(schema) for name, schema in files.items()}, **optional(options)},
        **exactly_one(files, {"minItems": 1, "minLength": 1}),
    }


def optional(options: Mapping[str, Schema]) -> dict[str, Schema]:
    """Fields of a form that may be empty."""
    return {name: _optional(schema) for name, schema in options.items()}


def exactly_one(names: Iterable[str], filled: Schema | None = None) -> Schema:
    """That an object has one of these fields, and no other of them.

    Twice negated: makers of clients take alternatives as so many types, and lose the fields. None of them reads `not`.

    Args:
        filled: what a field is that counts as there.
    """
    alternatives: list[dict[str, Any]] = [
        {"required": [name]} | ({"properties": {name: filled}} if filled else {}) for name in names
    ]
    return {"not": {"not": {"oneOf": alternatives}}}


def _optional(schema: Schema) -> Schema:
    if "enum" in schema:
        return {**schema, "enum": ["", *schema["enum"]]}
    described = {"description": schema["description"]} if "description" in schema else {}
    if schema.get("type") == "string" and not schema.get("minLength"):
        return {**schema, "examples": [""]}
    meant = {name: value for name, value in schema.items() if name not in ("title", "description")}
    return {**described, "examples": [""], "anyOf": [_NOT_GIVEN, *meant.get("anyOf", [meant])]}


def _left_out(schema: Schema) -> Schema:
    """Files that need not be there."""
    if schema["type"] != "array":
        return schema
    return {name: value for name, value in schema.items() if name != "minItems"} | {"examples": [[]]}
