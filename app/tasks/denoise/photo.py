"""A photo of any size in tiles: a few at a time out of it and back, so that of floats there is never more than needed.

Colours go as one plane of brightness and two of opponent colours (`app/core/opponent.py`), each for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core import opponent
from app.core.manifest import Plane
from app.core.tiles import Tiling
from app.wire.raw import Pixels, floats

LINES: Final = 128  # that are put together at once

Tiles = NDArray[np.float32]
"""(n, C, tile, tile), C planes of each place."""


class Photo:
    """A noisy photo (H, W, C), and what there is of it without noise. `len(photo)` is the number of its places."""

    def __init__(self, pixels: Pixels, plane: Plane) -> None:
        self.pixels = pixels
        height, width, self.channels = pixels.shape
        self._plane = plane
        self._tiling = Tiling.of(height, width, tile=plane.tile, overlap=plane.overlap)
        self._canvases = [self._tiling.canvas() for _ in range(self.channels)]

    def __len__(self) -> int:
        return len(self._tiling)

    def cut(self, places: Sequence[int]) -> Tiles:
        """The tiles at these places, by their numbers."""
        return np.stack([self._cut(place) for place in places])

    def add(self, tiles: Tiles, start: int) -> None:
        """Tiles without noise, the first of which belongs to the place `start`."""
        for k, canvas in enumerate(self._canvases):
            self._tiling.add(canvas, tiles[:, k], start)

    def restored(self, *, as_floats: bool) -> Pixels:
        """The photo without noise, once the tiles of all places have been added: (H, W, C), uint8 or, from 0 to 1,
        float32."""
        made: Pixels = np.empty(self.pixels.shape, np.float32 if as_floats else np.uint8)
        for top in range(0, len(made), LINES):
            lines = np.stack([canvas[top : top + LINES] for canvas in self._canvases])
            part = np.clip(opponent.to_picture(lines), 0, 1)
            made[top : top + LINES] = part if as_floats else np.rint(part * 255)
        return made

    def _cut(self, place: int) -> Tiles:
        row, column = divmod(place, len(self._tiling.lefts))
        top, left, side = self._tiling.tops[row], self._tiling.lefts[column], self._plane.tile
        part = self.pixels[top : top + side, left : left + side]
        # Of its own size it is one tile, mirrored outwards where the photo is smaller than that.
        alone = Tiling.of(*part.shape[:2], tile=side, overlap=self._plane.overlap)
        return np.concatenate([alone.cut(plane) for plane in opponent.to_planes(floats(part))])
