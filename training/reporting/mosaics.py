"""Pictures as HTML: many in one PNG, or each as a thumbnail in a grid."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pictures = NDArray[np.floating[Any]]
"""Pixels in [0, 1]."""

GAP: Final = 2
GREY_BETWEEN: Final = 24  # of the gaps, 0 to 255
THUMBNAIL: Final = 96  # pixels of a side above which one picture is shown smaller


def mosaic(
    pictures: Pictures, *, alt: str, columns: int | None = None, scale: int = 2, gap: int = GAP, fill: bool = False
) -> str:
    """`<img>` of pictures laid out row by row.

    Args:
        pictures: (rows, columns, H, W, C), or (N, H, W, C) with `columns`.
        scale: CSS pixels per pixel at most; a narrow page shrinks it. gap: pixels between pictures.
        fill: as wide as its column instead, for pictures of which one pixel is small on any screen.
    """
    if pictures.ndim == 4:
        across = columns or len(pictures)
        missing = -len(pictures) % across
        blank = np.zeros((missing, *pictures.shape[1:]), pictures.dtype)
        pictures = np.concatenate([pictures, blank]).reshape(-1, across, *pictures.shape[1:])
    rows, across, h, w, c = pictures.shape
    sheet = np.full((rows * (h + gap) - gap, across * (w + gap) - gap, c), GREY_BETWEEN, np.uint8)
    values = np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8)
    for i in range(rows):
        for j in range(across):
            sheet[i * (h + gap) : i * (h + gap) + h, j * (w + gap) : j * (w + gap) + w] = values[i, j]
    stream = io.BytesIO()
    Image.fromarray(sheet[..., 0] if c == 1 else sheet).save(stream, "PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    width = "100%" if fill else f"{sheet.shape[1] * scale}px"
    return f'<img class="mosaic" style="width:{width}" src="data:image/png;base64,{data}" alt="{escape(alt)}">'


def thumbnail(pixels: NDArray[np.uint8], *, alt: str) -> str:
    """`<img>` of one row (H, W, 1 or 3): PNG as it is, or a small JPEG of what is larger than 96 pixels."""
    h, w = pixels.shape[:2]
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
    stream, large = io.BytesIO(), max(h, w) > THUMBNAIL
    if large:
        image.thumbnail((2 * THUMBNAIL, 2 * THUMBNAIL))
        image.save(stream, "JPEG", quality=80, optimize=True)
    else:
        image.save(stream, "PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    tiny = "" if large else ' class="tiny"'
    return f'<img{tiny} src="data:image/{"jpeg" if large else "png"};base64,{data}" alt="{escape(alt)}">'


def gallery(cards: Sequence[str], pictures: NDArray[Any], *, close: bool = False, long: bool = False) -> str:
    """A grid of `<figure>` with pictures (N, H, W, C) of one shape; `long` where their captions are words."""
    name = f"pictures{' close' if close else ''}{' long' if long else ''}"
    return f'<div class="{name}" style="--shape:{pictures.shape[2]}/{pictures.shape[1]}">{"".join(cards)}</div>'


def in_turn(y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row numbers by class labels (N,): the first of each class, then the second of each, and so on."""
    turn, seen = np.empty(len(y), np.int64), dict[int, int]()
    for i, label in enumerate(y.tolist()):
        turn[i] = seen.get(label, 0)
        seen[label] = int(turn[i]) + 1
    return np.lexsort((y, turn))
