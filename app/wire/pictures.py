"""Pictures in a request, in every form that is taken: raw, as files of a form, in JSON, as rows of `.npy`.

Two steps, because the body itself may say which model is meant, and the model says what a picture becomes:
`parse` finds options and pictures as they came, `decode` makes them the model's rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from app.codecs.forms import parse_form
from app.codecs.images import decode as decode_image
from app.codecs.images import decode_base64, from_nested
from app.codecs.tensors import decode_npy
from app.core.errors import TooLarge, Unprocessable, UnsupportedMedia
from app.core.manifest import Picture, TensorSpec, numpy_dtype
from app.wire.json_size import MAX_FIELDS, MAX_VALUES, PIECE_BYTES, check_json, parsing
from app.wire.options import Known, Option, described, from_texts, in_words, merged, twice, unknown

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
FORM: Final = "multipart/form-data"
IMAGES: Final = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff")
TAKEN: Final = (*IMAGES, FORM, JSON, NPY)
FILE_FIELDS: Final = ("image", "images")

SMALL_BYTES: Final = 32 << 10
SMALL_PIXELS: Final = 128 * 128
SMALL_ITEMS: Final = 8
SMALL_ROWS_BYTES: Final = 1 << 20  # rows need no decoding, only a copy
"""What is decoded where it arrived, on the event loop; anything larger goes to a thread."""

RawPicture = object
"""A picture as it came: bytes of a file, or from JSON its base64 or nested pixels (or anything else, to be refused)."""


@dataclass(slots=True)
class Payload:
    """A body taken apart, its pictures still as they came."""

    options: dict[str, Option]
    items: list[tuple[str, RawPicture]]  # (subject, picture)
    rows: bytes | None = None  # an .npy file
    json_bytes: int = 0  # that they came in; nested lists do not tell how much is in them

    @property
    def small(self) -> bool:
        """Whether decoding takes less than a thread's hand-over would."""
        if self.rows is not None:
            return len(self.rows) <= SMALL_ROWS_BYTES
        size = self.json_bytes or sum(len(item) for _, item in self.items if isinstance(item, bytes))
        return len(self.items) <= SMALL_ITEMS and size <= SMALL_BYTES


def parse(
    kind: str,
    parameters: str,
    body: bytes,
    *,
    query: dict[str, Option],
    known: Known,
    schema: type[BaseModel],
    max_rows: int,
    max_values: int = MAX_VALUES,
) -> Payload:
    """Take a body apart.

    Args:
        kind: its media type, one of TAKEN, or empty.
        parameters: of its media type.
        query: the options that stood in the query.
        known: the options that exist.
        schema: of a JSON body: `image`, `images` and the options.
        max_rows: pictures in one request.
        max_values: in a JSON body.

    Raises:
        Unprocessable: no body, two bodies, an unknown field, a value of a wrong type.
        UnsupportedMedia: a body of no declared type.
        TooLarge: more than max_rows pictures, or max_values values.
    """
    if not body:
        raise Unprocessable(
            "there is no body", subject="body", expected="a picture, or several: " + ", ".join(TAKEN), got="no body"
        )
    if not kind:
        raise UnsupportedMedia(
            f"the request has no content type, send one of {', '.join(TAKEN)}",
            subject="header.content-type",
            expected=", ".join(TAKEN),
            got="none",
        )
    if kind in IMAGES:
        return Payload(query, [("body", body)])
    if kind == NPY:
        return Payload(query, [], body)
    if kind == JSON:
        check_json(body, values=max_values, fields=MAX_FIELDS + max_rows, hint="; send pictures as base64")
    payload = (
        _from_json(body, known, schema, query) if kind == JSON else _from_form(body, parameters, known, query, max_rows)
    )
    if len(payload.items) > max_rows:
        got = len(payload.items)
        raise TooLarge(
            f"the request has {got} pictures, at most {max_rows} are taken",
            subject="images",
            expected=f"at most {max_rows} pictures",
            got=str(got),
        )
    return payload


def _from_form(body: bytes, parameters: str, known: Known, query: dict[str, Option], max_rows: int) -> Payload:
    parts = parse_form(body, parameters, max_parts=max_rows + 64)
    items: list[tuple[str, RawPicture]] = []
    texts: list[tuple[str, str]] = []
    for part in parts:
        if part.name in FILE_FIELDS:
            items.append((f"{part.name}[{len(items)}]", part.data))
        elif part.name in known:
            texts.append((part.name, part.data[:1000].decode("utf-8", "replace")))
        else:
            raise unknown(part.name, {*FILE_FIELDS, *known}, subject=f"form.{part.name[:100]}", what="form field")
    options = merged(query, from_texts(texts, known, where="form", what="form field"), where="form")
    if not items:
        raise Unprocessable(
            "the form has no picture", subject="form.image", expected="one or more files named 'image'", got="none"
        )
    return Payload(options, items)


