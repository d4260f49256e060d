"""How much there is in a JSON body, found before it is parsed.

The parser holds the interpreter from its first byte to its last, and whoever waits for the event loop waits for it:
30 MB of `[],` take it many seconds and gigabytes. Counting signs takes milliseconds.
"""

from __future__ import annotations

import math
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from app.core.errors import TooLarge, invalid
from app.core.manifest import Manifest
from app.engine.model import Model
from app.web.request.model_choice import MAX_OUTPUT_PIXELS

MAX_VALUES: Final = 1 << 20
MAX_LISTS: Final = 1 << 19
MAX_FIELDS: Final = 1_000
SMALL_BYTES: Final = 16 << 10  # too few for any of it to matter
PIECE_BYTES: Final = 1 << 20  # looked through before another thread may have its turn
_SIGNS: Final = b",[:"


def check_json(body: bytes, *, values: int = MAX_VALUES, fields: int = MAX_FIELDS, hint: str = "") -> bytes:
    """Count what a body can hold at most, and give what is to be parsed: the body without a byte order mark, which some
    editors and clients write and parsers may ignore (RFC 8259, 8.1).

    What stands inside texts is left out only where all together is too much: base64 has none of these signs, sentences
    are full of them.

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
    most = {"values": min(values, MAX_VALUES), "lists": MAX_LISTS, "fields": fields}
    if _excess(_count(body), most) is None:
        return body
    excess = _excess(_count_outside_texts(body), most)
    if excess is not None:
        what, got = excess
        raise invalid(
            "body",
            expected=f"at most {most[what]} {what}",
            got=f"{got} {what}",
            detail=f"the body has {got} JSON {what}, at most {most[what]} are taken{hint}",
            error=TooLarge,
        )
    return body


def _excess(signs: Sequence[int], most: Mapping[str, int]) -> tuple[str, int] | None:
    """Of what there is too much, by how often each of `_SIGNS` is there, and how much it is."""
    commas, brackets, colons = signs
    # Only commas make many lists: brackets alone make deep ones, which the parser refuses at once.
    found = {"values": commas, "lists": min(commas, brackets), "fields": colons}
    return next(((what, got) for what, got in found.items() if got > most[what]), None)


def _count(body: bytes) -> list[int]:
    """How often each of `_SIGNS` is there."""
    pieces = range(0, len(body), PIECE_BYTES)
    return [sum(body.count(sign, at, at + PIECE_BYTES) for at in pieces) for sign in _SIGNS]


def _count_outside_texts(body: bytes) -> list[int]:
    """The same without those inside texts. Where texts begin and end is what the parser finds as well, up to the first
    fault, at which it stops."""
    found, inside, left = [0] * len(_SIGNS), False, b""
    for at in range(0, len(body), PIECE_BYTES):
        piece = (left + body[at : at + PIECE_BYTES]).replace(rb"\\", b"")
        left = piece[-1:] if piece.endswith(b"\\") else b""  # it belongs to the first sign of the next piece
        signs = np.frombuffer(piece.removesuffix(b"\\").replace(rb"\"", b""), np.uint8)
        quoted = np.logical_xor.accumulate(signs == ord('"')) ^ inside
        inside = bool(quoted[-1]) if quoted.size else inside
        bare = signs[~quoted]
        found = [count + int(np.count_nonzero(bare == sign)) for count, sign in zip(found, _SIGNS, strict=True)]
    return found


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
