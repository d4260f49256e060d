"""Many pictures as one: a grid, read like a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def framed(pictures: Sequence[NDArray[np.uint8]]) -> Pictures:
    """Pictures (H, W, C) of different sizes in the middle of equal ones; grey beside coloured of equal channels."""
    height, width, channels = np.max([picture.shape for picture in pictures], axis=0)
    pages = np.full((len(pictures), height, width, channels), PAPER, np.uint8)
    for page, picture in zip(pages, pictures, strict=True):
        high, wide, _ = picture.shape
        top, left = (height - high) // 2, (width - wide) // 2
        page[top : top + high, left : left + wide] = picture
    return pages


def beside(*columns: Pictures) -> Pictures:
    """One picture (N, H', W', C') for each row of several stacks, N pictures each, from left to right.

    Stacks may differ in size and colours: smaller pictures stand in the middle, grey ones beside coloured ones are of
    three equal channels.
    """
    height, channels = (max(stack.shape[axis] for stack in columns) for axis in (1, 3))
    parts: list[Pictures] = []
    for stack in columns:
        n, high, width, _ = stack.shape
        part = np.full((n, height, width + (GAP if parts else 0), channels), PAPER, np.uint8)
        top = (height - high) // 2
        part[:, top : top + high, part.shape[2] - width :] = stack
        parts.append(part)
    return np.concatenate(parts, axis=2)


def pairs(above: Pictures, below: Pictures, columns: int | None = None) -> NDArray[np.uint8]:
    """A grid of pairs, the first of each above the second; near square where no columns are given.

    The two may differ in size and colours, as those of `beside`.
    """
    stacked = beside(above.swapaxes(1, 2), below.swapaxes(1, 2)).swapaxes(1, 2)
    columns = columns or near_square(*stacked.shape[:3], row_gap=PAIR_GAP)
    return grid(stacked, columns, row_gap=PAIR_GAP)
