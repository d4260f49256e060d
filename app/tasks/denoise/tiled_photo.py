"""A photo of any size in tiles: a few at a time out of it and back, so that of floats there is never more than needed.

Colours go as one plane of brightness and two of opponent colours, each for itself: see
`app/core/imaging/opponent_colours.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.imaging import opponent_colours
from app.core.imaging.tiles import Tiling
from app.core.manifest import Plane
from app.tasks.denoise.unclipped import UnclippedPart, unclipped
from app.web.request.pixels import Pixels, floats

LINES: Final = 128  # that are put together at once

Tiles = NDArray[np.float32]
"""(n, C, tile, tile), C planes of each tile."""


class Photo:
    """A noisy photo (H, W, C), and what there is of it without noise. `len(photo)` is the number of its tiles."""

    def __init__(self, pixels: Pixels, plane: Plane) -> None:
        self.pixels = pixels
        height, width, self.channels = pixels.shape
        self._plane = plane
        self._tiling = Tiling.of(height, width, tile=plane.tile, overlap=plane.overlap)
        self._canvases = [self._tiling.canvas() for _ in range(self.channels)]

    def __len__(self) -> int:
        return len(self._tiling)

    def cut(self, indices: Sequence[int]) -> Tiles:
        """The tiles with these indices."""
        return np.stack([self._cut(self._part(index)) for index in indices])

    def noisy_parts(self, most: int) -> list[UnclippedPart]:
        """Of `most` tiles at most, evenly spread, the part of each whose noise is not clipped; whole tiles where there
        is no such part anywhere."""
        whole = [self._part(index) for index in range(len(self))]
        parts = [part for part in map(self._unclipped, whole) if part is not None] or whole
        return [parts[i] for i in np.linspace(0, len(parts) - 1, min(len(parts), most)).round().astype(int)]

    def cut_parts(self, parts: Sequence[UnclippedPart]) -> Tiles:
        """A tile of each, mirrored outwards where the part is smaller than that."""
        return np.stack([self._cut(part) for part in parts])

    def add(self, tiles: Tiles, start: int) -> None:
        """Tiles without noise, the first of which has the index `start`."""
        for k, canvas in enumerate(self._canvases):
            self._tiling.add(canvas, tiles[:, k], start)

    def restored(self, *, as_floats: bool) -> Pixels:
        """The photo without noise, once all tiles have been added: (H, W, C), uint8 or, from 0 to 1, float32."""
        result: Pixels = np.empty(self.pixels.shape, np.float32 if as_floats else np.uint8)
        for top in range(0, len(result), LINES):
            lines = np.stack([canvas[top : top + LINES] for canvas in self._canvases])
            part = np.clip(opponent_colours.to_picture(lines), 0, 1)
            result[top : top + LINES] = part if as_floats else np.rint(part * 255)
        return result

    def _part(self, index: int) -> UnclippedPart:
        row, column = divmod(index, len(self._tiling.lefts))
        top, left, side = self._tiling.tops[row], self._tiling.lefts[column], self._plane.tile
        height, width = self.pixels.shape[:2]
        return UnclippedPart(top, left, min(top + side, height), min(left + side, width))

    def _unclipped(self, part: UnclippedPart) -> UnclippedPart | None:
        found = unclipped(self.pixels[part.top : part.bottom, part.left : part.right])
        return None if found is None else found.moved(part.top, part.left)

    def _cut(self, part: UnclippedPart) -> Tiles:
        pixels = self.pixels[part.top : part.bottom, part.left : part.right]
        # Of its own size it is one tile, mirrored outwards where it is smaller than that.
        alone = Tiling.of(*pixels.shape[:2], tile=self._plane.tile, overlap=self._plane.overlap)
        return np.concatenate([alone.cut(plane) for plane in opponent_colours.to_planes(floats(pixels))])
