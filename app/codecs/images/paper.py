"""Paper and light told from ink: what a window wider than a stroke sees of its surroundings is the paper.

Grey closing fills what is dark and narrower than its window with the level around it; the rest, such as the sharp edge
of a shadow or of glare, stays where it is. Light ink on a dark board is seen by opening.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.codecs.images.morphology import Grey8, closing, opening, span

BLACKEST: Final = 16.0  # grey level; of what is darker, shares of light are noise
SPANS: Final = (5, 11, 21)  # px; windows in which an edge of strokes up to `WIDTHS` wide rises
WIDTHS: Final = (8.0, 16.0)  # px
_BRIGHT: Final = 87.0  # grey level that 80 % of the pixels are below: boards are darker, paper is lighter


@dataclass(frozen=True)
class Sheet:
    """A picture seen as paper and what is on it.

    Attributes:
        dark: (H, W) uint8, how much of the paper's light is missing, 0 to 255; of light ink, how much there is more.
        smooth: (H, W) uint8, the grey picture, blurred a little.
        gain: (H, W), what makes of a difference in `smooth` one in `dark`.
        levels: grey levels that one of `dark` is worth where the paper is as bright as it mostly is.
        light: whether the ink is lighter than what it is on.
    """

    dark: Grey8
    smooth: Grey8
    gain: NDArray[np.float32]
    levels: float
    light: bool
    _spans: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    def edges(self, kind: int, at: NDArray[np.intp]) -> NDArray[np.float32]:
        """How much `dark` rises or falls within SPANS[kind] pixels about each of the places, counted row by row."""
        if kind not in self._spans:
            self._spans[kind] = span(self.smooth, SPANS[kind]).ravel()
        return np.asarray(self._spans[kind][at] * self.gain.ravel()[at])


def read_sheet(grey: Grey8, window: int) -> Sheet:
    """A grey picture (H, W) seen through a window of so many pixels a side, which is wider than any stroke."""
    smooth = np.asarray(Image.fromarray(grey).filter(ImageFilter.BoxBlur(1)))
    if _is_light_ink(smooth):
        board = opening(smooth, window, window)
        level = np.maximum(board, np.float32(BLACKEST))
        usual = float(np.median(level[::4, ::4]))
        more = np.where(grey > board, grey - board, 0) * (np.float32(usual) / level)
        top = max(float(np.percentile(more[::2, ::2], 99.9)), 2 * BLACKEST)
        gain = (255 / top) * usual / level
        dark = np.minimum(more * np.float32(255 / top), 255)
        return Sheet(dark.astype(np.uint8), smooth, gain.astype(np.float32), top / 255, True)
    paper = closing(smooth, window, window)
    gain = np.float32(255) / np.maximum(paper, np.float32(BLACKEST))
    dark = np.where(paper > grey, paper - grey, 0) * gain
    return Sheet(
        np.minimum(dark, 255).astype(np.uint8),
        smooth,
        gain.astype(np.float32),
        float(np.median(paper[::4, ::4])) / 255,
        False,
    )


def _is_light_ink(smooth: Grey8) -> bool:
    """Whether the narrow things that are far from the local median are rather light than dark."""
    half = smooth[::2, ::2]
    away = half.astype(np.float32) - _medians(half)
    dark = closing(half, 9, 9) - half
    light = half - opening(half, 9, 9)
    darker, lighter = (float((a * np.clip(b, 0, None) ** 2).sum()) for a, b in ((dark, -away), (light, away)))
    bright = (float(np.percentile(half[::2, ::2], 80)) - _BRIGHT) / 30
    return float(np.log10((darker + 1) / (lighter + 1))) + min(1.5, max(-1.5, bright)) < 0


def _medians(grey: Grey8) -> NDArray[np.float32]:
    """(H, W) or of one: medians of nine overlapping parts of the picture, and between these."""
    few = grey[::2, ::2]
    h, w = few.shape
    if min(h, w) < 6:
        return np.full((1, 1), np.median(few), np.float32)
    ys, xs = (np.linspace(0, side, 7).astype(int) for side in (h, w))
    parts = [slice(0, 3), slice(1, 5), slice(3, 6)]
    grid = [[np.median(few[ys[a.start] : ys[a.stop], xs[b.start] : xs[b.stop]]) for b in parts] for a in parts]
    size = (grey.shape[1], grey.shape[0])
    return np.array(Image.fromarray(np.array(grid, np.float32)).resize(size, Image.Resampling.BILINEAR))
