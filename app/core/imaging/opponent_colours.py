"""Colours as one plane of brightness and two of opponent colours, so that a net for grey pictures denoises them.

    brightness          (R + G + B) / 3
    red against blue    (R - B) / sqrt(2) + 1/2
    green against both  (2G - R - B) / sqrt(6) + 1/2

The three directions are orthogonal, so noise that is white and alike in R, G and B stays white and independent from
plane to plane. The opponent colours keep its standard deviation, the brightness has it divided by sqrt(3) (`noise`).
The opponent transform is that of colour BM3D (Dabov et al. 2007, "Color image denoising via sparse 3D collaborative
filtering"), here with directions of length one for the colours. All planes of common photos lie within [0, 1], a grey
photo's colours at exactly 1/2.
"""

from __future__ import annotations

from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_TO_PLANES: Final = np.array(
    [[1 / 3, 1 / 3, 1 / 3], [1 / sqrt(2), 0, -1 / sqrt(2)], [-1 / sqrt(6), 2 / sqrt(6), -1 / sqrt(6)]]
)
_TO_COLOURS: Final = np.linalg.inv(_TO_PLANES)
_MIDDLE: Final = np.array([0, 0.5, 0.5], np.float32)


def to_planes(picture: Array) -> Array:
    """A picture (H, W, C), C 1 or 3 (RGB), in [0, 1] or noisy beyond -> planes (C, H, W); a grey one's is its own.

    Raises:
        ValueError: another shape.
    """
    _check(picture.shape[-1] if picture.ndim == 3 else 0, picture.shape)
    if picture.shape[-1] == 3:
        picture = picture @ _TO_PLANES.T.astype(np.float32) + _MIDDLE
    return np.ascontiguousarray(np.moveaxis(picture, -1, 0))


def to_picture(planes: Array) -> Array:
    """The inverse: planes (C, H, W) -> picture (H, W, C), not clipped. Raises ValueError for another shape."""
    _check(planes.shape[0] if planes.ndim == 3 else 0, planes.shape)
    picture = np.moveaxis(planes, 0, -1)
    if picture.shape[-1] == 3:
        picture = (picture - _MIDDLE) @ _TO_COLOURS.T.astype(np.float32)
    return np.ascontiguousarray(picture)


def noise(channels: int) -> Array:
    """The standard deviation of each plane's noise (C,), where that of the picture's noise is 1."""
    _check(channels, (channels,))
    return np.ones(1, np.float32) if channels == 1 else np.array([1 / sqrt(3), 1, 1], np.float32)


def _check(channels: int, shape: tuple[int, ...]) -> None:
    if channels not in (1, 3):
        raise ValueError(f"of shape {shape}, expected 1 channel or 3")
