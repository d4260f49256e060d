"""One cell of a table, as JSON or CSV has it, as the number that the graph takes. NaN is what is missing."""

from __future__ import annotations

import re
import unicodedata
from math import isnan, nan
from typing import Final

import numpy as np

from app.core.errors import ClientError, invalid, shown
from app.core.manifest.table import CategoryColumn, NumberColumn, TableColumn
from app.core.text import described, did_you_mean, listed

MISSING: Final = frozenset({"", "na", "nan"})
"""Texts that stand for no value, capitals or not."""
MOST: Final = float(np.finfo(np.float32).max)
_LONGEST: Final = 100  # that is looked into: a megabyte of text takes Unicode's rules seconds
_DIGITS: Final = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_PLAIN: Final = re.compile(_DIGITS)
_WITH_UNIT: Final = re.compile(rf"\s*({_DIGITS})\s*(.*?)\s*", re.DOTALL)
_PART_OF_NUMBER: Final = re.compile(r"[0-9_.,:'+-]")  # which no unit begins with
_COMMA: Final = re.compile(r"\s*[+-]?[0-9]+,[0-9]+\D*")


class WrongCell(Exception):
    """What a cell holds and what belongs there; `at` makes the error for a named cell."""

    def __init__(self, expected: str, got: str, *, verb: str = "is", hint: str = "") -> None:
        super().__init__(expected, got)
        self._expected, self._got, self._verb, self._hint = expected, got, verb, hint

    def at(self, spot: str, line: int | None = None) -> ClientError:
        """The error for a client; `line` of a file, for whoever looks for it there."""
        where = spot if line is None else f"{spot} (line {line})"
        return invalid(
            spot, expected=self._expected, got=self._got, where=where, verb=self._verb, rule="expected", why=self._hint
        )


class NumberCell:
    """A number; or as text or as {"value": 5, "unit": "h"} with its unit, which must be the column's."""

    __slots__ = ("_unit", "expected")

    def __init__(self, column: NumberColumn) -> None:
        self._unit = column.unit
        self.expected = f"a number in {column.unit}" if column.unit else "a number"

    def __call__(self, value: object) -> float:
        if type(value) is float or type(value) is int:
            return self._finite(value, value)
        if isinstance(value, str):
            return self._text(value, with_unit=True)
        if value is None:
            return nan
        if isinstance(value, dict):
            return self._measured(value)
        raise WrongCell(self.expected, described(value))

    def _finite(self, number: float, came: object) -> float:
        if -MOST <= number <= MOST or number != number:
            return number
        got = described(came)
        if type(number) is float and abs(number) == float("inf") and not isinstance(came, str):
            raise WrongCell(f"{self.expected}, finite", got)
        raise WrongCell(f"{self.expected}, at most {MOST:.4g} (float32)", got)

    def _text(self, text: str, *, with_unit: bool) -> float:
        if len(text) <= _LONGEST and _PLAIN.fullmatch(text):
            return self._finite(float(text), text)
        if _is_missing(text):
            return nan
        match = _WITH_UNIT.fullmatch(text) if len(text) <= _LONGEST else None
        number, unit = match.groups() if match else ("", "")
        if not number or _PART_OF_NUMBER.match(unit) or (unit and not with_unit):
            comma = len(text) <= _LONGEST and _COMMA.fullmatch(text)
            hint = " (with a point: " + text.strip().replace(",", ".") + ")" if comma else ""
            raise WrongCell(self.expected, described(text), hint=hint)
        if unit:
            self.check_unit(unit)
        return self._finite(float(number), text)

    def _measured(self, value: dict[str, object]) -> float:
        if "value" not in value or not value.keys() <= {"value", "unit"}:
            got = "an object with " + listed([shown(name) for name in value]) if value else "an empty object"
            raise WrongCell(f'{self.expected}, or {{"value": ..., "unit": ...}}', got)
        unit = value.get("unit")
        if isinstance(unit, str):
            self.check_unit(unit)
        elif unit is not None:
            raise WrongCell(self._unit or "no unit", described(unit), verb="has as unit")
        number = value["value"]
        if isinstance(number, str):
            return self._text(number, with_unit=False)
        if isinstance(number, dict):
            raise WrongCell(self.expected, described(number), verb="has as value")
        return self(number)

    def check_unit(self, unit: str) -> None:
        """Raises WrongCell where it is not the column's."""
        if len(unit) <= _LONGEST and _as_written(unit) == _as_written(self._unit):
            return
        got = unit if len(unit) <= 40 and unit.isprintable() else shown(unit)
        raise WrongCell(self._unit or "a number without unit", got or "no unit", verb="is in" if unit else "has")


class CategoryCell:
    """One of a column's words, as its index among them."""

    __slots__ = ("_index", "expected")

    def __init__(self, column: CategoryColumn) -> None:
        self._index = {category: float(i) for i, category in enumerate(column.categories)}
        self.expected = "one of " + listed([f"'{category}'" for category in column.categories])

    def __call__(self, value: object) -> float:
        # A whole number is taken for its digits: whoever has classes 1, 2, 3 writes them so in JSON.
        word = str(value) if type(value) is int and abs(value) < 10**18 else value
        if isinstance(word, str):
            index = self._index.get(word)
            if index is not None:
                return index
            if _is_missing(word):
                return nan
            raise WrongCell(self.expected, described(value), hint=did_you_mean(word, self._index))
        if value is None or (type(value) is float and isnan(value)):
            return nan
        raise WrongCell(self.expected, described(value))


Cell = NumberCell | CategoryCell
"""The reader of one column's cells; raises WrongCell."""


def cell_of(column: TableColumn) -> Cell:
    """The reader of a column."""
    return NumberCell(column) if isinstance(column, NumberColumn) else CategoryCell(column)


def _is_missing(text: str) -> bool:
    return len(text) <= _LONGEST and text.strip().casefold() in MISSING


def _as_written(unit: str) -> str:
    """A unit whatever its signs are made of: the two Greek letters mu, a raised 2."""
    return " ".join(unicodedata.normalize("NFKC", unit).split())
