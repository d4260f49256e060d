"""Dark regions grouped into pieces of writing: which are ink, which belong together, and which pieces count."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.codecs.images.morphology import Grey8
from app.codecs.images.paper import WIDTHS, Sheet
from app.codecs.images.regions import Regions

Mask = NDArray[np.bool_]  # (H, W)


ROOM_FOR_SEVERAL: Final = 112  # px; in a smaller picture strokes break too easily to tell two digits from one


class Box(NamedTuple):
    top: int
    left: int
    bottom: int
    right: int


class Seen(NamedTuple):
    """Of each region; entry 0 is the paper.

    Attributes:
        boxes: (N + 1, 4) top, left, bottom, right.
        area: (N + 1,) pixels.
        length: (N + 1,) of its rim, in pixels.
        level: (N + 1,) mean darkness.
        own: (N + 1,) the share of its rim that is an edge in the picture too: what a window's side, or the picture's,
            cuts off has none there.
    """

    boxes: NDArray[np.int64]
    area: NDArray[np.int64]
    length: NDArray[np.int64]
    level: NDArray[np.float64]
    own: NDArray[np.float64]


def measured(regions: Regions, mask: Mask, smooth: Grey8, sheet: Sheet) -> Seen:
    rim = mask.copy()
    rim[1:-1, 1:-1] &= ~(mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:])
    count, (h, w) = len(regions.area), mask.shape
    place = np.flatnonzero(rim)
    at = regions.labels.ravel()[place]
    length = np.bincount(at, minlength=count)
    inside = np.flatnonzero(mask)
    level = np.bincount(regions.labels.ravel()[inside], smooth.ravel()[inside], count) / np.maximum(regions.area, 1)
    kind = np.digitize(2 * regions.area / np.maximum(length, 1), WIDTHS)[at]
    sharp = np.zeros(len(at), bool)
    for k in range(len(WIDTHS) + 1):
        mine = kind == k
        if mine.any():
            sharp[mine] = sheet.edges(k, place[mine]) >= 0.5 * level[at[mine]]
    y, x = np.divmod(place, w)
    sharp &= (y > 0) & (x > 0) & (y < h - 1) & (x < w - 1)
    return Seen(regions.boxes, regions.area, length, level, np.bincount(at, sharp, count) / np.maximum(length, 1))


class Group(NamedTuple):
    """Regions that are one piece.

    Attributes:
        members: the regions' numbers.
        score: how much writing it is: its rim's length by its darkness, less where the rim is no edge.
        own: the share of the rim that is one.
        level: mean darkness.
        width: of its strokes, px.
    """

    members: list[int]
    box: Box
    score: float
    own: float
    level: float
    width: float


def pieces_of(seen: Seen, shape: tuple[int, int]) -> list[Group]:
    """Regions that belong to the same piece of writing, and of the pieces the main one and its like, it first."""
    weight = seen.length * seen.level * np.clip((seen.own - 0.6) / 0.35, 0, 1) ** 2
    weight[0] = 0
    tall, wide = seen.boxes[:, 2] - seen.boxes[:, 0], seen.boxes[:, 3] - seen.boxes[:, 1]
    at_side = (seen.boxes[:, :2] <= 1).any(1) | (seen.boxes[:, 2:] >= np.array(shape) - 1).any(1)
    # What is left of a line where it leaves the picture.
    weight[at_side & (np.maximum(tall, wide) > 4 * np.minimum(tall, wide))] *= 0.05
    if weight.max() <= 0:
        return []
    strong = np.flatnonzero((weight >= 0.02 * weight.max()) & (seen.area >= 3))
    strong = strong[np.argsort(-weight[strong])][:40]
    boxes = seen.boxes[strong].tolist()
    width = (2 * seen.area[strong] / seen.length[strong]).tolist()
    level = seen.level[strong].tolist()
    groups: list[list[int]] = []
    for i in range(len(strong)):
        near = [g for g in groups if any(_together(boxes, width, level, i, j) for j in g)]
        groups = [g for g in groups if g not in near] + [[i, *(j for g in near for j in g)]]
    found = []
    for group in groups:
        them, b = strong[group], seen.boxes[strong[group]]
        box = Box(*b[:, :2].min(0).tolist(), *b[:, 2:].max(0).tolist())
        length = seen.length[them]
        own, level = (float(np.average(of[them], weights=length)) for of in (seen.own, seen.level))
        across = float(2 * seen.area[them].sum() / length.sum())
        found.append(Group(them.tolist(), box, float(weight[them].sum()), own, level, across))
    found.sort(key=lambda one: -one.score)
    h, w = shape
    return found[:1] + [one for one in found[1:] if _counts(one, found[0]) and not _is_at_side(one.box, h, w)]


def _counts(one: Group, main: Group) -> bool:
    """Whether it is writing like the main piece: as large and as dark, in such a pen, with an edge all around."""
    return (
        side_of(one.box) >= 0.4 * side_of(main.box)
        and one.score >= 0.2 * main.score
        and one.own >= 0.9
        and one.level >= 0.6 * main.level
        and 0.4 * main.width <= one.width <= 2.5 * main.width
    )


def _is_at_side(box: Box, h: int, w: int) -> bool:
    return box.top <= 1 or box.left <= 1 or box.bottom >= h - 1 or box.right >= w - 1


def side_of(box: Box) -> int:
    return max(box.bottom - box.top, box.right - box.left)


def _together(boxes: list[list[int]], width: list[float], level: list[float], i: int, j: int) -> bool:
    """Whether two regions are of one piece: nearer than a stroke's width, or one is small and near the other, or one
    stands right above the other, where a number has no other digit."""
    a, b = boxes[i], boxes[j]
    if max(level[i], level[j]) > 1.7 * min(level[i], level[j]):
        return False
    gap = max(max(a[0], b[0]) - min(a[2], b[2]), max(a[1], b[1]) - min(a[3], b[3]), 0)
    sides = [max(c[2] - c[0], c[3] - c[1]) for c in (a, b)]
    if min(sides) < 0.45 * max(sides):
        return gap <= 0.3 * max(sides)
    shared = min(a[3], b[3]) - max(a[1], b[1])
    if 2 * shared >= min(a[3] - a[1], b[3] - b[1]) and gap <= 0.3 * max(sides):
        return True
    return gap <= max(0.8 * max(width[i], width[j]), 2)


def unframed(regions: Regions, shape: tuple[int, int]) -> Mask:
    """Which regions may be writing: no frame or table's edge along the border, no specks. Entry 0 is the paper."""
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


def bounds_of(mask: Mask) -> Box:
    """The box of what is True; there must be some."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
