"""Texts of a request as a model's ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.codecs.tables.delimited import csv_header, csv_rows, csv_text
from app.codecs.text.reading import Reader, Reading
from app.codecs.text.tokenizer import Encoded
from app.core.errors import UnsupportedMedia, invalid, shown
from app.core.manifest import Tensors
from app.core.text import described, listed
from app.web.request.media_types import TEXT
from app.web.request.payload import COLUMN, Payload


def readings(payload: Payload, reader: Reader, *, max_rows: int, truncate: bool) -> list[Reading]:
    """All texts of a body, in their order.

    Args:
        max_rows: texts in one request.
        truncate: as `Reader.read`.

    Raises:
        UnsupportedMedia, Unprocessable, TooLarge: as the codecs.
    """
    return [reader.read(text, subject, truncate=truncate) for subject, text in _texts(payload, max_rows)]


def as_row(encoded: Encoded) -> Tensors:
    """One row of a graph that takes texts: `tokens` (1, T), `length` (1,)."""
    return {"tokens": encoded.ids[None], "length": np.array([len(encoded.ids)], np.int64)}


def as_rows(texts: Sequence[Encoded]) -> dict[str, NDArray[np.int64]]:
    """Several, filled up with zeros to the longest: `tokens` (N, T), `length` (N,)."""
    lengths = np.array([len(text.ids) for text in texts], np.int64)
    tokens = np.zeros((len(texts), lengths.max()), np.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text.ids)] = text.ids
    return {"tokens": tokens, "length": lengths}


def _texts(payload: Payload, max_rows: int) -> list[tuple[str, str]]:
    if payload.csv is not None:
        return _column(payload.csv, payload.parameters, max_rows)
    return [(subject, _text(subject, item, payload.parameters)) for subject, item in payload.items]


def _text(subject: str, item: object, parameters: str) -> str:
    if isinstance(item, bytes):
        _, named, charset = parameters.lower().partition("charset=")
        charset = charset.partition(";")[0].strip(' "')
        if named and charset not in ("utf-8", "utf8", "us-ascii"):
            got, expected = f"charset {shown(charset)}", f"{TEXT}; charset=utf-8"
            detail = f"{got} is not taken, send {expected}"
            raise invalid("header.content-type", expected=expected, got=got, detail=detail, error=UnsupportedMedia)
        try:
            return item.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            got = f"byte 0x{item[error.start]:02x} at {error.start}"
            raise invalid(
                subject, expected="text in UTF-8", got=got, detail=f"{subject}: is not UTF-8: {got}"
            ) from None
    if isinstance(item, str):
        return item
    raise invalid(subject, expected="a text", got=described(item))


def _column(data: bytes, parameters: str, max_rows: int) -> list[tuple[str, str]]:
    text = csv_text(data, parameters, subject="body")
    header, delimiter = csv_header(text, lambda name: name.lower() == COLUMN)
    places = [i for i, name in enumerate(header) if name.lower() == COLUMN]
    if len(places) != 1:
        expected = f"a header with one column '{COLUMN}'"
        got = f"the header {listed([shown(name) for name in header])}" if header else "no header with whole quotes"
        raise invalid("body", expected=expected, got=got, where="body:", verb="has", rule="expected")
    rows, _ = csv_rows(text, delimiter, len(header), max_rows=max_rows, subject="body")
    return [(f"body[{i}].{COLUMN}", row[places[0]]) for i, row in enumerate(rows)]
