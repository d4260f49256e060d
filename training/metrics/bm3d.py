"""Yardsticks that learn nothing: block matching with 3-D filtering (BM3D), and non-local means.

BM3D: Dabov, Foi, Katkovnik and Egiazarian 2007, "Image denoising by sparse 3-D transform-domain collaborative
filtering"; the settings are those of its analysis by Lebrun 2012 (IPOL, doi:10.5201/ipol.2012.l-bm3d). Non-local means:
Buades, Coll and Morel 2011 (IPOL, doi:10.5201/ipol.2011.bcm_nlm), one pixel at a time.

Many small pictures are done at once; all sums over blocks are sums of shifted pictures, so there is no loop over
pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Numbers = NDArray[np.int64]

BLOCK: Final = 8  # pixels a side
STEP: Final = 3  # pixels from one reference block to the next
REACH: Final = 16  # pixels that similar blocks are searched within
THRESHOLD: Final = 2.7  # in units of sigma, for coefficients of the first stage
KAISER: Final = 2.0  # shape of the window by which blocks are added
PORTION: Final = 4096  # groups that are filtered at once
MOST_PIXELS: Final = 300_000  # of pictures that are done at once

# By noise up to (of 255): patch side, search reach, and the filter's h in units of sigma (Buades et al. 2011, table 1).
NLM: Final = ((15, 3, 10, 0.40), (30, 5, 10, 0.40), (45, 7, 17, 0.35), (75, 9, 17, 0.35), (np.inf, 11, 17, 0.30))


def bm3d(pictures: Array, sigma: float, *, reach: int = REACH) -> Array:
    """Noisy grey pictures (N, H, W), clean pixels in [0, 1], 8 a side at least -> denoised (N, H, W), not clipped.

    Args:
        sigma: standard deviation of the noise, in the same units, above 0.
    """
    if pictures.ndim != 3 or min(pictures.shape[1:]) < BLOCK or not sigma > 0:
        raise ValueError(
            f"pictures of shape {pictures.shape} with noise of {sigma}; expected (N, 8 or more, 8 or more)"
        )
    few = max(1, MOST_PIXELS // pictures[0].size)
    found = [_both_stages(pictures[i : i + few].astype(np.float32), sigma, reach) for i in range(0, len(pictures), few)]
    return np.concatenate(found) if found else pictures


def _both_stages(noisy: Array, sigma: float, reach: int) -> Array:
    alike = max(2500 / 255**2, 2.6 * sigma**2)  # equal blocks differ by 2 sigma^2 for their noise alone
    basic = _stage(noisy, noisy, sigma, reach, most=16, alike=alike, wiener=False)
    alike = (400 if sigma < 35 / 255 else 3500) / 255**2
    return _stage(noisy, basic, sigma, reach, most=32, alike=alike, wiener=True)


def _stage(noisy: Array, guide: Array, sigma: float, reach: int, *, most: int, alike: float, wiener: bool) -> Array:
    """Group blocks that look alike in `guide`, filter the groups of `noisy`, add the blocks where they came from.

    The filter keeps coefficients above the threshold, or is Wiener's with `guide` for the signal.
    """
    n, height, width = noisy.shape
    dct, window = _dct(BLOCK), np.outer(np.kaiser(BLOCK, KAISER), np.kaiser(BLOCK, KAISER)).astype(np.float32)
    spectra = _spectra(noisy, dct)
    guides = _spectra(guide, dct) if wiener else spectra
    inside = np.arange(BLOCK)[:, None] * width + np.arange(BLOCK)  # pixels of a block, from its corner
    total, weights = np.zeros(noisy.size), np.zeros(noisy.size)
    for places in _groups(guide, reach, most=most, alike=alike):  # (R, K, 3): picture, line, column of each block
        z, y, x = places[..., 0], places[..., 1], places[..., 2]
        haar = _haar(places.shape[1])
        group = np.matmul(haar, spectra[z, y, x])  # (R, K, 64)
        if wiener:
            power = np.matmul(haar, guides[z, y, x]) ** 2
            gain = power / (power + np.float32(sigma**2))
            weight = 1 / np.maximum((gain**2).sum((1, 2)), 1e-6)
        else:
            gain = (np.abs(group) > THRESHOLD * sigma).astype(np.float32)
            weight = 1 / np.maximum(gain.sum((1, 2)), 1)
        filtered = np.matmul(haar.T, group * gain).reshape(*places.shape[:2], BLOCK, BLOCK)
        blocks = (dct.T @ filtered @ dct) * window * weight[:, None, None, None].astype(np.float32)
        pixels = (((z * height + y) * width + x)[..., None, None] + inside).ravel()
        total += np.bincount(pixels, blocks.ravel(), noisy.size)
        each = np.broadcast_to(window * weight[:, None, None, None], blocks.shape)
        weights += np.bincount(pixels, each.ravel(), noisy.size)
    return np.asarray(total / weights, np.float32).reshape(n, height, width)


def _groups(guide: Array, reach: int, *, most: int, alike: float) -> Iterator[Numbers]:
    """For every reference block the places of the blocks most like it, itself first: (R, K, 3), K a power of two.

    Each portion yielded has one K: the largest that so many blocks are within `alike`, mean squared difference.
    """
    n, height, width = guide.shape
    ys, xs = _starts(height), _starts(width)
    reach_y, reach_x = min(reach, height - BLOCK), min(reach, width - BLOCK)
    offsets = sorted(
        product(range(-reach_y, reach_y + 1), range(-reach_x, reach_x + 1)), key=lambda d: d != (0, 0)
    )  # the block itself first
    distances = np.full((len(offsets), n, len(ys), len(xs)), np.inf, np.float32)
    for distance, (dy, dx) in zip(distances, offsets, strict=True):
        # Where both the block and the one so far from it lie within the picture.
        top, left, low, right = max(0, -dy), max(0, -dx), height - max(0, dy), width - max(0, dx)
        apart = guide[:, top:low, left:right] - guide[:, top + dy : low + dy, left + dx : right + dx]
        sums = _box(apart * apart, BLOCK)
        y, x = ((v >= a) & (v <= b - BLOCK) for v, a, b in ((ys, top, low), (xs, left, right)))
        rows, columns = np.ix_(ys[y] - top, xs[x] - left)
        distance[np.ix_(range(n), y.nonzero()[0], x.nonzero()[0])] = sums[:, rows, columns]
    flat = np.ascontiguousarray(distances.reshape(len(offsets), -1).T)  # (references, offsets)
    flat[:, 0] = -1
    most = min(most, 2 ** int(np.log2(len(offsets))))
    nearest = (
        np.argpartition(flat, most - 1, axis=1)[:, :most] if most < len(offsets) else np.argsort(flat, 1)[:, :most]
    )
    near = np.take_along_axis(flat, nearest, 1)
    order = np.argsort(near, axis=1, kind="stable")
    nearest, near = np.take_along_axis(nearest, order, 1), np.take_along_axis(near, order, 1)
    sizes = 2 ** np.log2((near <= alike * BLOCK**2).sum(1)).astype(int)
    corners = np.stack(np.meshgrid(np.arange(n), ys, xs, indexing="ij"), -1).reshape(-1, 1, 3)
    moves = np.array([(0, dy, dx) for dy, dx in offsets])
    for size in np.unique(sizes):
        (chosen,) = np.nonzero(sizes == size)
        for i in range(0, len(chosen), PORTION):
            some = chosen[i : i + PORTION]
            yield corners[some] + moves[nearest[some, :size]]


def _starts(size: int) -> Numbers:
    """Every STEP pixels, and the last place that a block has."""
    return np.unique(np.append(np.arange(0, size - BLOCK + 1, STEP), size - BLOCK))


def _box(x: Array, side: int) -> Array:
    """Sums over squares: (N, H, W) -> (N, H - side + 1, W - side + 1)."""
    return _line(_line(x, side, axis=1), side, axis=2)


def _line(x: Array, side: int, *, axis: int) -> Array:
    """Sums of `side` neighbours, of sums of 1, 2, 4, ... of them: few additions, and exact ones."""

    def part(of: Array, start: int, stop: int) -> Array:
        return of[:, start:stop] if axis == 1 else of[:, :, start:stop]

    length, start, width, power = x.shape[axis] - side + 1, 0, 1, x
    total: Array | None = None
    while True:
        if side & width:
            piece = part(power, start, start + length)
            total = piece if total is None else total + piece
            start += width
        if 2 * width > side:
            assert total is not None
            return total
        end = power.shape[axis]
        power = part(power, 0, end - width) + part(power, width, end)
        width *= 2


def _spectra(pictures: Array, dct: Array) -> Array:
    """The 2-D cosine transform of the block at every place: (N, H - 7, W - 7, 64)."""
    blocks = np.lib.stride_tricks.sliding_window_view(pictures, (BLOCK, BLOCK), axis=(1, 2))
    found = dct @ blocks @ dct.T
    return np.asarray(found.reshape(*found.shape[:3], BLOCK**2))


def _dct(size: int) -> Array:
    """The orthonormal cosine transform (DCT-II): rows are frequencies."""
    k, i = np.ogrid[:size, :size]
    rows = np.cos(np.pi * k * (2 * i + 1) / (2 * size)) * np.sqrt(2 / size)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float32)


def _haar(size: int) -> Array:
    """The orthonormal Haar transform of a power of two."""
    rows = np.ones((1, 1))
    while len(rows) < size:
        rows = np.vstack([np.kron(rows, [1, 1]), np.kron(np.eye(len(rows)), [1, -1])]) / np.sqrt(2)
    return np.asarray(rows, np.float32)


def nlm(
    pictures: Array, sigma: float, *, patch: int | None = None, reach: int | None = None, h: float | None = None
) -> Array:
    """Noisy grey pictures (N, H, W), clean pixels in [0, 1] -> denoised (N, H, W).

    Args:
        sigma: standard deviation of the noise, in the same units.
        patch: side of the squares that are compared, odd. reach: pixels to each side that are searched. h: of the
            weights exp(-max(0, d^2 - 2 sigma^2) / h^2), in units of sigma. By default what the source has for `sigma`.
    """
    usual = next(row for row in NLM if sigma * 255 <= row[0])
    patch, reach, h = patch or usual[1], usual[2] if reach is None else reach, h or usual[3]
    half, (_, height, width) = patch // 2, pictures.shape
    reach_y, reach_x = min(reach, height - 1), min(reach, width - 1)
    around = ((0, 0), (half + reach_y,) * 2, (half + reach_x,) * 2)
    x = np.pad(pictures.astype(np.float32), around, mode="symmetric")

    def shifted(dy: int, dx: int, border: int) -> Array:
        top, left = half + reach_y + dy - border, half + reach_x + dx - border
        return x[:, top : top + height + 2 * border, left : left + width + 2 * border]

    total, weights = np.zeros_like(x, shape=pictures.shape), np.zeros_like(x, shape=pictures.shape)
    for dy, dx in product(range(-reach_y, reach_y + 1), range(-reach_x, reach_x + 1)):
        apart = _box((shifted(0, 0, half) - shifted(dy, dx, half)) ** 2, patch) / patch**2
        weight = np.exp(-np.maximum(0, apart - 2 * sigma**2) / np.float32((h * sigma) ** 2))
        total += weight * shifted(dy, dx, 0)
        weights += weight
    return np.asarray(total / weights)
