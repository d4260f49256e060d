"""Grey dilation, erosion, closing and opening by squares and lines (Serra 1982), in uint8.

A window of N pixels takes log2(N) comparisons of the whole picture: each doubles what the one before has seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Grey8 = NDArray[np.uint8]  # (H, W)


def closing(grey: Grey8, down: int, across: int) -> Grey8:
    """Dark things that a window of `down` x `across` pixels covers are filled with the level around them."""
    wide = _widest(_widest(grey, down, 0, np.maximum, 0), across, 1, np.maximum, 0)
    return _widest(_widest(wide, down, 0, np.minimum, 255), across, 1, np.minimum, 255)


def opening(grey: Grey8, down: int, across: int) -> Grey8:
    """Light things that a window of `down` x `across` pixels covers are filled with the level around them."""
    narrow = _widest(_widest(grey, down, 0, np.minimum, 255), across, 1, np.minimum, 255)
    return _widest(_widest(narrow, down, 0, np.maximum, 0), across, 1, np.maximum, 0)


def _widest(grey: Grey8, length: int, axis: int, choose: np.ufunc, outside: int) -> Grey8:
    """The extreme of `length` pixels (an odd number) about each, along an axis; outside there is nothing."""
    length = min(length, 2 * grey.shape[axis] - 1)
    half = length // 2
    h, w = grey.shape
    if axis == 0:  # np.pad would take longer than the rest
        seen = np.empty((h + 2 * half, w), np.uint8)
        seen[:half], seen[half : half + h], seen[half + h :] = outside, grey, outside
    else:
        seen = np.empty((h, w + 2 * half), np.uint8)
        seen[:, :half], seen[:, half : half + w], seen[:, half + w :] = outside, grey, outside
    have = 1
    while have < length:
        more = min(have, length - have)
        ahead, behind = (seen[more:], seen[:-more]) if axis == 0 else (seen[:, more:], seen[:, :-more])
        seen = choose(ahead, behind)
        have += more
    return seen


def span(grey: Grey8, side: int) -> Grey8:
    """The lightest less the darkest of a square of `side` pixels, an odd number, about each."""
    lightest = _widest(_widest(grey, side, 0, np.maximum, 0), side, 1, np.maximum, 0)
    darkest = _widest(_widest(grey, side, 0, np.minimum, 255), side, 1, np.minimum, 255)
    return lightest - darkest


def dilation(grey: Grey8, side: int) -> Grey8:
    """The lightest of a square of `side` pixels, an odd number, about each."""
    return _widest(_widest(grey, side, 0, np.maximum, 0), side, 1, np.maximum, 0)
