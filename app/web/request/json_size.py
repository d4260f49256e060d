"""How much there is in a JSON body, found before it is parsed.

The parser holds the interpreter from its first byte to its last, and whoever waits for the event loop waits for it:
30 MB of `[],` take it many seconds and gigabytes. Counting signs takes milliseconds.
"""

from __future__ import annotations

import math
from codecs import BOM_UTF8
from collections.abc import Iterable
from typing import Final

from app.core.errors import TooLarge, invalid
from app.core.manifest import Manifest
from app.engine.model import Model
from app.web.request.model_choice import MAX_OUTPUT_PIXELS

MAX_VALUES: Final = 1 << 20
MAX_LISTS: Final = 1 << 19
MAX_FIELDS: Final = 1_000
SMALL_BYTES: Final = 16 << 10  # too few for any of it to matter
PIECE_BYTES: Final = 1 << 20  # looked through before another thread may have its turn


def check_json(body: bytes, *, values: int = MAX_VALUES, fields: int = MAX_FIELDS, hint: str = "") -> bytes:
    """Count what a body can hold at most, and give what is to be parsed: the body without a byte order mark, which some
    editors and clients write and parsers may ignore (RFC 8259, 8.1).

    Signs inside texts count as well: base64 has none of them.

    Args:
        body: JSON, or something that claims to be.
        values: numbers, texts and all else that commas part.
        fields: of all objects together.
        hint: what to do instead, e.g. "; send pictures as base64".

    Raises:
        TooLarge: more than that.
    """
    if body.startswith(BOM_UTF8):
        body = body[len(BOM_UTF8) :]
    if len(body) <= SMALL_BYTES:
        return body
    values = min(values, MAX_VALUES)
    commas = _count(body, b",")
    # Only commas make many lists: brackets alone make deep ones, which the parser refuses at once.
    lists = min(commas, _count(body, b"["))
    counted = ((commas, values, "values"), (lists, MAX_LISTS, "lists"), (_count(body, b":"), fields, "fields"))
    for got, most, what in counted:
        if got > most:
            raise invalid(
                "body",
                expected=f"at most {most} {what}",
                got=f"{got} {what}",
                detail=f"the body has {got} JSON {what}, at most {most} are taken{hint}",
                error=TooLarge,
            )
    return body


def _count(body: bytes, sign: bytes) -> int:
    return sum(body.count(sign, at, at + PIECE_BYTES) for at in range(0, len(body), PIECE_BYTES))


def bounds_for(models: Iterable[Model], max_rows: int) -> tuple[int, int]:
    """What a JSON body needs for as many rows as are taken, of the largest model: values of nested pictures or of rows
    of a table, and fields of the latter, of which each may be an object of two."""
    manifests = [model.manifest for model in models]
    pixels = max((_pixels(m) for m in manifests), default=0)
    columns = max((len(m.table.columns) for m in manifests if m.table), default=0)
    return max_rows * max(pixels, 2 * columns) + 1000, max_rows * 3 * columns


def _pixels(manifest: Manifest) -> int:
    """Values of one of its pictures at most; a plane is of any size, of three colours."""
    pictures = [manifest.picture, *(domain.picture for domain in manifest.domains)]
    sizes = [math.prod(picture.shape) for picture in pictures if picture is not None]
    return max([*sizes, 3 * MAX_OUTPUT_PIXELS if manifest.plane is not None else 0])


def most_pixels(models: Iterable[Model]) -> int:
    """Of a picture of the largest model, each of its colours counted."""
    manifests = (model.manifest for model in models)
    return max((math.prod(m.picture.shape) for m in manifests if m.picture), default=0)
