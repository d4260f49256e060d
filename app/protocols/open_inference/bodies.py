"""The small JSON bodies of the extensions, which may be empty: Triton's client sends them without a content type."""

from __future__ import annotations

from typing import TypeVar

import pydantic_core
from fastapi import Request
from pydantic import BaseModel, ValidationError

from app.core.errors import invalid
from app.core.text import described
from app.web.request.body import read_body
from app.web.request.json_size import check_json
from app.web.request.limits import Limits
from app.web.request.options import in_words

Document = TypeVar("Document", bound=BaseModel)


async def json_object(request: Request, limits: Limits) -> dict[str, object]:
    """The body; an empty object where there is none.

    Raises:
        ClientError: it is something else, or too much, or does not arrive.
    """
    body = check_json(await read_body(request.scope, request.receive, limits))
    if not body:
        return {}
    try:
        value = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise invalid("body", expected="a JSON object", detail=f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        got = described(value)
        raise invalid("body", expected="a JSON object", got=got, where="the body", rule="expected")
    return value


async def document(request: Request, limits: Limits, kind: type[Document]) -> Document:
    """The body as a document of that kind.

    Raises:
        ClientError: as `json_object`, or a field that is something else.
    """
    value = await json_object(request, limits)
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        subject = ".".join(str(part)[:100] for part in first["loc"])
        expected, got = in_words(str(first["msg"])), described(first.get("input"))
        raise invalid(subject, expected=expected, got=got) from None
