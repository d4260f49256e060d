"""How far pictures are from what they should be: pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def squared_errors(pictures: NDArray[np.float32], x: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean squared error (N,) of pictures in [0, 1] against rows from 0 to 255, both (N, ...)."""
    difference = (pictures - x / np.float32(255)).astype(np.float64)
    return np.asarray((difference**2).reshape(len(x), -1).mean(axis=1))
