"""Takes the ruling of a sheet away: lines that are thin, straight, and reach from one side of the picture to the other.

In each of `STRIPS` upright strips the rows that a thin ridge crosses are marked; the discrete Radon transform (Brady
1998) counts for every straight line how many strips mark it. A stroke of writing is marked in a few only. Along the
lines that nearly all strips mark the darkness of the line is taken away, and strokes that cross it are joined.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.images.morphology import Grey8, opening

STRIPS: Final = 32  # a power of 2; lines may fall by as many pairs of pixels over the picture
FAINTEST: Final = 6.0  # a ridge's darkness, of 255, below which it is no line
_SHARE: Final = 0.8  # of the strips
_REACH: Final = 6  # px to each side of a line's middle that are looked at

Strips = NDArray[np.float32]  # (STRIPS, H)


def without_ruling(dark: Grey8) -> Grey8:
    """Darkness (0 is paper) with no lines across and none down."""
    across = _without_lines(dark)
    turned = np.ascontiguousarray(across.T)
    down = _without_lines(turned)
    return across if down is turned else np.ascontiguousarray(down.T)


def _without_lines(dark: Grey8) -> Grey8:
    h, w = dark.shape
    if min(h, w) < STRIPS:
        return dark
    widest = max(5, 2 * (max(h, w) // 80) + 1)
    edges = np.linspace(0, w, STRIPS + 1).astype(int)
    ridges = _means(dark - opening(dark, widest, 1), edges)
    noise = np.median(ridges, axis=1, keepdims=True)
    marks = np.clip((ridges - noise) / np.maximum(FAINTEST, noise) - 0.5, 0, 1)
    if (marks.max(1) > 0.5).mean() < _SHARE:
        return dark
    # Under broad strokes no ridge is seen: a line may be there.
    marks = np.where(_means(dark, edges) - ridges > 80, 1, marks)
    middle = _lines(marks.astype(np.float32), ridges, w)
    return dark if middle is None else _removed(dark, middle)


def _means(grey: Grey8, edges: NDArray[np.int_]) -> Strips:
    sums = np.add.reduceat(grey, edges[:-1], axis=1, dtype=np.float32)
    return np.ascontiguousarray((sums / np.diff(edges).astype(np.float32)).T)


def _lines(marks: Strips, ridges: Strips, width: int) -> NDArray[np.float64] | None:
    """(N, W) the row of each line's middle in every column, not whole; may be outside of the picture."""
    count, h = marks.shape
    half = np.pad(marks, ((0, 0), (0, h % 2))).reshape(count, -1, 2).max(2)
    pad = np.pad(half, ((0, 0), (count, count)))  # lines that begin above or below the picture
    falling, rising = _radon(pad), _radon(np.ascontiguousarray(pad[:, ::-1]))[:, ::-1]
    sums = np.concatenate([rising[:0:-1], falling])  # falls from -(count - 1) to count - 1
    falls = np.arange(1 - count, count)
    inside = _inside(half.shape[1], count, falls)
    score = np.where(inside >= count / 4, sums / np.maximum(inside, 1), 0)
    best, which = score.max(axis=0), score.argmax(axis=0)
    around = np.pad(best, 2)
    around = np.max([around[k : k + len(best)] for k in range(5)], axis=0)
    starts = np.flatnonzero((best >= _SHARE) & (best == around))
    if not starts.size:
        return None
    starts = starts[np.concatenate([[True], np.diff(starts) > 1])]
    return _traced(2 * (starts - count) + 0.5, 2.0 * falls[which[starts]], ridges, width)


def _radon(marks: Strips) -> Strips:
    """(STRIPS, H): the sum of marks along lines that begin at row y and fall by s rows over all strips."""
    h = marks.shape[1]
    sums = marks[:, None, :]  # (strips, falls, H)
    while sums.shape[0] > 1:
        left, right = sums[0::2], sums[1::2]
        out = np.repeat(left, 2, axis=1)
        for fall in range(left.shape[1]):
            for shift in (fall, fall + 1):
                out[:, fall + shift, : h - shift] += right[:, fall, shift:]
        sums = out
    done: Strips = sums[0]
    return done


