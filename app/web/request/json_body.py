"""A JSON body against its schema: what is wrong is named, with what is expected there."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from app.codecs.turns import turn_to_parse
from app.core.errors import ClientError, invalid
from app.core.text import described, unknown
from app.web.request.json_size import PIECE_BYTES
from app.web.request.options import in_words, twice

T = TypeVar("T")
Schema = TypeVar("Schema", bound=BaseModel)


def read_json(body: bytes, schema: type[Schema]) -> Schema:
    """The body as its schema reads it. Its size is checked before: `json_size.check_json`.

    Raises:
        Unprocessable: no JSON, an unknown field, one given twice, a value of a wrong type.
    """
    try:
        with turn_to_parse(len(body)):
            read = schema.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error, "body", schema) from None
    for name in read.model_fields_set:
        if is_repeated(body, name):
            raise twice(name, f"body.{name}")
    return read


def read_value(value: Any, kind: TypeAdapter[T], subject: str, schema: type[BaseModel] | None = None) -> T:
    """A part of a body that the body's own schema has let through.

    Args:
        kind: what it must be.
        subject: where it stands, e.g. "body.between[0]".
        schema: its own, where it is an object.

    Raises:
        Unprocessable: it is something else.
    """
    try:
        return kind.validate_python(value, strict=True)
    except ValidationError as error:
        raise refusal(error, subject, schema) from None


def is_repeated(body: bytes, name: str) -> bool:
    """Whether a key stands more than once in a JSON body that holds no other key of that name.

    The parser keeps the last of two equal keys. Inside a JSON text every quote is escaped, so that a bare `"name"` is
    a whole text; only before a colon it is a key.
    """
    quoted, found = b'"%s"' % name.encode(), 0
    for at in range(0, len(body), PIECE_BYTES):
        found += body.count(quoted, at, at + PIECE_BYTES + len(quoted) - 1)  # one that begins in this piece
        if found > 1:
            return len(re.findall(rb'"%s"\s*:' % name.encode(), body)) > 1
    return False


def refusal(error: ValidationError, subject: str, schema: type[BaseModel] | None = None) -> ClientError:
    """The first of the errors, in our words."""
    first = error.errors(include_url=False, include_context=True)[0]
    if first["type"] == "json_invalid":
        why = str(first.get("ctx", {}).get("error", first["msg"]))
        return invalid("body", expected="a JSON object", got=why, detail=f"the body is not JSON: {why}")
    steps = first["loc"]
    subject += "".join(f"[{step}]" if isinstance(step, int) else f".{step[:100]}" for step in steps)
    if first["type"] == "extra_forbidden":
        return unknown("field", str(steps[-1]), sorted(_fields(schema, steps[:-1])), subject=subject)
    if first["type"] == "missing":
        expected, got = f"the field '{steps[-1]}'", "none"
        return invalid(subject, expected=expected, got=got, detail=f"{subject} is missing")
    expected = in_words(first["msg"]).replace("valid number", "number")
    if first["type"] == "model_type":
        expected = "an object with " + ", ".join(_fields(schema, steps))
    got = described(first["input"])
    return invalid(subject, expected=expected, got=got)


def _fields(schema: type[BaseModel] | None, steps: tuple[int | str, ...]) -> list[str]:
    """The names of the fields of that object."""
    known = {} if schema is None else schema.model_fields
    for step in steps:
        inner = known[str(step)].annotation if str(step) in known else None
        models = [kind for kind in (inner, *getattr(inner, "__args__", ())) if _is_model(kind)]
        known = models[0].model_fields if models else {}
    return list(known)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
