"""Reads handwriting as MNIST was made (LeCun et al. 1998, section III.A): light ink on black. The ink's bounding box
is scaled with its aspect kept into a box of 20 pixels, its centre of mass put in the middle of 28x28.

A picture in this form passes unchanged. It has the target's size, all that is not black fits into the box, and its
centre of mass lies within `CENTRED` pixels of (height / 2, width / 2). All 70,000 rows of MNIST do (at most 0.52).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from app.codecs.images.grouping import ROOM_FOR_SEVERAL, Box, bounds_of
from app.codecs.images.regions import find_regions
from app.codecs.images.small_pictures import find_ink
from app.codecs.images.writing import MIN_CONTRAST, Piece, find_writing, in_reading_order
from app.core.errors import SeveralPieces, invalid
from app.core.manifest import DigitPicture

SMALL: Final = 48  # px; a piece that is smaller in the shrunk picture is read from the picture as it came
WORK_SIDE: Final = 320  # px; a larger picture is shrunk first, strokes stay several pixels wide
SEPARATE: Final = 0.9  # of a picture's variance, that lies between its two tones
APART: Final = 80.0  # grey levels between them
FILLED: Final = 0.6  # of a side of the picture
DARKEST_SHADOW: Final = 0.4  # of the light outside of it
CENTRED: Final = 0.6  # px
FINEST, BROADEST = 1.7, 2.7  # px in a box of 20; 5 % and 70 % of MNIST's rows
CANVAS: Final = 160  # px; the ink's longer side while the strokes are measured and mended

Grey = NDArray[np.floating[Any]]  # (H, W)


def read(
    image: Image.Image, picture: DigitPicture, *, subject: str, longer_side: int | None = None
) -> NDArray[np.uint8]:
    """The one piece of handwriting in a picture as (height, width), light on black.

    Args:
        image: mode L, LA, RGB or RGBA, at least 1x1.
        picture: height, width and box to bring it to.
        subject: what to call the picture in errors.
        longer_side: px, that errors count in; the image's own where it is None.

    Raises:
        Unprocessable: no ink was found.
        SeveralPieces: more than one piece of writing was.
    """
    if image.mode in ("L", "RGB") or image.getchannel("A").getextrema() == (255, 255):
        grey = np.array(image.convert("L"))
        if is_in_form(grey, picture):
            return grey
    work = _opaque(_shrunk(image))
    small = max(work.shape) < ROOM_FOR_SEVERAL
    ink = find_ink(work) if small else _filling(work)
    pieces = [] if ink is None else [Piece(ink, Box(0, 0, *work.shape))]
    if not small and not pieces:
        pieces = find_writing(np.rint(work).astype(np.uint8))
    shrunk = max(image.size) / max(work.shape)
    if len(pieces) == 1 and shrunk >= 1.25 and max(pieces[0].ink.shape) <= SMALL:
        pieces, shrunk = _nearer(image, pieces[0], shrunk)
    if not pieces or not pieces[0].sure:
        raise invalid(
            subject,
            expected=f"handwriting at least {MIN_CONTRAST:.0f} grey levels from its background",
            got="a blank picture",
            detail=f"{subject}: no ink found: the picture is blank or too faint to tell writing from paper",
        )
    if len(pieces) > 1:
        scale = (longer_side or max(image.size)) / max(image.size) * shrunk
        raise SeveralPieces(subject, [_scaled(piece.box, scale) for piece in in_reading_order(pieces)])
    return place(pieces[0].ink, picture)


def _filling(work: Grey) -> Grey | None:
    """Ink that fills a picture, where windows wider than fine strokes take it for paper: one region, in a tone so far
    from the other that no shadow is. None where it is otherwise."""
    counts, edges = np.histogram(work, bins=64)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above, sums = work.size - below, np.cumsum(counts * middles)[:-1]
    dark, light = sums / np.maximum(below, 1), (work.sum() - sums) / np.maximum(above, 1)
    apart = below * above * np.square(light - dark) / work.size**2  # between the two classes (Otsu 1979)
    i = int(apart.argmax())
    if apart[i] < SEPARATE * work.var() or light[i] - dark[i] < APART or dark[i] > DARKEST_SHADOW * light[i]:
        return None
    ink = find_ink(work)
    if ink is None or max(a / b for a, b in zip(ink.shape, work.shape, strict=True)) < FILLED:
        return None
    area = find_regions(ink > 0.5).area[1:]
    alone = area.size > 0 and area.max() >= 0.95 * area.sum()
    # Ink and the shadow that it lies in would be more than one tone.
    is_a_tone = any(abs(area.sum() - size) <= 0.15 * size for size in (below[i], above[i]))
    return ink if alone and is_a_tone else None


def _scaled(box: Box, scale: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom."""
    return round(box.left * scale), round(box.top * scale), round(box.right * scale), round(box.bottom * scale)


def _nearer(image: Image.Image, piece: Piece, shrunk: float) -> tuple[list[Piece], float]:
    """A small piece once more, from the pixels that shrinking took away; and how much these are shrunk."""
    b, side = piece.box, max(piece.ink.shape)
    x, y, room = (b.left + b.right) / 2 * shrunk, (b.top + b.bottom) / 2 * shrunk, 1.6 * side * shrunk
    left, top = max(0, round(x - room)), max(0, round(y - room))
    part = image.crop((left, top, min(image.width, round(x + room)), min(image.height, round(y + room))))
    work = _opaque(_shrunk(part))
    less = max(part.size) / max(work.shape)
    pieces = find_writing(np.rint(work).astype(np.uint8))
    if sum(max(one.ink.shape) for one in pieces) < 0.7 * side * shrunk / less:
        return [piece._replace(sure=bool(pieces) and pieces[0].sure)], shrunk
    down, across = round(top / less), round(left / less)
    return [
        p._replace(box=Box(p.box.top + down, p.box.left + across, p.box.bottom + down, p.box.right + across))
        for p in pieces
    ], less


def is_in_form(grey: NDArray[np.uint8], picture: DigitPicture) -> bool:
    """Whether a picture is as MNIST's are, by the rule in this file's header."""
    if grey.shape != (picture.height, picture.width) or not grey.any():
        return False
    box = bounds_of(grey > 0)
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
    cut = bounds_of(mended > 0.3)
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
