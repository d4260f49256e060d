"""Groups of rows that an interval should hold in: where a value is missing, each category, each quarter of a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest.table import CategoryColumn, DateColumn, NumberColumn, Table

ENOUGH: Final = 200
"""Rows of a group, from which on its coverage is known within some four points."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that have something in common: bool (N,)."""

    name: str
    rows: NDArray[np.bool_]

    @property
    def judged(self) -> bool:
        """Whether there are enough rows to say how often an interval holds in it."""
        return int(self.rows.sum()) >= ENOUGH


def groups_of(table: Table, x: Floats) -> list[Group]:
    """Of rows (N, F): every category, every column's missing values, and the quarters of every number."""
    found = []
    for j, column in enumerate(table.columns):
        values = x[:, j]
        missing = np.isnan(values)
        if isinstance(column, CategoryColumn):
            found += [Group(name=f"{column.name} is {c}", rows=values == k) for k, c in enumerate(column.categories)]
        elif not missing.all():
            ends = np.unique(np.nanquantile(values, (0, 0.25, 0.5, 0.75, 1)))
            for low, high in pairwise(ends.tolist()):
                within = (values >= low) & ((values < high) | ((high == ends[-1]) & (values == high)))
                found.append(Group(name=f"{column.name} {_span(column, low, high)}", rows=within))
        found.append(Group(name=f"{column.name} missing", rows=missing))
    return [group for group in found if group.rows.any()]


def _span(column: NumberColumn | DateColumn, low: float, high: float) -> str:
    low, high = low + column.offset, high + column.offset
    if isinstance(column, DateColumn):
        return f"{column.written(low)} to {column.written(high)}"
    unit = f" {column.unit}" if column.unit else ""
    return f"{low:g} to {high:g}{unit}" if column.offset else f"{low:.4g} to {high:.4g}{unit}"


def farthest(groups: Sequence[Group], inside: NDArray[np.bool_], coverage: float) -> tuple[Group, float] | None:
    """Of the groups with enough rows that whose share of rows `inside` (N,) is farthest from `coverage`."""
    shares = [(group, float(inside[group.rows].mean())) for group in groups if group.judged]
    return max(shares, key=lambda one: abs(one[1] - coverage), default=None)
