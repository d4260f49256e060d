"""How good predicted numbers and their intervals are: pure functions on arrays.

Shapes throughout: `value`, `y` and `half` are (N,), N at least 1; `half` is how far an interval reaches to each side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def r2(value: Floats, y: Floats) -> float:
    """1 - squared errors / squared distances to the mean of `y`; NaN where `y` has no spread."""
    total = float(np.square(y - np.mean(y, dtype=np.float64)).sum())
    return 1 - float(np.square(value.astype(np.float64) - y).sum()) / total if total > 0 else float("nan")


def rmse(value: Floats, y: Floats) -> float:
    """Root of the mean squared error, in the target's unit."""
    return float(np.sqrt(np.square(value.astype(np.float64) - y).mean()))


def mae(value: Floats, y: Floats) -> float:
    """Mean absolute error, in the target's unit."""
    return float(np.abs(value.astype(np.float64) - y).mean())


def coverage(value: Floats, half: Floats, y: Floats) -> float:
    """Share of rows within value +- half."""
    return float((np.abs(value.astype(np.float64) - y) <= half).mean())
