"""Reads handwriting as MNIST was made (LeCun et al. 1998, section III.A): light ink on black. The ink's bounding box
is scaled with its aspect kept into a box of 20 pixels, its centre of mass put in the middle of 28x28.

A picture in this form passes unchanged. It has the target's size, all that is not black fits into the box, and its
centre of mass lies within `CENTRED` pixels of (height / 2, width / 2). All 70,000 rows of MNIST do (at most 0.52).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from app.codecs.images.regions import Regions, find_regions
from app.core.errors import invalid
from app.core.manifest import DigitPicture

WORK_SIDE: Final = 400  # px; a larger picture is shrunk first, strokes stay several pixels wide
CENTRED: Final = 0.6  # px
MIN_CONTRAST: Final = 20.0  # grey levels between ink and paper; less is no ink
FINEST, BROADEST = 1.7, 2.7  # px in a box of 20; 5 % and 70 % of MNIST's rows
CANVAS: Final = 160  # px; the ink's longer side while the strokes are measured and mended
# Powers of y and of x in the surface fitted to the paper, and how many of them each round of the fit may use.
_DEGREES: Final = ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (2, 1), (3, 0))
_TERMS: Final = (1, 1, 3, 3, 6, 6, 6, 6, 10, 10, 10)
_BORDER_TURNS: Final = 6  # rounds that see the border alone, where it is trusted
_RIDGE: Final = (0, 0.1, 0.1, 1, 1, 1, 3, 3, 3, 3)

Grey = NDArray[np.floating[Any]]  # (H, W)


class Box(NamedTuple):
    top: int
    left: int
    bottom: int
    right: int


def read(image: Image.Image, picture: DigitPicture, *, subject: str) -> NDArray[np.uint8]:
    """The one piece of handwriting in a picture as (height, width), light on black.

    Args:
        image: mode L, LA, RGB or RGBA, at least 1x1.
        picture: height, width and box to bring it to.
        subject: what to call the picture in errors.

    Raises:
        Unprocessable: no ink was found.
    """
    if image.mode in ("L", "RGB") or image.getchannel("A").getextrema() == (255, 255):
        grey = np.array(image.convert("L"))
        if is_in_form(grey, picture):
            return grey
    work = _opaque(_shrunk(image))
    ink = find_ink(work)
    if ink is None:
        raise invalid(
            subject,
            expected=f"handwriting at least {MIN_CONTRAST:.0f} grey levels from its background",
            got="a blank picture",
            detail=f"{subject}: no ink found: the picture is blank or too faint to tell writing from paper",
        )
    return place(ink, picture)


def is_in_form(grey: NDArray[np.uint8], picture: DigitPicture) -> bool:
    """Whether a picture is as MNIST's are, by the rule in this file's header."""
    if grey.shape != (picture.height, picture.width) or not grey.any():
        return False
    box = _bounds(grey > 0)
    y, x = centre_of_mass(grey)
    return (
        max(box.bottom - box.top, box.right - box.left) <= picture.box
        and abs(y - picture.height / 2) <= CENTRED
        and abs(x - picture.width / 2) <= CENTRED
    )


def centre_of_mass(ink: NDArray[np.generic]) -> tuple[float, float]:
    """Row and column, in pixels from the middle of the first."""
    mass = ink.astype(np.float64)
    rows, columns = mass.sum(1), mass.sum(0)
    return float(rows @ np.arange(len(rows)) / rows.sum()), float(columns @ np.arange(len(columns)) / columns.sum())


def find_ink(grey: Grey) -> Grey | None:
    """Ink 0 to 1, cut to its bounding box; None where there is none."""
    contrast, sigma = _contrast(grey)
    smooth = _blur(contrast)
    peak = _peak(smooth, sigma)
    if peak < max(MIN_CONTRAST, 4 * sigma / 3):
        return None
    low = max(0.2, min(0.45, 1.2 * sigma / peak))
    mask = smooth > max(0.35, low) * peak
    regions = find_regions(mask)
    keep = _writing(regions, mask.shape)
    if not keep.any():
        return None
    ink = np.clip((contrast / peak - low) / (0.85 - low), 0, 1) * _grow(keep[regions.labels], 2)
    if not (ink > 0.3).any():
        return None
    box = _bounds(ink > 0.3)
    cut: Grey = ink[box.top : box.bottom, box.left : box.right]
    return cut


def place(ink: Grey, picture: DigitPicture) -> NDArray[np.uint8]:
    """Ink (any size, 0 to 1) into the box, centre of mass in the middle, 0 to 255."""
    small = _fit(_mended(ink, picture.box), picture.box)
    small = small / float(small.max())
    out = np.zeros((picture.height, picture.width), np.uint8)
    y, x = centre_of_mass(small)
    h, w = small.shape
    top = int(np.clip(np.floor(picture.height / 2 - y + 0.5), 0, picture.height - h))
    left = int(np.clip(np.floor(picture.width / 2 - x + 0.5), 0, picture.width - w))
    out[top : top + h, left : left + w] = np.rint(small * 255)
    return out


def _shrunk(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest <= WORK_SIDE:
        return image
    w, h = (max(1, round(side * WORK_SIDE / longest)) for side in image.size)
    return image.resize((w, h), Image.Resampling.BOX, reducing_gap=2.0)


def _opaque(image: Image.Image) -> Grey:
    """Grey levels; where a picture is transparent, what serves as paper.

    A drawing pad's canvas is transparent and its ink of one colour: then the alpha channel is the drawing. Otherwise
    the transparent part is taken to be more of the paper that the rest shows.
    """
    grey = np.array(image.convert("L"), dtype=np.float32)
    if image.mode in ("L", "RGB"):
        return grey
    alpha = np.array(image.getchannel("A"), dtype=np.float32) / 255
    solid = grey[alpha >= 0.5]
    if solid.size == 0 or alpha.min() >= 0.5:
        return grey * alpha + 255 * (1 - alpha)
    if np.percentile(solid, 95) - np.percentile(solid, 5) < 64:
        return 255 * alpha
    return grey * alpha + float(np.median(solid)) * (1 - alpha)


def _contrast(grey: Grey) -> tuple[Grey, float]:
    """How far each pixel is from the paper towards the ink, in grey levels, and the paper's noise (sigma)."""
    paper, sigma = _paper(grey, from_border=True)
    away = grey - paper
    size = np.abs(away)
    # Where what differs from the border is most of the picture, the border is a table and the sheet lies on it.
    if (size > max(float(np.percentile(size, 95)) / 2, MIN_CONTRAST)).mean() > 0.55:
        paper, sigma = _paper(grey, from_border=False)
        away = grey - paper
    far = np.where(np.abs(away) > max(3 * sigma, MIN_CONTRAST / 2), away, 0)
    if far.sum() < 0:
        # Light falls off by a factor, not by a difference: dark ink is equally dark as a share of its paper.
        level = np.maximum(paper, 16)
        away = -away * (np.median(level) / level)
    return away.astype(np.float32), sigma


