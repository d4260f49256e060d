"""Renders rows of MNIST as photos of handwriting: a pen of some width on paper of some colour, in some light.

300x200 or 200x300 pixels, whichever the scale asks for; the digit is drawn 2 to 12 times its size (as far as it fits)
anywhere on the paper, usually dark on light, thinner or thicker than MNIST's, and the picture has noise, uneven
light, blur, JPEG artefacts and an EXIF orientation. The same row and seed give the same bytes.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

LONG, SHORT = 300, 200
MARGIN: Final = 4  # px that stay paper at each side
FINE: Final = 8  # px of a row's pixel while the pen's width is changed
_TURNS: Final = {  # EXIF orientation -> what the camera stores of an upright picture
    1: None,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def photo(row: NDArray[np.uint8], *, seed: int) -> bytes:
    """A JPEG of one MNIST row (28, 28), light on black, as someone might have photographed it."""
    rng = np.random.default_rng(seed)
    ink = written(row, wider=rng.uniform(-0.5, 0.6))
    scale = float(np.exp(rng.uniform(np.log(2), np.log(12))))
    size = _paper_size(ink, scale, rng)
    scale = min(scale, *((side - 2 * MARGIN) / n * FINE for side, n in zip(size, ink.size, strict=True)))
    w, h = (max(1, round(n * scale / FINE)) for n in ink.size)
    cover = np.zeros((size[1], size[0]))
    top, left = (int(rng.integers(MARGIN, side - n - MARGIN + 1)) for side, n in ((size[1], h), (size[0], w)))
    cover[top : top + h, left : left + w] = np.asarray(ink.resize((w, h), Image.Resampling.LANCZOS)) / 255
    scene = _lit(cover, rng)
    image = Image.fromarray(scene).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    orientation = int(rng.choice(list(_TURNS)))
    turn = _TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored = image if turn is None else image.transpose(turn)
    stored.save(out, "JPEG", quality=int(rng.integers(35, 96)), exif=exif)
    return out.getvalue()


def written(row: NDArray[np.uint8], *, wider: float) -> Image.Image:
    """The row's ink, FINE times its size and cut to its bounding box, each edge moved out by `wider` row pixels."""
    big = Image.fromarray(row).resize((28 * FINE, 28 * FINE), Image.Resampling.BICUBIC)
    if wider < 0:  # a fine pen still leaves a line: never more than a quarter of the stroke from each edge
        grey = row.astype(np.float64) / 255
        edge = sum(np.abs(np.diff(grey, axis=axis)).sum() for axis in (0, 1)) * np.pi / 4
        wider = max(wider, -0.25 * 2 * grey.sum() / edge)
    steps = round(abs(wider) * FINE)
    for _ in range(steps):
        big = big.filter(ImageFilter.MaxFilter(3) if wider > 0 else ImageFilter.MinFilter(3))
    box = big.point([0] * 64 + [255] * 192).getbbox()
    return big.crop(box) if box else big


def _paper_size(ink: Image.Image, scale: float, rng: np.random.Generator) -> tuple[int, int]:
    """Landscape or portrait: whichever holds the ink at this scale, by chance where both do."""
    w, h = (n * scale / FINE + 2 * MARGIN for n in ink.size)
    wide, tall = w <= LONG and h <= SHORT, w <= SHORT and h <= LONG
    landscape = bool(rng.random() < 0.5) if wide == tall else wide
    return (LONG, SHORT) if landscape else (SHORT, LONG)


def _lit(cover: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Ink on coloured paper under a lamp at one side and a lens that darkens its corners, with sensor noise."""
    h, w = cover.shape
    paper, pen = rng.uniform(170, 250, 3) * rng.uniform(0.8, 1), rng.uniform(5, 70, 3)
    if rng.random() < 0.15:  # chalk on a board
        paper, pen = rng.uniform(10, 70, 3), rng.uniform(180, 250, 3)
    scene = paper + cover[:, :, None] * (pen - paper)
    y, x = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.25) * (x * np.cos(angle) + y * np.sin(angle))
    light = (1 - rng.uniform(0, 0.2) * (x**2 + y**2)) * (1 + slope)
    scene = scene * light[:, :, None] + rng.normal(0, rng.uniform(0, 10), (h, w, 1))
    pixels: NDArray[np.uint8] = np.clip(np.rint(scene), 0, 255).astype(np.uint8)
    return pixels
