"""Where a model looked in a picture while it wrote each word: one panel a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from app.codecs.images import grids

PANEL: Final = 112  # px of the shorter side, at least
LINE: Final = 16  # px of the word below
DIMMEST: Final = 0.25  # of a picture's light where the model does not look


def attention_page(
    picture: NDArray[np.uint8], words: Sequence[str], attention: NDArray[np.floating]
) -> NDArray[np.uint8]:
    """The picture once for each word, light where the model looked, with the word below: one picture (H', W', 3).

    Args:
        picture: (H, W, C).
        words: as many as rows of `attention`; where there are none, the picture itself is the page.
        attention: (words, rows, columns) of cells that share the picture out; scaled so that the largest is 1.
    """
    height, width, _ = picture.shape
    scale = max(1, -(-PANEL // min(height, width)))
    large = np.broadcast_to(picture, (height, width, 3)).repeat(scale, axis=0).repeat(scale, axis=1)
    if not len(words):
        return np.ascontiguousarray(large)
    panels = []
    for word, cells in zip(words, attention, strict=True):
        light = np.asarray(cells, np.float32) / max(float(cells.max()), 1e-9)
        # Pillow resizes floats of one channel; its edges are those of the outer cells.
        size = large.shape[1], large.shape[0]
        mask = np.asarray(Image.fromarray(light).resize(size, Image.Resampling.BILINEAR))
        lit = large * (DIMMEST + (1 - DIMMEST) * mask[..., None])
        panel = Image.new("RGB", (size[0], size[1] + LINE), (255, 255, 255))
        panel.paste(Image.fromarray(np.rint(lit).astype(np.uint8)), (0, 0))
        ImageDraw.Draw(panel).text((2, size[1]), word, fill=(0, 0, 0), font=ImageFont.load_default(12))
        panels.append(np.asarray(panel))
    stack = np.stack(panels)
    return grids.grid(stack, grids.near_square(*stack.shape[:3]))
