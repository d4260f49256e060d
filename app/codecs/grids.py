"""Many pictures as one: a grid, read like a page."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

GAP: Final = 2  # px between pictures
PAIR_GAP: Final = 8  # px between rows of pairs, so that the eye sees which two belong together
PAPER: Final = 255  # grey level between the pictures, and where the last row is not full

Pictures = NDArray[np.uint8]
"""(N, H, W, C)"""


def near_square(n: int, height: int, width: int, *, row_gap: int = GAP) -> int:
    """Columns that make a grid of `n` pictures about as wide as it is high, wider rather than higher."""
    return max(1, min(n, math.ceil(math.sqrt(n * (height + row_gap) / (width + GAP)))))


def grid(pictures: Pictures, columns: int, *, row_gap: int = GAP) -> NDArray[np.uint8]:
    """One picture (H', W', C) of all of them in rows of `columns`, no gap around; one alone is itself."""
    n, height, width, channels = pictures.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    down, across = height + row_gap, width + GAP
    page = np.full((rows * down, columns * across, channels), PAPER, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * down, i % columns * across
        page[top : top + height, left : left + width] = picture
    return page[: rows * down - row_gap, : columns * across - GAP]


def pairs(above: Pictures, below: Pictures, columns: int | None = None) -> NDArray[np.uint8]:
    """A grid of pairs, the first of each above the second; near square where no columns are given."""
    n, _, width, channels = above.shape
    between = np.full((n, GAP, width, channels), PAPER, np.uint8)
    made = np.concatenate([above, between, below], axis=1)
    columns = columns or near_square(n, made.shape[1], width, row_gap=PAIR_GAP)
    return grid(made, columns, row_gap=PAIR_GAP)
