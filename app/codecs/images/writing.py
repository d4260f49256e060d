"""Finds the pieces of writing on a sheet: in shadow and glare, on ruled paper, in dark ink or light.

Three windows look for it, the narrowest first: one that is hardly wider than the strokes sees little of the shadows.
Its regions count as ink as far as their rim is an edge in the picture too; what a window cuts out of a shadow has none
along the cut. Regions near each other are one piece: a loose bar, a broken stroke.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.codecs.images.grouping import Box, Mask, bounds_of, measured, pieces_of, side_of, unframed
from app.codecs.images.morphology import Grey8, dilation, opening
from app.codecs.images.paper import Sheet, read_sheet
from app.codecs.images.regions import Regions, find_regions
from app.codecs.images.ruling import without_ruling

MIN_CONTRAST: Final = 20.0  # grey levels between ink and paper; less is no ink
WINDOWS: Final = (0.042, 0.1, 0.25)  # of the longer side; wider than the strokes of a fine pen, a broad one, a marker
WEIGHTS: Final = (6.9, 48.8, 5.5, 34.4, -120.5, 1.3, -1.2)
LEAST, LEAST_OF_SEVERAL = 31.7, 29.0
"""Of `_likeness`: how much of the rim is an edge and how far that is above 0.9, the logarithm of the contrast in grey
levels, the strokes' width in sides of the writing and its square, the logarithm of the writing's side in sides of the
picture, how many of the picture's sides it touches."""
THRESHOLDS: Final = (0.35, 0.6)  # of full ink; the second parts ink from a shadow that it lies in


class Piece(NamedTuple):
    """Attributes:
    ink: 0 to 1, cut to its bounding box.
    box: where that is.
    sure: whether the main piece of its picture is no part of the paper.
    """

    ink: NDArray[np.floating[Any]]
    box: Box
    sure: bool = True


class _Found(NamedTuple):
    """What one window sees.

    Attributes:
        level: (H, W) darkness.
        cores: of each piece (H, W), where it surely is; the main one first.
        peak: the darkness of full ink.
        low: the share of it below which there is no ink.
        score, own, box: of the main piece, as in `Group`.
    """

    level: Grey8
    cores: list[Mask]
    peak: float
    low: float
    score: float
    own: float
    box: Box


def find_writing(grey: Grey8) -> list[Piece]:
    """The pieces of writing in a picture (H, W), the main one first."""
    side = max(grey.shape)
    windows = [2 * max(4, round(share * side / 2)) + 1 for share in WINDOWS]
    sheet = read_sheet(grey, windows[-1])
    sheet = _unruled(sheet) if side > 56 else sheet
    found = _search(sheet.dark, sheet, windows)
    if found is None:
        return []
    least = LEAST if len(found.cores) == 1 else LEAST_OF_SEVERAL
    sure = _likeness(found, sheet) >= least
    return [piece._replace(sure=sure) for core in found.cores if (piece := _cut(found, core)) is not None]


def _likeness(found: _Found, sheet: Sheet) -> float:
    """How much like writing it is, not like a part of the paper: uneven light, shadows and glare make regions too.

    A logistic regression, fitted once by scikit-learn to 1,289 sheets with a digit and 619 blank ones, on which
    something was found: those of `tests/quality/sheets.py`, of other seeds and rows than its tests have, and blank
    ones under gradients, vignettes, spots and edges of light. What it is worth elsewhere, `make quality` measures.
    """
    core, box = found.cores[0], found.box
    side, (h, w) = side_of(box), core.shape
    own, thick = min(found.own, 1.0), stroke_width(core) / side
    at_sides = (box.top <= 1) + (box.left <= 1) + (box.bottom >= h - 1) + (box.right >= w - 1)
    seen = (
        *(own, max(0.0, own - 0.9), np.log(max(1.0, found.peak * sheet.levels))),
        *(thick, thick**2, np.log(side / max(h, w)), min(2, at_sides)),
    )
    return float(np.dot(seen, WEIGHTS))