def _from_json(body: bytes, known: Known, schema: type[BaseModel], query: dict[str, Option]) -> Payload:
    try:
        with parsing(body):
            read = schema.model_validate_json(body)
    except ValidationError as error:
        raise _json_error(error, schema) from None
    values = read.__dict__
    given = read.model_fields_set
    _check_repeated_keys(body, given)
    options = merged(query, {name: values[name] for name in known if values[name] is not None}, where="body")
    if ("image" in given) == ("images" in given):
        raise Unprocessable(
            "the body must have either 'image' or 'images'",
            subject="body.images" if "image" in given else "body.image",
            expected="one of image, images",
            got="both" if "image" in given else "neither",
        )
    if "image" in given:
        return Payload(options, [("body.image", values["image"])], json_bytes=len(body))
    items = [(f"body.images[{i}]", image) for i, image in enumerate(values["images"])]
    return Payload(options, items, json_bytes=len(body))


def _check_repeated_keys(body: bytes, given: set[str]) -> None:
    # The parser keeps the last of two equal keys. Inside a JSON text every quote is escaped, so that a bare
    # `"name"` is a whole text; only before a colon it is a key. Counting first keeps the usual request cheap.
    for name in given:
        if _is_twice(body, b'"%s"' % name.encode()) and len(re.findall(rb'"%s"\s*:' % name.encode(), body)) > 1:
            raise twice(name, f"body.{name}")


def _is_twice(body: bytes, text: bytes) -> bool:
    found = 0
    for at in range(0, len(body), PIECE_BYTES):
        found += body.count(text, at, at + PIECE_BYTES + len(text) - 1)  # one that begins in this piece
        if found > 1:
            return True
    return False


def _json_error(error: ValidationError, schema: type[BaseModel]) -> Unprocessable:
    first = error.errors(include_url=False, include_context=True)[0]
    if first["type"] == "json_invalid":
        why = str(first.get("ctx", {}).get("error", first["msg"]))
        return Unprocessable(f"the body is not JSON: {why}", subject="body", expected="a JSON object", got=why)
    place = ".".join(["body", *(str(part)[:100] for part in first["loc"])])
    if first["type"] == "extra_forbidden":
        return unknown(str(first["loc"][-1]), schema.model_fields, subject=place, what="field")
    expected = in_words(first["msg"])
    if first["type"] == "model_type":
        expected = "an object with " + ", ".join(schema.model_fields)
    got = described(first["input"])
    return Unprocessable(f"{place} is {got}, it must be {expected}", subject=place, expected=expected, got=got)


def decode(
    payload: Payload, picture: Picture | None, spec: TensorSpec, *, max_rows: int, max_pixels: int
) -> NDArray[Any]:
    """The model's rows: (rows, *spec.shape[1:]).

    Args:
        payload: what `parse` gave.
        picture: how a picture becomes a row; None for a model that takes no pictures.
        spec: the graph's input.

    Raises:
        UnsupportedMedia, Unprocessable, TooLarge: as the codecs; or pictures for a model that takes none.
    """
    if payload.rows is not None:
        shape = tuple(size for size in spec.shape[1:] if isinstance(size, int))
        if len(shape) != len(spec.shape) - 1:
            raise UnsupportedMedia(f"{NPY} is not taken: rows of this model vary in shape", subject="body")
        return decode_npy(
            payload.rows, dtype=numpy_dtype(spec.dtype), row_shape=shape, max_rows=max_rows, subject="body"
        )
    if picture is None:
        raise UnsupportedMedia(
            f"this model takes rows as {NPY}, not pictures", subject="body", expected=NPY, got="a picture"
        )
    rows = [_decode_one(item, picture, subject, max_pixels) for subject, item in payload.items]
    return rows[0][None] if len(rows) == 1 else np.stack(rows)


def _decode_one(item: RawPicture, picture: Picture, subject: str, max_pixels: int) -> NDArray[np.uint8]:
    if isinstance(item, bytes):
        return decode_image(item, picture, subject=subject, max_pixels=max_pixels)
    if isinstance(item, str):
        return decode_base64(item, picture, subject=subject, max_pixels=max_pixels)
    if isinstance(item, list):
        return from_nested(item, picture, subject=subject)
    got = described(item)
    expected = "base64 of an image file, or nested lists of pixels"
    raise Unprocessable(f"{subject} is {got}, it must be {expected}", subject=subject, expected=expected, got=got)
