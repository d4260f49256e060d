"""Pictures of a request as a model's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.images.files import decode as decode_image
from app.codecs.images.files import decode_base64, from_base64, from_nested
from app.codecs.images.formats import picture_format
from app.codecs.images.opening import pixels_of
from app.codecs.npy import decode_npy
from app.core.errors import ClientError, UnsupportedMedia, invalid
from app.core.manifest import Picture, TensorSpec, numpy_dtype
from app.core.text import described
from app.web.request.media_types import NPY
from app.web.request.payload import Payload, RawFile, RawPicture
from app.web.work_pool import checkpoint

PIXELS_A_BYTE: Final = 100  # of a film
MOST: Final = 1 << 40  # pixels; to be looked at, not read
SMALL_PIXELS: Final = 128 * 128  # of a picture that is decoded on the event loop


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
            raise invalid(
                "body", detail=f"{NPY} is not taken: rows of this model vary in shape", error=UnsupportedMedia
            )
        return decode_npy(
            payload.rows, dtype=numpy_dtype(spec.dtype), row_shape=shape, max_rows=max_rows, subject="body"
        )
    if picture is None:
        raise invalid(
            "body",
            expected=NPY,
            got="a picture",
            detail=f"this model takes rows as {NPY}, not pictures",
            error=UnsupportedMedia,
        )
    rows = [decode_one(item, picture, subject, max_pixels) for subject, item in payload.items]
    return rows[0][None] if len(rows) == 1 else np.stack(rows)


def parts(payload: Payload, *, most: int, max_pixels: int) -> list[tuple[Payload, int]]:
    """A payload as several of at most so many pixels by its pictures' headers, each with its pixels; of more where one
    picture has them. What was base64 is bytes.

    Raises:
        ClientError: as the codecs, of what a header shows.
    """
    found: list[tuple[Payload, int]] = []
    items: list[tuple[str, RawPicture]] = []
    total = 0
    for subject, item in payload.items:
        checkpoint()
        if isinstance(item, str):
            item = from_base64(item, subject=subject)
        if isinstance(item, bytes):
            size = pixels_of(item, subject=subject, max_pixels=max_pixels)
        else:  # nested lists
            size = payload.json_bytes // len(payload.items)
        if items and total + size > most:
            found.append((replace(payload, items=items), total))
            items, total = [], 0
        items.append((subject, item))
        total += size
    return [*found, (replace(payload, items=items), total)]


def size_of(files: Sequence[RawFile]) -> int:
    """Pixels of pictures or clips in all their frames, by their headers; of a film, as many as such files have."""
    size = 0
    for file in files:
        try:
            data = from_base64(file, subject="") if isinstance(file, str) else file
            if isinstance(data, bytes):
                is_picture = picture_format(data) is not None
                size += pixels_of(data, subject="", max_pixels=MOST) if is_picture else PIXELS_A_BYTE * len(data)
        except ClientError:  # whoever reads it says so
            pass
    return size


def decode_one(item: RawPicture, picture: Picture, subject: str, max_pixels: int) -> NDArray[np.uint8]:
    """One picture as one row, `picture.shape`.

    Raises:
        as `decode`.
    """
    if isinstance(item, bytes):
        return decode_image(item, picture, subject=subject, max_pixels=max_pixels)
    if isinstance(item, str):
        return decode_base64(item, picture, subject=subject, max_pixels=max_pixels)
    if isinstance(item, list):
        return from_nested(item, picture, subject=subject)
    got = described(item)
    expected = "base64 of an image file, or nested lists of pixels"
    raise invalid(subject, expected=expected, got=got)