def in_reading_order(pieces: list[Piece]) -> list[Piece]:
    """Line by line, from left to right; pieces are in a line that overlap by half of the lower one's height."""
    lines: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda one: one.box.top):
        for line in lines:
            a, b = line[0].box, piece.box
            if 2 * (min(a.bottom, b.bottom) - max(a.top, b.top)) >= min(a.bottom - a.top, b.bottom - b.top):
                line.append(piece)
                break
        else:
            lines.append([piece])
    return [piece for line in lines for piece in sorted(line, key=lambda one: one.box.left)]


def _cut(found: _Found, core: Mask) -> Piece | None:
    box = bounds_of(core)
    part = np.s_[max(0, box.top - 3) : box.bottom + 3, max(0, box.left - 3) : box.right + 3]
    mask, level = core[part], found.level[part]
    # Glare and a light hand make a stroke pale in places: each is measured by what is darkest near it.
    width = int(stroke_width(mask))
    near = dilation(np.where(mask, level, 0).astype(np.uint8), 2 * max(1, width // 2) + 3)
    peak = np.clip(near.astype(np.float32), 0.45 * found.peak, found.peak)
    ink = np.clip((level / peak - found.low) / (0.85 - found.low), 0, 1) * _grow(mask, 2)
    if not (ink > 0.3).any():
        return None
    b = bounds_of(ink > 0.3)
    top, left = max(0, box.top - 3) + b.top, max(0, box.left - 3) + b.left
    return Piece(
        ink[b.top : b.bottom, b.left : b.right], Box(top, left, top + b.bottom - b.top, left + b.right - b.left)
    )


def stroke_width(mask: Mask) -> float:
    """Mean width of the strokes in pixels: twice the area by the length of the edge (Crofton's estimate)."""
    edge = (np.diff(np.pad(mask, 1), axis=0).sum() + np.diff(np.pad(mask, 1), axis=1).sum()) * np.pi / 4
    return float(2 * mask.sum() / edge) if edge else 0.0


def _unruled(sheet: Sheet) -> Sheet:
    """The sheet with its lines taken away; their edges too, which would be taken for those of what lies on them."""
    dark = without_ruling(sheet.dark)
    if dark is sheet.dark:
        return sheet
    places = np.flatnonzero(dark != sheet.dark)
    back = (sheet.dark.ravel()[places] - dark.ravel()[places]) / sheet.gain.ravel()[places]
    smooth = sheet.smooth.copy()
    flat = smooth.reshape(-1)
    flat[places] = np.clip(flat[places] + (-back if sheet.light else back), 0, 255)
    return replace(sheet, dark=dark, smooth=smooth)


def _search(dark: Grey8, sheet: Sheet, windows: list[int]) -> _Found | None:
    chosen = None
    full = _peak(dark[::2, ::2])
    level = dark - opening(dark, windows[0], windows[0])
    for turn, window in enumerate(windows):
        last = turn == len(windows) - 1
        found = _find(level, sheet, last=last and chosen is None)
        if found is not None and (chosen is None or found.score * found.own**8 > chosen.score * chosen.own**8):
            chosen = found
        if last:
            break
        wider = windows[turn + 1]
        wide = dark if turn == len(windows) - 2 else dark - opening(dark, wider, wider)
        if found is not None and found.peak >= 0.6 * full and _is_whole(found, wide, dark, window):
            seen = _widened(found, wide)
            if len(found.cores) == 1 and not _misses_more(found, wide):
                return seen
            more = _find(wide, sheet, last=False)
            return more if more is not None and _is_better(more, seen) else seen
        level = wide
    return chosen


def _misses_more(found: _Found, wide: Grey8) -> bool:
    """Whether a wider window sees much elsewhere that is as dark as this: other pieces, in a broader pen."""
    threshold = int(0.6 * found.peak)
    area = np.count_nonzero(found.cores[0])
    return bool(np.count_nonzero(wide > threshold) > 1.45 * area)


def _is_better(more: _Found, found: _Found) -> bool:
    """Whether a wider window sees the same main piece and others, or as one what seemed to be several."""
    if more.own < max(0.9, found.own - 0.05):
        return False
    boxes = [found.box]
    if len(more.cores) < len(found.cores):
        boxes = [bounds_of(core) for core in found.cores]
    all_of_it = Box(
        *(choose(side) for choose, side in zip((min, min, max, max), zip(*boxes, strict=True), strict=True))
    )
    return _holds(more.box, all_of_it) and side_of(more.box) < 1.2 * side_of(all_of_it)


def _holds(outer: Box, inner: Box) -> bool:
    """Whether the first box holds most of the second."""
    down = min(outer.bottom, inner.bottom) - max(outer.top, inner.top)
    across = min(outer.right, inner.right) - max(outer.left, inner.left)
    return down >= 0.8 * (inner.bottom - inner.top) and across >= 0.8 * (inner.right - inner.left)


def _widened(found: _Found, wide: Grey8) -> _Found:
    """The same with what a wider window sees of it where strokes meet."""
    cores = []
    for core in found.cores:
        box = bounds_of(core)
        part = np.s_[max(0, box.top - 5) : box.bottom + 5, max(0, box.left - 5) : box.right + 5]
        more = core.copy()
        more[part] |= _grow(core[part], 5) & (wide[part] > 0.5 * found.peak)
        cores.append(more)
    return found._replace(level=wide, cores=cores)


def _is_whole(found: _Found, wide: Grey8, dark: Grey8, window: int) -> bool:
    """Whether a wider window would see no more of this ink."""
    b = found.box
    if found.own >= 0.88:
        part = np.s_[max(0, b.top - 4) : b.bottom + 4, max(0, b.left - 4) : b.right + 4]
        core = found.cores[0][part]
        ring = _grow(core, 4) & ~_grow(core, 1)
        if ring.any() and ((wide if found.own >= 0.96 else dark)[part][ring] > 0.65 * found.peak).mean() < 0.1:
            return True
    part = np.s_[max(0, b.top - window) : b.bottom + window, max(0, b.left - window) : b.right + window]
    return float(wide[part].sum()) < 1.25 * float(found.level[part].sum())


def _find(level: Grey8, sheet: Sheet, *, last: bool) -> _Found | None:
    smooth = np.asarray(Image.fromarray(level).filter(ImageFilter.BoxBlur(1)))
    sigma = 1.4826 * float(np.median(level[::4, ::4]))
    peak = _peak(smooth)
    if peak < max(MIN_CONTRAST / sheet.levels, 4 * sigma / 3):
        return None
    low = max(0.2, min(0.45, 1.2 * sigma / peak))
    best = None
    for threshold in THRESHOLDS:
        mask = smooth > max(threshold, low) * peak
        regions = find_regions(mask)
        if len(regions.area) == 1:
            continue
        seen = measured(regions, mask, smooth, sheet)
        pieces = pieces_of(seen, mask.shape)
        if not pieces:
            continue
        score = max(one.score for one in pieces)
        if best is None or score > best.score:
            cores = [_mask_of(regions, one.members) for one in pieces]
            best = _Found(level, cores, _peak(smooth[cores[0]]), low, score, pieces[0].own, bounds_of(cores[0]))
        if score >= 0.9 * (seen.length * seen.level)[1:].max():
            break
    if best is None and last:
        mask = smooth > max(0.35, low) * peak
        regions = find_regions(mask)
        keep = unframed(regions, mask.shape)
        if keep.any():
            core = keep[regions.labels]
            best = _Found(level, [core], peak, low, 0.0, 0.0, bounds_of(core))
    return best


def _mask_of(regions: Regions, members: list[int]) -> Mask:
    them = np.zeros(len(regions.area), bool)
    them[members] = True
    return them[regions.labels]


def _peak(values: NDArray[np.uint8]) -> float:
    """The darkness of full ink: the level that the darkest strokes reach, single pixels left out."""
    counts = np.bincount(values.ravel(), minlength=256)
    above = np.cumsum(counts[::-1])[::-1]
    top = int(np.flatnonzero(above >= min(3, values.size))[-1])
    strong = counts[top // 2 + 1 :]
    upto = np.cumsum(strong)
    return float(top // 2 + 1 + np.searchsorted(upto, 0.75 * upto[-1])) if upto[-1:].any() else float(top)


def _grow(mask: Mask, steps: int) -> Mask:
    return dilation(mask.view(np.uint8), 2 * steps + 1).astype(bool)
