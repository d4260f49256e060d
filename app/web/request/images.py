"""Pictures of a request as a model's rows."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.images.files import decode as decode_image
from app.codecs.images.files import decode_base64, from_nested
from app.codecs.npy import decode_npy
from app.core.errors import UnsupportedMedia, invalid
from app.core.manifest import Picture, TensorSpec, numpy_dtype
from app.core.text import described
from app.web.request.media_types import NPY
from app.web.request.payload import Payload, RawPicture

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