def _paper(grey: Grey, *, from_border: bool) -> tuple[Grey, float]:
    """A smooth surface (polynomial of degree 3) through the paper, fitted with the ink left out, and its noise."""
    h, w = grey.shape
    # Means of blocks would mix ink into paper; single pixels keep them apart.
    ys, xs = (np.linspace(0, side - 1, min(side, 64)).astype(int) for side in (h, w))
    sample, rows, columns = grey[np.ix_(ys, xs)], _powers(ys, h), _powers(xs, w)
    basis = np.stack([np.outer(rows[i], columns[j]).ravel() for i, j in _DEGREES], axis=1)
    values = sample.ravel().astype(np.float64)
    inside = np.zeros(sample.shape, bool)
    if from_border:
        edge = max(1, min(sample.shape) // 16)
        inside[edge:-edge, edge:-edge] = True
    border = ~inside.ravel()
    near = border
    fit = np.array([np.median(values[near])])
    for turn, terms in enumerate(_TERMS):
        rest = values - basis[:, : len(fit)] @ fit
        sigma = 1.4826 * float(np.median(np.abs(rest[near])))
        near = np.abs(rest) <= max(2.5 * sigma, 16.0 if terms == 1 else 4.0)
        if turn < _BORDER_TURNS:  # uneven light must not pass for noise, and ink with it for paper
            near &= border
        if near.sum() < 4 * terms:
            break
        part = basis[near, :terms]
        # A little of the ridge keeps the surface calm where the ink leaves no paper to fit.
        fit = np.linalg.solve(part.T @ part + 1e-3 * len(part) * np.diag(_RIDGE[:terms]), part.T @ values[near])
    rest = values - basis[:, : len(fit)] @ fit
    near = np.abs(rest) <= max(2.5 * sigma, 4.0)
    sigma = 1.4826 * float(np.median(np.abs(rest[near]))) if near.any() else 0.0
    weights = np.zeros((4, 4))
    for (i, j), value in zip(_DEGREES, fit, strict=False):
        weights[i, j] = value
    paper = _powers(np.arange(h), h).T @ weights @ _powers(np.arange(w), w)
    return np.clip(paper, 0, 255).astype(np.float32), sigma


def _powers(positions: NDArray[np.int_], length: int) -> NDArray[np.float64]:
    """(4, N): powers 0 to 3 of N positions along an axis of `length` pixels, taken as -1 to 1."""
    return np.vander(2 * positions / max(1, length - 1) - 1, 4, increasing=True).T


def _peak(smooth: Grey, sigma: float) -> float:
    """The contrast of full ink: the level that the darkest strokes reach, single pixels left out."""
    top = float(np.partition(smooth.ravel(), -3)[-3:].min()) if smooth.size >= 3 else 0.0
    strong = smooth[smooth > max(0.5 * top, 3 * sigma)]
    return float(np.percentile(strong, 75)) if strong.size else top


def _writing(regions: Regions, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which regions are writing: no frame or table's edge along the border, no specks. Entry 0 is the paper."""
    keep = np.ones(len(regions.area), bool)
    keep[0] = False
    if len(keep) > 1:
        framed = regions.longest_contact >= 0.7
        framed[0] = False
        inside = regions.area[1:][~framed[1:]]
        if inside.size and inside.max() >= 0.02 * regions.area[1:].max():
            keep &= ~framed
        largest = regions.area[keep].max() if keep.any() else 0
        keep &= regions.area >= max(3, 0.04 * largest) if max(shape) > 28 else regions.area >= 1
    return keep


def _mended(ink: Grey, box: int) -> Grey:
    """Strokes far from MNIST's width (1.7 to 2.7 pixels in the box of 20 are ordinary) brought nearer to it.

    A fine pen on a large sheet would fade when shrunk, a marker or a coarse raster would clog.
    """
    image = Image.fromarray(np.rint(ink * 255).astype(np.uint8))
    scale = CANVAS / max(image.size)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BILINEAR
    )
    fine = CANVAS / box
    width = stroke_width(np.array(image)) / fine * 20 / box
    wider = max(0.0, FINEST - width) - max(0.0, width - BROADEST) if width > 0 else 0.0
    steps = round(abs(wider) / 2 * fine * box / 20)
    if steps == 0:
        return ink
    # Room for the strokes to grow, and an edge for those at the border to be worn down from.
    image = ImageOps.expand(image, steps + 1)
    for _ in range(steps):
        image = image.filter(ImageFilter.MaxFilter(3) if wider > 0 else ImageFilter.MinFilter(3))
    mended = np.array(image, dtype=np.float32) / 255
    if not (mended > 0.3).any():
        return ink
    cut = _bounds(mended > 0.3)
    return mended[cut.top : cut.bottom, cut.left : cut.right]


def stroke_width(ink: NDArray[np.uint8]) -> float:
    """Mean width of the strokes in pixels: twice the ink's area by the length of its edge (Crofton's estimate)."""
    grey = np.pad(ink, 1).astype(np.float64)
    edge = (np.abs(np.diff(grey, axis=0)).sum() + np.abs(np.diff(grey, axis=1)).sum()) * np.pi / 4
    return float(2 * grey.sum() / edge) if edge else 0.0


def _fit(ink: Grey, box: int) -> Grey:
    scale = box / max(ink.shape)
    h, w = (max(1, round(side * scale)) for side in ink.shape)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    small = Image.fromarray(np.ascontiguousarray(ink)).resize((w, h), how)
    fitted: Grey = np.clip(np.array(small), 0, 1)
    return fitted


def _bounds(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _blur(grey: Grey) -> Grey:
    """Mean of 3x3, the border repeated."""
    p = np.pad(grey, 1, mode="edge")
    rows = p[:-2] + p[1:-1] + p[2:]
    mean: Grey = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    return mean


def _grow(mask: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    for _ in range(steps):
        p = np.pad(mask, 1)
        mask = p[1:-1, 1:-1] | p[:-2, 1:-1] | p[2:, 1:-1] | p[1:-1, :-2] | p[1:-1, 2:]
    return mask
