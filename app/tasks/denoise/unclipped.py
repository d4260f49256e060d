"""Where a photo's noise can be seen: 8 bits cut it off at black and white, and a transparent part on white has none.

A tile is looked at in cells. One of which no more than a quarter is at black or white shows nearly all of its noise; of
the largest rectangle of such cells the noise is estimated, and what clipping has taken even there is made up for by
what it takes from a normal distribution (Foi 2009, "Clipped noisy images: heteroskedastic modeling and practical
denoising").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.web.request.pixels import Pixels

CELL: Final = 16  # side in pixels: large enough to tell a share, small enough to lie between flat parts
MOST_CLIPPED: Final = 0.25  # of a cell's pixels, in any colour

_NORMAL: Final = NormalDist()
Shares = NDArray[np.float64]
"""(rows, columns, C), of the pixels of each cell and colour."""


@dataclass(frozen=True, slots=True)
class UnclippedPart:
    """A rectangle of pixels, and how much of its noise's standard deviation clipping has left."""

    top: int
    left: int
    bottom: int
    right: int
    kept: float = 1.0

    @property
    def size(self) -> int:
        """Pixels."""
        return (self.bottom - self.top) * (self.right - self.left)

    def moved(self, down: int, right: int) -> UnclippedPart:
        """The same part of something larger."""
        return UnclippedPart(self.top + down, self.left + right, self.bottom + down, self.right + right, self.kept)


def unclipped(pixels: Pixels) -> UnclippedPart | None:
    """The largest part of a tile (H, W, C) whose noise can be seen; None where there is no such cell.

    Black and white are 0 and 255, of floats 0 and 1: floats beyond them are not clipped.
    """
    height, width, _ = pixels.shape
    blacks, whites = pixels == 0, pixels == (255 if pixels.dtype == np.uint8 else 1)
    if not (blacks.any() or whites.any()):
        return UnclippedPart(0, 0, height, width)
    black, white = _shares(blacks), _shares(whites)
    clear: NDArray[np.bool_] = np.all(black + white <= MOST_CLIPPED, axis=2)
    found = _largest(clear)
    if found is None:
        return None
    top, left, bottom, right = found
    here = np.s_[top:bottom, left:right]
    shares = zip(*(share[here].mean(axis=(0, 1)).tolist() for share in (black, white)), strict=True)
    variances = [_variance(*share) for share in shares]
    bottom, right = min(bottom * CELL, height), min(right * CELL, width)
    return UnclippedPart(top * CELL, left * CELL, bottom, right, sqrt(sum(variances) / len(variances)))


def _shares(at: NDArray[np.bool_]) -> Shares:
    """(H, W, C) -> those of each cell; at the lower and right edge cells may be smaller."""
    rows, columns = (np.arange(0, size, CELL) for size in at.shape[:2])
    counts = np.add.reduceat(np.add.reduceat(at, rows, axis=0, dtype=np.int64), columns, axis=1)
    heights, widths = np.diff(rows, append=at.shape[0]), np.diff(columns, append=at.shape[1])
    shares: Shares = counts / (heights[:, None] * widths)[..., None]
    return shares


def _largest(clear: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """The rectangle of most cells that are all clear: its first row and column and those after its last."""
    rows, columns = clear.shape
    upto = np.zeros((rows + 1, columns + 1), np.int64)  # how many are clear above and to the left
    upto[1:, 1:] = clear.cumsum(axis=0).cumsum(axis=1)
    tops, bottoms = np.triu_indices(rows + 1, 1)
    lefts, rights = np.triu_indices(columns + 1, 1)
    lines = upto[bottoms] - upto[tops]
    cells = (bottoms - tops)[:, None] * (rights - lefts)
    cells[lines[:, rights] - lines[:, lefts] < cells] = 0
    if not cells.any():
        return None
    i, j = np.unravel_index(int(cells.argmax()), cells.shape)
    return int(tops[i]), int(lefts[j]), int(bottoms[i]), int(rights[j])


def _variance(black: float, white: float) -> float:
    """Of a normal distribution of variance 1 of which these shares, together less than 1, lie beyond two bounds and are
    put there."""
    (raised, lost), (lowered, lost_above) = _tail(black), _tail(white)
    return 1 - lost - lost_above - (raised - lowered) ** 2


def _tail(share: float) -> tuple[float, float]:
    """By how much the mean of a standard normal distribution is moved, and that of its squares lessened, by putting its
    lowest share where it ends."""
    if share <= 0:
        return 0.0, 0.0
    end = _NORMAL.inv_cdf(share)
    density = _NORMAL.pdf(end)
    return density + end * share, share - end * density - end**2 * share
