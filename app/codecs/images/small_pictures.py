"""Finds the ink of a small picture, which the writing may fill: all that differs from a surface
fitted to the paper."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.images.grouping import bounds_of
from app.codecs.images.regions import Regions, find_regions
from app.codecs.images.writing import MIN_CONTRAST

# Powers of y and of x in the surface fitted to the paper, and how many of them each round of the fit may use.
_DEGREES: Final = ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (2, 1), (3, 0))
_TERMS: Final = (1, 1, 3, 3, 6, 6, 6, 6, 10, 10, 10)
_BORDER_TURNS: Final = 6  # rounds that see the border alone, where it is trusted
_RIDGE: Final = (0, 0.1, 0.1, 1, 1, 1, 3, 3, 3, 3)

Grey = NDArray[np.floating[Any]]  # (H, W)


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
    box = bounds_of(ink > 0.3)
    cut: Grey = ink[box.top : box.bottom, box.left : box.right]
    return cut


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
