"""float32 as decimal numbers in JSON: as few digits as say all of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

DIGITS: Final = 9
"""Significant decimal digits that tell every float32 from its neighbours (IEEE 754-2019, 5.12.2)."""


def decimals(values: NDArray[np.floating[Any]], digits: int = DIGITS) -> list[float]:
    """Numbers (n,), rounded to significant digits: short when written as JSON, and equal when read as float32 again."""
    return rounded(values.tolist(), digits)


def rounded(values: Iterable[float], digits: int = DIGITS) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]
