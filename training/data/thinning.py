"""Morphological thinning of many binary pictures at once (Zhang and Suen 1984)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

AROUND: Final = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""Rows and columns to the eight neighbours, clockwise from the upper one."""


def skeletons(pictures: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Lines one pixel wide in the middle of strokes, connected as these are: bool (N, H, W) -> bool (N, H, W)."""
    n, h, w = pictures.shape
    padded = np.zeros((n, h + 2, w + 2), np.uint8)
    padded[:, 1:-1, 1:-1] = pictures
    flat = padded.reshape(-1)
    steps = [dy * (w + 2) + dx for dy, dx in AROUND]
    left = np.flatnonzero(flat)
    changed = True
    while changed:
        changed = False
        for rule in REMOVED:
            code = np.zeros(len(left), np.uint8)
            for bit, step in enumerate(steps):
                code |= flat[left + step] << np.uint8(bit)
            gone = rule[code]
            flat[left[gone]] = 0
            left = left[~gone]
            changed |= bool(gone.any())
    return padded[:, 1:-1, 1:-1].astype(bool)


def _rules() -> NDArray[np.bool_]:
    """For the two half-steps and each of 256 neighbourhoods, whether its middle goes; (2, 256).

    Bit i of a neighbourhood is the neighbour `AROUND[i]`. It goes where it has two to six neighbours in one run,
    so that nothing is cut or shortened, on the lower right border in the first half-step, the upper left in the second.
    """
    rules = np.zeros((2, 256), bool)
    for code in range(256):
        ink = [bool(code >> i & 1) for i in range(8)]
        runs = sum(not ink[i] and ink[(i + 1) % 8] for i in range(8))
        up, right, down, left = ink[0::2]
        if runs == 1 and 2 <= sum(ink) <= 6:
            rules[0, code] = not (up and right and down) and not (right and down and left)
            rules[1, code] = not (up and right and left) and not (up and down and left)
    return rules


REMOVED: Final = _rules()
