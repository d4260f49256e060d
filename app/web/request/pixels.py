"""Pictures of a request as the pixels that they are: nothing is centred, cropped or resized.

What came in 8 bits stays uint8; rows of floats (`.npy`), pixels from 0 to 1, may hold noise that no 8 bits hold.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from app.codecs.images.files import decode_pixels, from_base64
from app.codecs.images.nested import from_nested
from app.codecs.npy import decode_npy, npy_form
from app.core.errors import ClientError, TooLarge, invalid, shown
from app.core.manifest import PhotoPicture
from app.core.text import described
from app.web.request.payload import Payload, RawPicture

Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""(H, W, C): uint8, or float32 from 0 to 1 with whatever lies beyond."""
Size = tuple[int, int]
"""Height and width."""
Channels = Literal[1, 3] | None
"""To bring a picture to; None keeps grey grey and colours coloured."""

MIN_SIDE: Final = 4
MAX_SIDE: Final = 4096  # of nested lists


def pictures(
    payload: Payload,
    *,
    size: Size | None,
    channels: Channels,
    max_rows: int,
    max_pixels: int,
    span: float = 0.0,
    there: int = 0,
) -> tuple[list[Pixels], list[bytes]]:
    """All pictures of a body, in their order, and the ICC profile of each, empty where its colours are sRGB.

    Args:
        size: that they must have; None takes any, at least 4x4.
        channels: that they are brought to; of rows, that they must have.
        max_pixels: greatest height x width, of each and of all together.
        span: how far floats may lie beyond 0 and 1.
        there: pixels of those that were read before, which count with these.

    Raises:
        UnsupportedMedia, Unprocessable, TooLarge: as the codecs; or another size.
    """
    if payload.rows is not None:
        rows = _rows(payload.rows, size, channels, max_rows, max_pixels, span)
        return rows, [b""] * len(rows)
    found: list[Pixels] = []
    profiles: list[bytes] = []
    for subject, item in payload.items:
        pixels, profile = picture(item, size=size, channels=channels, subject=subject, max_pixels=max_pixels)
        found.append(pixels)
        profiles.append(profile)
        there += math.prod(found[-1].shape[:2])
        if there > max_pixels:  # here and not at the end: few bytes may be many pixels
            raise _too_many("images", f"have {there} pixels or more together", there, max_pixels)
    return found, profiles


def picture(
    item: RawPicture, *, size: Size | None, channels: Channels, subject: str, max_pixels: int
) -> tuple[NDArray[np.uint8], bytes]:
    """One picture, (H, W, C), and its profile: bytes of a file, or from JSON its base64 or nested pixels.

    Raises:
        as `pictures`.
    """
    if isinstance(item, list):
        return _nested(item, size, channels, subject), b""
    if isinstance(item, str):
        item = from_base64(item, subject=subject)
    if not isinstance(item, bytes):
        got = described(item)
        expected = "base64 of an image file, or nested lists of pixels"
        raise invalid(subject, expected=expected, got=got)
    pixels, profile = decode_pixels(item, channels=channels, subject=subject, max_pixels=max_pixels)
    if size is not None and pixels.shape[:2] != size:
        raise _other_size(subject, pixels.shape[:2], size)
    return pixels, profile


def floats(pixels: Pixels) -> NDArray[np.float32]:
    """From 0 to 1, float32."""
    if pixels.dtype == np.float32:
        return pixels.astype(np.float32, copy=False)
    return np.divide(pixels, 255, dtype=np.float32)


def _nested(item: list[Any], size: Size | None, channels: Channels, subject: str) -> NDArray[np.uint8]:
    inner = item[0] if item and isinstance(item[0], list) else []
    height, width = size or (len(item), len(inner))
    for side in (height, width):
        if not MIN_SIDE <= side <= MAX_SIDE:
            expected, got = f"{MIN_SIDE} to {MAX_SIDE} rows, each of as many pixels", f"{height} rows of {width}"
            raise invalid(subject, expected=expected, got=got, rule="expected")
    coloured = bool(inner) and isinstance(inner[0], list) and len(inner[0]) > 1
    there: Literal[1, 3] = 3 if coloured and channels != 1 else 1
    pixels = from_nested(item, PhotoPicture(kind="photo", height=height, width=width, channels=there), subject=subject)
    return np.repeat(pixels, 3, axis=2) if channels == 3 and there == 1 else pixels


def _rows(
    data: bytes, size: Size | None, channels: Channels, max_rows: int, max_pixels: int, span: float
) -> list[Pixels]:
    shape, dtype = npy_form(data, subject="body")
    row = _row_shape(shape, size, channels)
    if (pixels := math.prod(shape[: len(shape) - (len(shape) > 2 and shape[-1] == row[-1])])) > max_pixels:
        raise _too_many("body", f"has shape {shape}, {pixels} pixels", pixels, max_pixels)
    kept = np.dtype(np.float32 if dtype.kind == "f" else np.uint8)
    rows = decode_npy(data, dtype=kept, row_shape=row, max_rows=max_rows, subject="body")
    if kept == np.float32 and not (np.abs(rows - 0.5) <= 0.5 + span).all():
        at = np.unravel_index(int(np.argmax(np.abs(rows - 0.5))), rows.shape)
        expected = f"pixels from 0 to 1, with noise {-span:g} to {1 + span:g} (as uint8 from 0 to 255)"
        got = shown(float(rows[at]))
        spot = "body" + "".join(f"[{i}]" for i in at)
        raise invalid(spot, expected=expected, got=got, rule="expected")
    return list(rows)


def _row_shape(shape: tuple[int, ...], size: Size | None, channels: Channels) -> tuple[int, int, int]:
    """(H, W, C) of one row of an array: (rows, H, W, C), (rows, H, W), or of a single picture without its axis.

    Three or four axes of which the last is 1 or 3 have channels there: no picture is that narrow.
    """
    if size is not None and channels is not None:
        return (*size, channels)
    has_channels = len(shape) > 2 and shape[-1] in (1, 3)
    bare = shape[:-1] if has_channels else shape
    wanted = shape[-1] if has_channels else 1
    if len(bare) in (2, 3) and min(bare[-2:]) >= MIN_SIDE and channels in (None, wanted):
        return (bare[-2], bare[-1], wanted)
    colours = "3" if channels == 3 else "1" if channels == 1 else "1 or 3"
    expected = f"(rows, height, width, {colours}), at least {MIN_SIDE}x{MIN_SIDE}"
    raise invalid("body", expected=expected, got=f"shape {shape}", where="body:", verb="has", rule="expected")


def _too_many(subject: str, what: str, got: int, most: int) -> ClientError:
    return invalid(
        subject,
        expected=f"at most {most} pixels",
        got=f"{got} pixels",
        detail=f"{subject}: {what}, the limit is {most}",
        error=TooLarge,
    )


def _other_size(subject: str, got: tuple[int, ...], size: Size) -> ClientError:
    there, wanted = f"{got[1]}x{got[0]} pixels", f"{size[1]}x{size[0]}"
    return invalid(
        subject,
        expected=f"{wanted} pixels",
        got=there,
        detail=f"{subject}: is {there}, expected {wanted}: it is taken as it is, nothing is resized",
    )
