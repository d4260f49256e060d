"""A request's body taken apart, in every form: pictures, clips and sound raw, as files of a form or in JSON; rows of a
table in JSON or as CSV; rows of numbers as `.npy`.

Decoding comes after it, because the body itself may say which model is meant, and the model says what a row is.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from app.codecs.multipart import parse_form
from app.codecs.turns import turn_to_parse
from app.core.errors import ClientError, TooLarge, UnsupportedMedia, invalid
from app.core.manifest import Modality
from app.core.text import unknown
from app.web.request.form import RequestForm
from app.web.request.json_body import is_repeated, refusal
from app.web.request.json_size import MAX_FIELDS, MAX_VALUES, check_json
from app.web.request.media_types import CSV, FORM, IMAGES, JSON, NPY, SOUNDS, TEXT, VIDEOS
from app.web.request.options import Option, from_texts, merged, twice

FILE_FIELDS: Final[Mapping[str, Modality]] = {
    "video": "video",
    "image": "image",
    "images": "image",
    "sound": "audio",
    "sounds": "audio",
    "text": "text",
}
"""Fields of files in a form and in JSON, by what is in them; an endpoint takes those that its schema has. A text, or a
list of them, stands in JSON alone."""
FILES: Final[Mapping[Modality, tuple[str, str]]] = {
    "video": ("clip", "video"),
    "image": ("picture", "images"),
    "audio": ("recording", "sounds"),
    "text": ("text", "text"),
}
"""What one of them is called, and the field of several."""
RAW: Final[Mapping[Modality, tuple[str, ...]]] = {"video": VIDEOS, "image": IMAGES, "audio": SOUNDS, "text": (TEXT,)}
"""The media types of a body that is one of them; who takes clips takes an animated picture as one."""
INSTANCES: Final = "instances"
COLUMN: Final = "text"
"""The column of texts in a CSV file."""

SMALL_BODY: Final = 32 << 10
SMALL_ITEMS: Final = 8
SMALL_ROWS_BYTES: Final = 1 << 20  # rows need no decoding, only a copy
SMALL_TEXT: Final = 500  # characters; a tokenizer takes 4 us for one
"""What is decoded where it arrived, on the event loop; anything larger goes to a thread."""

LONGEST_TEXT: Final = 200  # characters of a name or a category, in a manifest

RawFile = object
"""A picture, a clip or a recording as it came: bytes of a file, or from JSON its base64 or nested pixels (or anything
else, to be refused)."""
RawPicture = RawFile


def taken(schema: type[BaseModel]) -> tuple[str, ...]:
    """The media types of the bodies that a task takes, by the fields of its JSON body."""
    raw = dict.fromkeys(kind for name in file_fields(schema) for kind in RAW[FILE_FIELDS[name]])
    rows = INSTANCES in schema.model_fields or TEXT in raw
    return (*raw, FORM, JSON, NPY, *((CSV,) if rows else ()))


def file_fields(schema: type[BaseModel]) -> list[str]:
    """The fields of files that a task takes."""
    return [name for name in FILE_FIELDS if name in schema.model_fields]


@dataclass(slots=True)
class Payload:
    """A body taken apart: one of `items`, `rows`, `instances` and `csv`, still as they came."""

    options: dict[str, Option]
    items: list[tuple[str, RawFile]]  # (subject, file)
    rows: bytes | None = None  # an .npy file
    json_bytes: int = 0  # that they came in; nested lists do not tell how much is in them
    instances: list[Any] | None = None  # rows of a table
    csv: bytes | None = None
    parameters: str = ""  # of the media type of `csv`
    of: Modality = "image"  # what the items are

    @property
    def modality(self) -> Modality | None:
        """The kind of model that it is for; None for rows of numbers, which may be of any."""
        if self.items or self.of == "text":
            return self.of
        return "table" if self.rows is None else None

    @property
    def came_bytes(self) -> int:
        """That it came in."""
        size = self.json_bytes or sum(len(item) for _, item in self.items if isinstance(item, bytes | str))
        return size or len(self.rows or self.csv or b"")

    @property
    def small(self) -> bool:
        """Whether decoding takes less than a thread's hand-over would. Few bytes of sound may be minutes of it."""
        if self.of == "text":
            return self._characters() <= SMALL_TEXT
        if self.items:
            if self.of != "image":
                return False
            size = self.json_bytes or sum(len(item) for _, item in self.items if isinstance(item, bytes))
            return len(self.items) <= SMALL_ITEMS and size <= SMALL_BODY
        if self.rows is not None:
            return len(self.rows) <= SMALL_ROWS_BYTES
        return (self.json_bytes if self.csv is None else len(self.csv)) <= SMALL_BODY

    def _characters(self) -> int:
        """Of its texts, or bytes."""
        if self.csv is not None:
            return len(self.csv)
        return sum(len(item) for _, item in self.items if isinstance(item, str | bytes))


