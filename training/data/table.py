"""What every table becomes: rows of numbers in two parts, and what its columns are called."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.manifest.table import CategoryColumn, DateColumn, NumberColumn, Table, Target
from training.data.base import Dataset, shuffled

Floats = NDArray[np.floating[Any]]
CHANCES: Final = 10  # kinds of rows that the columns' values allow, for each row, where rows that are alike are copies


@dataclass(frozen=True, kw_only=True, eq=False)
class TableDataset(Dataset):
    """A table whose rows predict one more value: a label, or a number.

    `x` is float32 (N, F) with the columns of `table`: a number as it is, a category as its place among the column's
    `categories`, NaN where a value is missing. `y` is int64 (N,), an index into `labels`, or where there are no
    labels float32 (N,) in the target's unit.

    `train` is trained on, and what is held out for selection and calibration are folds of it (`folds`). `test` may
    be empty: a small table is measured by nested cross-validation over all of its rows. Which row is where depends
    on the table alone, never on a training's seed.
    """

    table: Table
    target: Target | None  # of a regression; a classification has labels
    target_column: str  # its name

    @property
    def task(self) -> Literal["classify", "regress"]:
        return "classify" if self.labels else "regress"


def number(
    name: str,
    values: Floats,
    *,
    unit: str = "",
    about: str = "",
    decimal: Literal[".", ","] = ".",
    grouped: bool = False,
    offset: float = 0.0,
) -> NumberColumn:
    """The column of these training values (N,), less `offset`, NaN where one is missing. `NumberColumn` says what the
    others are."""
    return NumberColumn(
        kind="number",
        name=name,
        unit=unit,
        about=about,
        decimal=decimal,
        grouped=grouped,
        missing=bool(np.isnan(values).any()),
        offset=offset,
        low=_short(np.nanmin(values)) + offset,
        high=_short(np.nanmax(values)) + offset,
    )


def date(name: str, values: Floats, *, order: Literal["day", "month"] | None, clock: bool, offset: float) -> DateColumn:
    """The column of these training dates (N,): days since 1970-01-01 less `offset`, NaN where one is missing."""
    return DateColumn(
        kind="date",
        name=name,
        missing=bool(np.isnan(values).any()),
        order=order,
        clock=clock,
        offset=offset,
        low=_short(np.nanmin(values)) + offset,
        high=_short(np.nanmax(values)) + offset,
    )


def category(name: str, values: Floats, categories: Sequence[str], *, about: str = "") -> CategoryColumn:
    """The column of these training values (N,), places among `categories` and NaN where one is missing."""
    missing = bool(np.isnan(values).any())
    return CategoryColumn(kind="category", name=name, about=about, missing=missing, categories=tuple(categories))


def target(name: str, values: Floats, *, unit: str = "") -> Target:
    """What a regression predicts, by its training values (N,)."""
    return Target(name=name, unit=unit, low=_short(values.min()), high=_short(values.max()))


def _short(value: np.floating[Any]) -> float:
    """The shortest decimal that is this number in its own type: 7.9, not 7.900000095367432."""
    return float(str(value))


def folds(y: torch.Tensor, count: int, *, seed: int, copies: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Each row's fold, int64 (N,), 0 to count - 1; sizes differ by one at most, and so do those of each class.

    `y` is int64 (N,) for a classification, whose classes are dealt out in turn, or float32 (N,). Rows with the same
    number in `copies` (N,) are in one fold, that of the first.
    """
    order = shuffled(len(y), seed=seed)
    if not y.is_floating_point():
        order = order[np.argsort(y.numpy()[order], kind="stable")]
    fold = np.empty(len(y), np.int64)
    fold[order] = np.arange(len(y)) % count
    if copies is not None:
        _, first, place = np.unique(copies, return_index=True, return_inverse=True)
        fold = fold[first][place]
    return fold


def copies_of(x: torch.Tensor) -> NDArray[np.int64]:
    """A number for each row (N, F), the same for copies: rows that are alike, where columns have so many values that
    this is no chance. Else each row has its own."""
    values = np.where(np.isnan(x.numpy()), np.float32(-1.2345e38), x.numpy())
    kinds = math.prod(float(len(np.unique(column))) for column in values.T)
    if kinds < CHANCES * len(values):
        return np.arange(len(values))
    _, number = np.unique(values, axis=0, return_inverse=True)
    return number.ravel()
