"""A plane of any size cut into overlapping tiles of one size, and put together again without seams.

Along each axis the tiles lie as evenly as whole pixels allow, the first at one edge and the last at the other, so that
the picture's own edges are edges of tiles. A plane smaller than a tile is mirrored outwards. Where tiles overlap, one
fades out as the next fades in; next to a tile's edge, where a net sees little of what surrounds a pixel, its weight is
zero. The weights of all tiles sum to one at every pixel, so a net that changes nothing changes nothing here.

Tiles are numbered row by row. A large photo is cut and added a few tiles at a time:

    tiling = Tiling.of(height, width, tile=128, overlap=32)
    canvas = tiling.canvas()
    for start in range(0, len(tiling), 16):
        tiling.add(canvas, denoise(tiling.cut(plane, start, start + 16)), start)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

MARGIN: Final = 0.25  # of the overlap on each side, where a tile has weight 0

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Where the tiles of a plane lie. `len(tiling)` is their number."""

    height: int  # of the plane
    width: int
    tile: int  # side of a tile
    overlap: int  # pixels that neighbours share, at least
    tops: tuple[int, ...]  # first line of each row of tiles
    lefts: tuple[int, ...]

    @classmethod
    def of(cls, height: int, width: int, *, tile: int, overlap: int) -> Self:
        """The fewest tiles that cover a plane.

        Raises:
            ValueError: an empty plane; or an overlap that is negative or more than half a tile.
        """
        if height < 1 or width < 1:
            raise ValueError(f"a plane of {height}x{width} pixels, expected one at least")
        if not 0 <= overlap <= tile // 2:
            raise ValueError(f"tiles of {tile} pixels overlap by {overlap}, expected 0 to {tile // 2}")
        tops, lefts = (_starts(size, tile, overlap) for size in (height, width))
        return cls(height=height, width=width, tile=tile, overlap=overlap, tops=tops, lefts=lefts)

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def cut(self, plane: Array, start: int = 0, stop: int | None = None) -> Array:
        """Tiles `start` to `stop`, the latter left out: (H, W) -> (n, tile, tile), copies."""
        self._check("plane", plane.shape, (self.height, self.width))
        numbers = range(len(self))[start:stop]
        tiles = np.empty((len(numbers), self.tile, self.tile), np.float32)
        for tile, (top, left) in zip(tiles, map(self._corner, numbers), strict=True):
            part = plane[top : top + self.tile, left : left + self.tile]
            if part.shape != tile.shape:
                part = part[np.ix_(*(_mirrored(self.tile, size) for size in part.shape))]
            tile[:] = part
        return tiles

    def canvas(self) -> Array:
        """(H, W), zeros: what tiles are added to."""
        return np.zeros((self.height, self.width), np.float32)

    def add(self, canvas: Array, tiles: Array, start: int = 0) -> None:
        """Add tiles (n, tile, tile), the first of which has the number `start`, to the canvas, each by its weight."""
        self._check("canvas", canvas.shape, (self.height, self.width))
        self._check("tiles", tiles.shape[1:], (self.tile, self.tile))
        if not 0 <= start <= start + len(tiles) <= len(self):
            raise ValueError(f"tiles {start} to {start + len(tiles)} of {len(self)}")
        down, across = self._weights
        for number, tile in enumerate(tiles, start):
            row, column = divmod(number, len(self.lefts))
            top, left = self._corner(number)
            part = canvas[top : top + self.tile, left : left + self.tile]
            height, width = part.shape
            part += tile[:height, :width] * down[row][:height, None] * across[column][:width]

    def blend(self, tiles: Array) -> Array:
        """All the tiles at once, (len(tiling), tile, tile) -> (H, W)."""
        self._check("tiles", tiles.shape, (len(self), self.tile, self.tile))
        canvas = self.canvas()
        self.add(canvas, tiles)
        return canvas

    @cached_property
    def _weights(self) -> tuple[Array, Array]:
        """Of each row of tiles along the height (rows, tile), and of each column of them along the width."""
        down, across = (
            _windows(starts, size, self.tile, self.overlap)
            for starts, size in ((self.tops, self.height), (self.lefts, self.width))
        )
        return down, across

    def _corner(self, number: int) -> tuple[int, int]:
        row, column = divmod(number, len(self.lefts))
        return self.tops[row], self.lefts[column]

    @staticmethod
    def _check(what: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if got != expected:
            raise ValueError(f"{what}: of shape {got}, expected {expected}")


def _starts(size: int, tile: int, overlap: int) -> tuple[int, ...]:
    if size <= tile:
        return (0,)
    tiles = -((overlap - size) // (tile - overlap))  # rounded up
    return tuple(round(k * (size - tile) / (tiles - 1)) for k in range(tiles))


def _windows(starts: tuple[int, ...], size: int, tile: int, overlap: int) -> Array:
    """Weights (len(starts), tile) along one axis that sum to one at each of its `size` pixels."""
    margin = int(MARGIN * overlap)
    fade = np.clip((np.arange(tile) - margin + 1) / max(1, overlap - 2 * margin + 1), 0.0, 1.0)
    windows = np.ones((len(starts), tile))
    windows[1:] *= fade
    windows[:-1] *= fade[::-1]
    total = np.zeros(max(size, tile))
    for start, window in zip(starts, windows, strict=True):
        total[start : start + tile] += window
    for start, window in zip(starts, windows, strict=True):
        window /= total[start : start + tile]
    return windows.astype(np.float32)


def _mirrored(length: int, size: int) -> NDArray[np.intp]:
    """Which of `size` pixels continue a line to `length`, mirrored about its last and first: 0 1 2 1 0 1 2 ..."""
    period = max(1, 2 * size - 2)
    at = np.arange(length) % period
    return np.minimum(at, period - at)