def parse(
    kind: str,
    parameters: str,
    body: bytes,
    *,
    query: dict[str, Option],
    form: RequestForm,
    max_rows: int,
    max_values: int = MAX_VALUES,
    max_fields: int = 0,
) -> Payload:
    """Take a body apart.

    Args:
        kind: its media type, one of `form.takes`, or empty.
        parameters: of its media type.
        query: the options that stood in the query.
        form: its schema has `image` and `images`, `video`, `sound` and `sounds`, or `instances`, and the options.
        max_rows: pictures, recordings or rows of a table in one request.
        max_values: in a JSON body.
        max_fields: of rows of a table in a JSON body.

    Raises:
        Unprocessable: no body, two bodies, an unknown field, a value of a wrong type.
        UnsupportedMedia: a body of no declared type.
        TooLarge: more than max_rows pictures or rows, or max_values values.
    """
    schema = form.schema
    if not body:
        there = dict.fromkeys(FILES[FILE_FIELDS[name]][0] for name in file_fields(schema))
        what = " or ".join(f"a {one}" for one in there) + ", or several"
        what += ", or rows of a table" if INSTANCES in schema.model_fields else ""
        expected = f"{what}: {', '.join(form.takes)}"
        raise invalid("body", expected=expected, got="no body", detail="there is no body")
    if not kind:
        expected = ", ".join(form.takes)
        raise invalid(
            "header.content-type",
            expected=expected,
            got="none",
            detail=f"the request has no content type, send one of {expected}",
            error=UnsupportedMedia,
        )
    for modality, kinds in RAW.items():
        if kind in kinds and modality in [FILE_FIELDS[name] for name in file_fields(schema)]:
            return Payload(query, [("body", body)], parameters=parameters, of=modality)
    if kind == NPY:
        return Payload(query, [], body)
    if kind == CSV:
        of = FILE_FIELDS[COLUMN] if INSTANCES not in schema.model_fields or _has_texts(body, schema) else "table"
        return Payload(query, [], csv=body, parameters=parameters, of=of)
    if kind == JSON:
        hint = "; send pictures as base64" if "image" in schema.model_fields else ""
        hint += f", rows as {CSV}" if INSTANCES in schema.model_fields else ""
        hint += f", at most {max_rows} texts" if COLUMN in schema.model_fields else ""
        body = check_json(body, values=max_values, fields=MAX_FIELDS + max_rows + max_fields, hint=hint)
    payload = _from_json(body, form, query) if kind == JSON else _from_form(body, parameters, form, query, max_rows)
    if payload.instances is not None:
        _check_count(len(payload.instances), max_rows, f"body.{INSTANCES}", "rows")
    else:
        unit, subject = FILES[payload.of]
        _check_count(len(payload.items), max_rows, subject, f"{unit}s")
    return payload


def _has_texts(body: bytes, schema: type[BaseModel]) -> bool:
    """Whether the first line names a column of texts, for a task that takes them."""
    first = body[:LONGEST_TEXT].lstrip(b"\xef\xbb\xbf \r\n").splitlines()[:1]
    names = {name.strip(b' "').lower() for line in first for name in re.split(rb"[,;\t]", line)}
    return COLUMN in schema.model_fields and COLUMN.encode() in names


def _check_count(got: int, most: int, subject: str, unit: str) -> None:
    if got > most:
        raise invalid(
            subject,
            expected=f"at most {most} {unit}",
            got=str(got),
            detail=f"the request has {got} {unit}, at most {most} are taken",
            error=TooLarge,
        )