def _inside(h: int, count: int, falls: NDArray[np.int_]) -> NDArray[np.float32]:
    """(falls, H + 2 count): in how many strips such a line is inside the picture."""
    starts, fall = np.arange(-count, h + count, dtype=np.float32), falls[:, None].astype(np.float32)
    low, high = np.minimum(starts, starts + fall), np.maximum(starts, starts + fall)
    covered = np.clip(np.minimum(high, h) - np.maximum(low, 0), 0, None) / np.maximum(np.abs(fall), 1)
    return np.asarray(np.where(fall == 0, (starts >= 0) & (starts < h), covered) * np.float32(count))


def _traced(starts: NDArray[np.float64], falls: NDArray[np.float64], ridges: Strips, width: int) -> NDArray[np.float64]:
    """Where the ridges really are, near what straight lines say: paper bends, and the camera's lens too."""
    count, h = ridges.shape
    at = (np.arange(count) + 0.5) / count
    rows = starts[:, None] + falls[:, None] * at  # (N, strips)
    offsets = np.arange(-3, 4)
    places = np.rint(rows).astype(int)[:, :, None] + offsets
    inside = (places >= 0) & (places < h)
    seen = np.where(inside, ridges[np.arange(count)[None, :, None], np.clip(places, 0, h - 1)], 0)
    weight = seen.sum(2)
    moved = np.where(weight > 0, (seen * offsets).sum(2) / np.maximum(weight, 1e-6) + np.rint(rows) - rows, 0)
    weight = np.minimum(weight, np.median(weight, axis=1, keepdims=True)) + 1e-3
    powers = np.vander(2 * at - 1, 3, increasing=True)  # (strips, 3)
    left = np.einsum("ns,si,sj->nij", weight, powers, powers) + 1e-6 * np.eye(3)
    bend = np.linalg.solve(left, np.einsum("ns,si,ns->ni", weight, powers, moved)[:, :, None])[:, :, 0]
    columns = (np.arange(width) + 0.5) / width
    curve: NDArray[np.float64] = bend @ np.vander(2 * columns - 1, 3, increasing=True).T
    return starts[:, None] + falls[:, None] * columns + curve


def _removed(dark: Grey8, middle: NDArray[np.float64]) -> Grey8:
    """Each line's darkness taken from the rows about its middle, but for strokes that cross it."""
    h, w = dark.shape
    room = _REACH
    padded = np.pad(dark, ((room, room), (0, 0)))
    rows = np.clip(np.rint(middle).astype(int), -1, h) + room
    columns = np.arange(w)
    few = columns[:: max(1, w // 100)]
    reach = np.arange(-_REACH, _REACH + 1)
    rows_few = np.clip(rows[:, None, few] + reach[:, None], 0, h + 2 * room - 1)
    profile = np.median(padded[rows_few, few], axis=2)  # (N, 2 reach + 1): what is there of the line alone
    ground = np.minimum(profile[:, :2].mean(1), profile[:, -2:].mean(1))[:, None]
    profile = np.clip(profile - ground, 0, None).astype(np.float32)
    top = profile.max(1, keepdims=True)
    wide = profile > np.maximum(0.2 * top, 2.0)
    half = int(np.clip((wide * np.abs(reach)).max() + 1, 1, _REACH - 2))
    # A stroke that crosses the line is there above it and below it, upright or aslant.
    span = half + 1
    flat = padded.ravel()
    first = rows * w + columns
    above, below = flat[first - span * w], flat[first + span * w]
    joined = [
        (lean, np.minimum(_moved(above, -round(lean * span)), _moved(below, round(lean * span)))) for lean in _LEANS
    ]
    for dy in range(-half, half + 1):
        place = first + dy * w
        here = flat[place].astype(np.float32)
        filled = np.max([_moved(both, round(lean * dy)) for lean, both in joined], axis=0)
        level = np.clip(1.25 * profile[:, _REACH + dy, None] + 0.25 * top + 4, 0, 250)
        more = np.clip(here - filled - level, 0, None) * (255 / (255 - level))
        flat[place] = np.minimum(here, filled + more)
    return flat.reshape(padded.shape)[room:-room]


_LEANS: Final = (-1.0, -0.5, 0.0, 0.5, 1.0)  # columns a row


def _moved(rows: NDArray[Any], by: int) -> NDArray[Any]:
    """(N, W) moved to the right, the ends repeated."""
    if by == 0:
        return rows
    if by > 0:
        return np.concatenate([np.repeat(rows[:, :1], by, axis=1), rows[:, :-by]], axis=1)
    return np.concatenate([rows[:, -by:], np.repeat(rows[:, -1:], -by, axis=1)], axis=1)
