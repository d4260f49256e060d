"""A request: `q`, `source`, `target` and what else it may say, in JSON or as fields of a form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.codecs.multipart import parse_form
from app.core.errors import TooLarge, invalid
from app.web.openapi.schemas import TextField
from app.web.request.json_body import read_json, refusal
from app.web.request.json_size import check_json
from app.web.request.media_types import FORM, JSON
from app.web.request.options import twice
from app.web.writing import MOST_BEAM

AUTO: Final = "auto"
MOST_FIELDS: Final = 64
OPTIONAL: Final = ("format", "alternatives", "api_key")


class LibreTranslateRequest(BaseModel):
    """A text, or a list of them, and its languages."""

    model_config = ConfigDict(extra="forbid")

    q: TextField
    source: Annotated[str, Field(description="code of the language; `auto` is the only one that leads to `target`")]
    target: Annotated[str, Field(description="code of the language to translate to")]
    format: Annotated[Literal["text"], Field(description="`html` is not translated")] = "text"
    alternatives: Annotated[int, Field(ge=0, lt=MOST_BEAM, description="further translations of each text")] = 0
    api_key: Annotated[str, Field(description="taken, and not looked at: keys go into a header")] = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks.

    Attributes:
        texts: still as they came: bytes of a form's field, from JSON a text or anything else, to be refused.
        several: whether it sent a list, and gets one.
    """

    texts: list[Any]
    several: bool
    source: str
    target: str
    alternatives: int


def read(kind: str, body: bytes, parameters: str, max_rows: int) -> Wanted:
    """The request.

    Args:
        kind: its media type: JSON, or that of a form.
        parameters: of its media type.
        max_rows: texts in one request.

    Raises:
        Unprocessable, TooLarge: a field that is missing, unknown, given twice or wrong; more texts than that.
    """
    if kind == JSON:
        values = read_json(check_json(body, fields=MOST_FIELDS), LibreTranslateRequest)
    else:
        try:
            values = LibreTranslateRequest.model_validate(_fields(kind, body, parameters, max_rows))
        except ValidationError as error:
            raise refusal(error, "form", LibreTranslateRequest) from None
    several = isinstance(values.q, list)
    texts = values.q if several else [values.q]
    if not texts:
        raise invalid("q", expected="one text or more", got="none", detail="q is an empty list")
    if len(texts) > max_rows:
        detail = f"q has {len(texts)} texts, at most {max_rows} are taken"
        raise invalid("q", expected=f"at most {max_rows} texts", got=str(len(texts)), detail=detail, error=TooLarge)
    return Wanted(texts, several, values.source, values.target, values.alternatives)


def _fields(kind: str, body: bytes, parameters: str, max_rows: int) -> dict[str, Any]:
    """The fields of a form by name; `q` may be there several times, and is a list then."""
    most = MOST_FIELDS + max_rows
    if kind == FORM:
        pairs = [(part.name, part.data) for part in parse_form(body, parameters, max_parts=most)]
    else:
        try:
            # A character is a byte here: a text that is not UTF-8 is refused where it is read, not mended.
            parsed = parse_qsl(body.decode("latin-1"), keep_blank_values=True, max_num_fields=most, encoding="latin-1")
        except ValueError:
            detail = f"the form has more than {most} fields"
            raise invalid(
                "form", expected=f"at most {most} fields", got="more", detail=detail, error=TooLarge
            ) from None
        pairs = [(_as_text(name.encode("latin-1")), value.encode("latin-1")) for name, value in parsed]
    texts = [value for name, value in pairs if name == "q"]
    found: dict[str, Any] = {"q": texts if len(texts) > 1 else texts[0]} if texts else {}
    for name, value in pairs:
        if name == "q" or (not value and name in OPTIONAL):  # browsers send fields that nobody filled in
            continue
        if name in found:
            raise twice(name, f"form.{name[:100]}")
        found[name] = _as_text(value)
    return found


def _as_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
