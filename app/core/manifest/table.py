"""Tables in a manifest: the columns of a row, the target predicted from it, and how far off that may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from app.core.manifest.part import Label, ManifestPart, brief

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY_S: Final = 86_400


class Column(ManifestPart):
    """One column of a table, by the name that a request calls it."""

    name: Label
    about: Annotated[str, StringConstraints(max_length=400)] = ""
    missing: bool = False  # whether training saw rows without it: only then may a request leave it out


class RangeColumn(Column):
    """What the training rows span from `low` to `high`. Outside of it a model extrapolates; responses say so."""

    low: float
    high: float
    offset: float = 0.0  # the graph takes values less this: float32 has not the digits of a time in seconds

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"column '{self.name}': low {self.low} is above high {self.high}")
        return self


class NumberColumn(RangeColumn):
    """A number, in `unit`."""

    kind: Literal["number"]
    unit: Annotated[str, StringConstraints(max_length=40)] = ""
    decimal: Literal[".", ","] = "."  # behind which the training file has decimals
    grouped: bool = False  # whether it has thousands apart: then "1,530" is no riddle


class DateColumn(RangeColumn):
    """A date, or with `clock` a date and a time, in days since 1970-01-01."""

    kind: Literal["date"]
    order: Literal["day", "month"] | None = None  # what stands first in 3/4/2024, where the training file tells
    clock: bool = False

    def written(self, days: float) -> str:
        """As ISO 8601 has it, to the day or to the second."""
        try:
            when = EPOCH + timedelta(seconds=round(days * DAY_S))
        except OverflowError:
            return f"{days:g} days after 1970-01-01"
        return f"{when:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") if self.clock else when.date().isoformat()


class CategoryColumn(Column):
    """One of a few words; the graph takes its index among `categories`."""

    kind: Literal["category"]
    categories: Annotated[tuple[Label, ...], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"column '{self.name}': two categories are the same")
        return self


TableColumn = Annotated[NumberColumn | DateColumn | CategoryColumn, Field(discriminator="kind")]


class Table(ManifestPart):
    """How a row of a table becomes one float32 row of the graph: a number or the days of a date less the column's
    `offset`, a category as its index in `categories`, NaN for what is missing. Scaling, one-hot coding, a date's parts
    and what is put in for a missing value are in the graph.

    `ignored` are columns of the training file that are no features: the target, and what was left out. They may be
    in what is sent, and change nothing."""

    columns: Annotated[tuple[TableColumn, ...], Field(min_length=1, max_length=10_000)]
    ignored: Annotated[tuple[Label, ...], Field(max_length=10_000)] = ()

    @model_validator(mode="after")
    def _names_are_different(self) -> Self:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("table.columns: two have the same name")
        return self

    def middle_row(self) -> dict[str, float | str]:
        """An example row by name: the middle of each column's range, or its first category."""
        return {
            column.name: column.categories[0] if isinstance(column, CategoryColumn) else _middle(column)
            for column in self.columns
        }


def _middle(column: NumberColumn | DateColumn) -> float | str:
    middle = (column.low + column.high) / 2
    if isinstance(column, DateColumn):
        return column.written(middle)
    return column.offset + brief(middle - column.offset) if column.offset else brief(middle)


class Target(ManifestPart):
    """What a regression predicts; `low` to `high` is what the training rows span."""

    name: Label
    unit: Annotated[str, StringConstraints(max_length=40)] = ""
    low: float
    high: float


class Conformal(ManifestPart):
    """Split or cross conformal prediction (Vovk et al. 2005; Barber et al. 2021): n scores |y - value| / scale of
    rows that the net was not trained on. The interval value +- q * scale holds a new row with probability `coverage` at
    least, where q is the ceil((n + 1) * coverage)-th smallest score."""

    method: Literal["split", "cross"]  # cross: each row scored by the nets of the folds that did not have it
    scores: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1, max_length=5000)]  # rising

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if any(a > b for a, b in pairwise(self.scores)):
            raise ValueError("conformal.scores: they must rise")
        return self

    @property
    def most(self) -> float:
        """The greatest coverage that so many scores can promise."""
        return len(self.scores) / (len(self.scores) + 1)

    def quantile(self, coverage: float) -> float:
        """How many scales an interval of that coverage reaches to each side.

        Raises:
            ValueError: more coverage than the scores can promise.
        """
        n = len(self.scores)
        # Without the rounding, 0.9 * 10 would be a hair above 9, and the next score be taken.
        k = ceil(round((n + 1) * coverage, 9))
        if not 1 <= k <= n:
            raise ValueError(f"coverage {coverage}: {n} scores promise at most {self.most:.4f}")
        return self.scores[k - 1]
