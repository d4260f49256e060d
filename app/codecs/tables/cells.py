"""One cell of a table, as JSON or CSV has it, as the number that the graph takes. NaN is what is missing."""

from __future__ import annotations

import re
from collections import Counter
from math import isnan, nan
from typing import Final

import numpy as np

from app.codecs.tables.dates import Moment, moment
from app.codecs.tables.dialect import LONGEST, Numeral, is_missing, numeral, same_unit, truth
from app.core.errors import ClientError, invalid, shown
from app.core.manifest.table import CategoryColumn, DateColumn, NumberColumn, TableColumn
from app.core.text import described, did_you_mean, listed

MOST: Final = float(np.finfo(np.float32).max)
_PLAIN: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LONGEST_WORD: Final = 400  # a category has 200 characters at most


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
    """A number; or as text or as {"value": 5, "unit": "h"} with its unit, which must be the column's.

    Args:
        decimal: what decimals stand behind in a file, where its other cells tell; else it is as the column was written.
    """

    __slots__ = ("_column", "_decimal", "_flag", "_told", "_unit", "expected")

    def __init__(self, column: NumberColumn, decimal: str | None = None) -> None:
        self._column, self._unit = column, column.unit
        self.expected = f"a number in {column.unit}" if column.unit else "a number"
        self._decimal = decimal or column.decimal
        self._told = decimal is not None or column.grouped or column.decimal == ","
        self._flag = not column.unit and column.low >= 0 and column.high <= 1

    def with_decimal(self, decimal: str) -> NumberCell:
        """The reader of the same column in a file whose decimals stand behind that sign."""
        return NumberCell(self._column, decimal)

    def __call__(self, value: object) -> float:
        if type(value) is float or type(value) is int:
            return self._finite(value, value)
        if isinstance(value, str):
            return self._text(value, with_unit=True)
        if value is None:
            return nan
        if isinstance(value, dict):
            return self._measured(value)
        if isinstance(value, bool) and self._flag:
            return float(value)
        raise WrongCell(self.expected, described(value))

    def _finite(self, number: float, came: object) -> float:
        if -MOST <= number <= MOST or number != number:
            return number
        got = described(came)
        if type(number) is float and abs(number) == float("inf") and not isinstance(came, str):
            raise WrongCell(f"{self.expected}, finite", got)
        raise WrongCell(f"{self.expected}, at most {MOST:.4g} (float32)", got)

    def _text(self, text: str, *, with_unit: bool) -> float:
        if self._decimal == "." and len(text) <= LONGEST and _PLAIN.fullmatch(text):
            return self._finite(float(text), text)
        if is_missing(text):
            return nan
        found = numeral(text)
        if found is None or (found.unit and not with_unit):
            answer = truth(text) if self._flag else None
            if answer is not None:
                return float(answer)
            raise WrongCell(self.expected, described(text))
        number = self._settled(found, text)
        if found.unit:
            self.check_unit(found.unit)
        return self._finite(number, text)

    def _settled(self, found: Numeral, text: str) -> float:
        point, comma = found.point, found.comma
        if point is None or comma is None:
            number = point if comma is None else comma
            assert number is not None  # of the two readings a numeral has one at least
            return number
        # By itself a comma before three digits says nothing; a point is one as long as the file has no commas.
        if point != comma and not self._told and "," in text:
            hint = f"; it may be {point:g} or {comma:g}"
            raise WrongCell(f"{self.expected}, with a point before decimals", described(text), hint=hint)
        return comma if self._decimal == "," else point

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
        if len(unit) <= LONGEST and same_unit(unit, self._unit):
            return
        got = unit if len(unit) <= 40 and unit.isprintable() else shown(unit)
        raise WrongCell(self._unit or "a number without unit", got or "no unit", verb="is in" if unit else "has")


class DateCell:
    """A date, as text, in days since 1970-01-01.

    Args:
        order: what stands first in 3/4/2024 in a file, where its other cells tell; else it is as in training.
    """

    __slots__ = ("_column", "_order", "expected")

    def __init__(self, column: DateColumn, order: str | None = None) -> None:
        self._column, self._order = column, order or column.order
        example = column.written(round((column.low + column.high) / 2))
        self.expected = f"a date{' and time' if column.clock else ''}, such as '{example}'"

    def with_order(self, order: str) -> DateCell:
        """The reader of the same column in a file that has the day, or the month, first."""
        return DateCell(self._column, order)

    def __call__(self, value: object) -> float:
        if value is None or (type(value) is float and isnan(value)):
            return nan
        if not isinstance(value, str):
            raise WrongCell(self.expected, described(value))
        if is_missing(value):
            return nan
        found = moment(value)
        days = None if found is None else found.days(self._order)
        if days is None:
            raise WrongCell(self.expected, described(value), hint=self._hint(found))
        return days

    def _hint(self, found: Moment | None) -> str:
        if found is None:
            return ""
        if self._order is not None:
            return f"; dates have the {self._order} first here, as in training"
        assert found.day_first is not None  # what leaves it open has both
        assert found.month_first is not None
        day, month = self._column.written(found.day_first), self._column.written(found.month_first)
        return f"; it may be {day} or {month}"


class CategoryCell:
    """One of a column's words, as its index among them.

    Words are told apart by their capitals only where the column does so; where it says yes and no in one way, they may
    be said in any other.
    """

    __slots__ = ("_folded", "_index", "_truths", "expected")

    def __init__(self, column: CategoryColumn) -> None:
        words = column.categories
        self._index = {word: float(i) for i, word in enumerate(words)}
        folded = Counter(word.casefold() for word in words)
        self._folded = {word.casefold(): float(i) for i, word in enumerate(words) if folded[word.casefold()] == 1}
        truths = [truth(word) for word in words]
        known = len(set(truths)) == len(truths) and None not in truths
        self._truths = {said: float(i) for i, said in enumerate(truths)} if known else {}
        self.expected = "one of " + listed([f"'{category}'" for category in words])

    def __call__(self, value: object) -> float:
        # A whole number is taken for its digits: whoever has classes 1, 2, 3 writes them so in JSON.
        word = str(value) if type(value) is int and abs(value) < 10**18 else value
        if isinstance(word, str):
            index = self._index.get(word)
            return self._word(word, value) if index is None else index
        if value is None or (type(value) is float and isnan(value)):
            return nan
        index = self._truths.get(value) if isinstance(value, bool) else None
        if index is None:
            raise WrongCell(self.expected, described(value))
        return index

    def _word(self, word: str, came: object) -> float:
        bare = word.strip() if len(word) <= _LONGEST_WORD else word
        index = self._index.get(bare)
        if index is None and is_missing(bare):
            return nan
        if index is None and len(bare) <= _LONGEST_WORD:
            index = self._folded.get(bare.casefold())
        if index is None and self._truths:
            index = self._truths.get(truth(bare))
        if index is None:
            raise WrongCell(self.expected, described(came), hint=did_you_mean(word, self._index))
        return index


Cell = NumberCell | DateCell | CategoryCell
"""The reader of one column's cells; raises WrongCell."""


def cell_of(column: TableColumn) -> Cell:
    """The reader of a column."""
    if isinstance(column, NumberColumn):
        return NumberCell(column)
    return DateCell(column) if isinstance(column, DateColumn) else CategoryCell(column)