def _from_form(body: bytes, parameters: str, form: RequestForm, query: dict[str, Option], max_rows: int) -> Payload:
    known, fields = form.options, [name for name in file_fields(form.schema) if name != COLUMN]
    parts = parse_form(body, parameters, max_parts=max_rows + 64)
    items: list[tuple[str, RawFile]] = []
    texts: list[tuple[str, str]] = []
    of: Modality = FILE_FIELDS[fields[0]]
    for part in parts:
        if part.name in fields:
            if part.filename is None and not part.data:  # as Swagger UI sends a field in which no file was chosen
                continue
            kind = FILE_FIELDS[part.name]
            if items and kind != of:
                raise _mixed(f"form.{part.name}", of, kind)
            of = kind
            items.append((f"{part.name}[{len(items)}]", part.data))
        elif part.name in known:
            texts.append((part.name, part.data[:1000].decode("utf-8", "replace")))
        else:
            raise unknown("form field", part.name, sorted({*fields, *known}), subject=f"form.{part.name[:100]}")
    options = merged(query, from_texts(texts, known, where="form", what="form field"), where="form")
    if not items:
        there = [name for name in fields if not name.endswith("s")]
        expected = " or ".join(f"one or more files named '{name}'" for name in there)
        kinds = " or ".join(FILES[FILE_FIELDS[name]][0] for name in there)
        raise invalid(f"form.{there[0]}", expected=expected, got="none", detail=f"the form has no {kinds}")
    return Payload(options, items, of=of)


def _mixed(subject: str, first: Modality, second: Modality) -> ClientError:
    expected, got = "files of one kind in one request", f"{FILES[first][0]}s and {FILES[second][0]}s"
    return invalid(subject, expected=expected, got=got, detail=f"the request has {got}, expected {expected}")


def _from_json(body: bytes, form: RequestForm, query: dict[str, Option]) -> Payload:
    schema = form.schema
    try:
        with turn_to_parse(len(body)):
            read = schema.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error, "body", schema) from None
    values = read.__dict__
    given = read.model_fields_set
    if INSTANCES in given:
        _check_names(body, len(given), values[INSTANCES])
    else:
        for name in given:
            if is_repeated(body, name):
                raise twice(name, f"body.{name}")
    options = merged(
        query,
        {name: values[name] for name in (*form.options, *form.json_options) if values[name] is not None},
        where="body",
    )
    there = file_fields(schema)
    there[2:2] = [INSTANCES] if INSTANCES in schema.model_fields else []
    content = [name for name in there if name in given]
    if len(content) != 1:
        which = f"either '{there[0]}' or '{there[1]}'" if len(there) == 2 else f"exactly one of {', '.join(there)}"
        raise invalid(
            f"body.{content[-1] if content else there[0]}",
            expected=f"one of {', '.join(there)}",
            got=" and ".join(content) or "none of them",
            detail=f"the body must have {which}",
        )
    (name,) = content
    if name == INSTANCES:
        return Payload(options, [], json_bytes=len(body), instances=values[INSTANCES])
    files = (
        enumerate(values[name]) if name.endswith("s") or (isinstance(values[name], list) and name == COLUMN) else None
    )
    items = [(f"body.{name}", values[name])] if files is None else [(f"body.{name}[{i}]", file) for i, file in files]
    if not items:
        raise invalid(f"body.{name}", expected="one text or more", got="none", detail=f"body.{name} is empty")
    return Payload(options, items, json_bytes=len(body), of=FILE_FIELDS[name])


def _check_names(body: bytes, fields: int, rows: list[Any]) -> None:
    """The parser keeps the last of two equal names. With as many colons as names were kept there are no others; a body
    with more may have them in its texts, or may say units: it is read again, slowly, with an eye on each object."""
    expected = fields + sum(len(row) for row in rows if type(row) is dict)
    if body.count(b":") > expected and not _has_long_text(rows):
        json.loads(body, object_pairs_hook=_without_twins, parse_int=len, parse_float=len)


def _has_long_text(rows: list[Any]) -> bool:
    """Whether there is a text longer than any name or cell, which is refused by name once the model is known.

    The slow reader takes most of a second for one of 30 MB, and holds the interpreter.
    """
    left: list[Any] = [rows]
    while left:
        match left.pop():
            case str() as text if len(text) > LONGEST_TEXT:
                return True
            case list() as values:
                left += values
            case dict() as fields:
                left += fields
                left += fields.values()
    return False


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        prefix = "body" if INSTANCES in named else f"body.{INSTANCES}"
        raise twice(name[:100], f"{prefix}.{name[:100]}")
    return named
