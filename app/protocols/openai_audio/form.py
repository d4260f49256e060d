"""The form of a request: the file, the model, and what the answer should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Final, Literal, cast, get_args

from app.codecs.multipart import FormPart, parse_form
from app.core.errors import ClientError, invalid, shown
from app.core.text import listed, unknown
from app.web.request.options import twice

ResponseFormat = Literal["json", "verbose_json", "text", "srt", "vtt"]
Granularity = Literal["word", "segment"]
FORMATS: Final[tuple[ResponseFormat, ...]] = get_args(ResponseFormat)
GRANULARITIES: Final[tuple[Granularity, ...]] = get_args(Granularity)
TIMES: Final = "timestamp_granularities[]"
IGNORED: Final = ("language", "prompt", "temperature", "chunking_strategy")
"""A model here has its vocabulary and decodes in one way."""
SINGLE: Final = ("file", "model", "response_format", "stream", *IGNORED)
MOST_PARTS: Final = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks.

    Attributes:
        language: as sent; empty where none was.
        times: which times the answer has; empty where the request does not say.
    """

    file: bytes
    model: str
    response_format: ResponseFormat
    times: frozenset[Granularity]
    stream: bool
    language: str


def read(body: bytes, parameters: str) -> Wanted:
    """The form.

    Raises:
        Unprocessable, TooLarge: as `parse_form`; a field that is missing, unknown, given twice or wrong.
    """
    fields: dict[str, FormPart] = {}
    times: set[Granularity] = set()
    for part in parse_form(body, parameters, max_parts=MOST_PARTS):
        name = part.name
        if name in (TIMES, TIMES.removesuffix("[]")):
            if part.data:
                times.add(cast("Granularity", _one_of(TIMES, _text(part), GRANULARITIES)))
        elif name not in SINGLE:
            raise unknown("form field", name, [*SINGLE, TIMES], subject=name[:100])
        elif name in fields:
            raise twice(name, name)
        elif part.data or name == "file":  # browsers send fields that nobody filled in
            fields[name] = part
    for name in ("file", "model"):
        if name not in fields:
            raise invalid(name, expected=f"the field '{name}'", got="none", detail=f"the form has no field '{name}'")
    form = _one_of("response_format", _text(fields.get("response_format"), "json"), FORMATS)
    stream = _one_of("stream", _text(fields.get("stream"), "false").lower(), ("true", "false")) == "true"
    _check_temperature(_text(fields.get("temperature"), "0"))
    _check_together(form, times, stream)
    return Wanted(
        fields["file"].data,
        _text(fields["model"]),
        cast("ResponseFormat", form),
        frozenset(times),
        stream,
        _text(fields.get("language")),
    )


def _check_temperature(text: str) -> None:
    """It changes nothing, but what OpenAI refuses is a mistake here too."""
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not 0 <= value <= 1:
        raise invalid("temperature", expected="a number from 0 to 1", got=shown(text))


def _check_together(form: str, times: set[Granularity], stream: bool) -> None:
    if times and form == "text":
        raise _not_with(TIMES, "a response_format with room for times", "response_format text")
    if stream and form not in ("json", "text"):
        raise _not_with("stream", "response_format json or text", f"response_format {form}")
    if stream and times:
        raise _not_with(TIMES, "no stream", "stream true")


def _not_with(subject: str, expected: str, got: str) -> ClientError:
    return invalid(subject, expected=expected, got=got, detail=f"{subject} needs {expected}, here is {got}")


def _text(part: FormPart | None, default: str = "") -> str:
    return default if part is None else part.data[:1000].decode("utf-8", "replace")


def _one_of(subject: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise invalid(subject, expected=listed(known), got=shown(text), rule="it must be one of")
    return text
