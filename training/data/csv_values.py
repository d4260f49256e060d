"""What the cells of a column are: numbers, or a few words; and one fault reported where they are neither.

How people write numbers and what is missing is in app/codecs/tables/dialect.py, by which the server reads as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from app.codecs.tables.dates import Moment, Order, first_of, moment
from app.codecs.tables.dialect import Decimal, Numeral, is_missing, numeral, same_unit, settled
from training.data.base import DataError
from training.data.csv_cells import Cells

_PLAIN: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
MOST: Final = float(np.finfo(np.float32).max)
MOST_UNITS: Final = 3  # of more, texts are words that begin with a number: 1st, 12a
MOST_GAPS: Final = 2.0  # places for each number of rising ones
TIMES: Final = ((1800, 2200), (9.0e8, 4.2e9), (9.0e11, 4.2e12))  # years; seconds and milliseconds, 1998 to 2103
MOSTLY: Final = 0.5  # of a column's cells, from which on others than dates are slips
GLANCE: Final = 50  # cells that tell whether a column may be one of dates
SLIPS: Final = 0.1  # a smaller share of cells that are no numbers are slips of the pen, not categories


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How cells are read that leave open what they mean: what stands before decimals, "." or ",", and what stands first
    in 3/4/2024, "day" or "month"; None for an error."""

    decimal: str | None = None
    first: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dates:
    """What a column of dates has in common: what stands first, and whether they have a time of day."""

    order: Literal["day", "month"] | None  # None where every cell means the same both ways
    clock: bool


@dataclass(frozen=True, kw_only=True)
class Values:
    """The cells of one column.

    Attributes:
        texts: (N,) the cells, None where one is missing.
        numbers: (N,) float64 where all that are there are numbers, or dates in days since 1970-01-01, NaN where one is
            missing; else None.
        dates: of a column of dates.
        unit: that cells have with their numbers, empty where none has.
        decimal: behind which numbers have decimals. grouped: whether some have thousands apart.
    """

    texts: list[str | None]
    numbers: NDArray[np.float64] | None = None
    unit: str = ""
    decimal: Literal[".", ","] = "."
    grouped: bool = False
    dates: Dates | None = None

    @property
    def present(self) -> list[str]:
        return [text for text in self.texts if text is not None]

    def of(self, rows: Sequence[int]) -> Values:
        """Some of the cells."""
        numbers = None if self.numbers is None else self.numbers[list(rows)]
        return replace(self, texts=[self.texts[i] for i in rows], numbers=numbers)


AS_WRITTEN: Final = Reading()


def values(cells: Cells, column: int, reading: Reading = AS_WRITTEN, *, dates: bool = True) -> Values:
    """Read one column.

    Args:
        reading: where the column's own cells leave something open: as `decimal_of` tells of the file, or as a person
            said. dates: whether it may be one of dates, or these are words.

    Raises: DataError at the first cell that is no number, or no date, in a column where nine of ten are; at two cells
        that contradict each other, or that leave open what they mean; at one beyond float32.
    """
    raw = [row[column] for row in cells.rows]
    texts = [None if is_missing(text) else text for text in raw]
    count = sum(text is not None for text in texts)
    if dates and (days := _dates(cells, column, texts, reading.first)):
        return days
    found = {i: one for i, text in enumerate(texts) if text is not None and (one := numeral(text)) is not None}
    if not found or len(found) <= (1 - SLIPS) * count:
        return Values(texts=texts)
    unit = _unit(cells, column, texts, found)
    if unit is None:
        return Values(texts=texts)
    if len(found) < count:
        slip = next(i for i, text in enumerate(texts) if text is not None and i not in found)
        raise DataError(
            f"{cells.at(slip, column)}: {_shown(raw[slip])} is not a number, as {len(found)} of {count} cells of the "
            "column are; mend it, or leave the cell empty"
        )
    sign = _sign(cells, column, raw, found, reading.decimal)
    numbers = np.full(len(texts), np.nan)
    for i, one in found.items():
        number = one.value(sign)
        assert number is not None  # `_sign` suits every cell
        if abs(number) > MOST:
            raise DataError(f"{cells.at(i, column)}: {_shown(raw[i])} is beyond what float32 holds, {MOST:.3g}")
        numbers[i] = number
    grouped = any(("," if sign == "." else ".") in raw[i] for i in found)
    return Values(texts=texts, numbers=numbers, unit=unit, decimal=sign, grouped=grouped)


def _dates(cells: Cells, column: int, texts: Sequence[str | None], first: str | None) -> Values | None:
    """A column of dates; None where it is something else."""
    there = {i: text for i, text in enumerate(texts) if text is not None}
    # Most columns are seen to be none by their first cells.
    if not any(moment(text) for text in islice(there.values(), GLANCE)):
        return None
    found = {i: one for i, text in there.items() if (one := moment(text)) is not None}
    if len(found) < MOSTLY * len(there):
        return None
    if len(found) < len(there):
        i = next(i for i in there if i not in found)
        raise DataError(
            f"{cells.at(i, column)}: {_shown(there[i])} is not a date, as {len(found)} of {len(there)} cells of the "
            "column are; mend it, or leave the cell empty"
        )
    order = _order(cells, column, there, found, first)
    days = np.full(len(texts), np.nan)
    for i, one in found.items():
        number = one.days(order)
        assert number is not None  # `_order` suits every cell
        days[i] = number
    return Values(texts=list(texts), numbers=days, dates=Dates(order=order, clock=any(m.clock for m in found.values())))


def _order(
    cells: Cells, column: int, texts: Mapping[int, str], found: Mapping[int, Moment], first: str | None
) -> Literal["day", "month"] | None:
    """What stands first in the dates of a column; None where every cell means the same both ways."""
    said = first_of(found.values())
    if said is Order.NEITHER:
        i = next(i for i, one in found.items() if one.month_first is None)
        j = next(j for j, one in found.items() if one.day_first is None)
        raise DataError(
            f"{cells.at(i, column)}: {_shown(texts[i])} has the day first, {_shown(texts[j])} in line {cells.lines[j]} "
            "the month; write all of them in one way, best as 2024-03-05"
        )
    if said is Order.OPEN and first is None:
        i = next(i for i, one in found.items() if one.day_first != one.month_first)
        j = next((j for j in found if j != i), i)
        raise DataError(
            f"{cells.at(i, column)}: {_shown(texts[i])} may have the day or the month first, and no other cell tells, "
            f"{_shown(texts[j])} in line {cells.lines[j]} neither; say which: --dates day-first or --dates month-first"
        )
    if said is Order.EITHER:
        return None
    return "month" if said is Order.MONTH or (said is Order.OPEN and first == "month") else "day"


def are_dates(present: Sequence[str]) -> bool:
    """Whether most of these cells are dates."""
    return sum(moment(text) is not None for text in present) >= MOSTLY * len(present) > 0


def decimal_of(cells: Cells) -> str | None:
    """What stands before decimals in a file, by columns that leave no choice; None where none tells or they differ."""
    signs = set()
    for column in range(len(cells.headers)):
        present = [row[column] for row in cells.rows if not is_missing(row[column])]
        found = [one for text in present if (one := numeral(text)) is not None]
        if len(found) > (1 - SLIPS) * len(present):
            signs.add(settled(found))
    told = signs & {Decimal.POINT, Decimal.COMMA}
    return told.pop().value if len(told) == 1 else None


def _sign(
    cells: Cells, column: int, raw: Sequence[str], found: Mapping[int, Numeral], decimal: str | None
) -> Literal[".", ","]:
    """Behind what the numbers of a column have decimals."""
    said = settled(found.values())
    if said is Decimal.NEITHER:
        i, j = _first(found, lambda one: one.comma is None), _first(found, lambda one: one.point is None)
        raise DataError(
            f"{cells.at(i, column)}: {_shown(raw[i])} has decimals behind a point, {_shown(raw[j])} in line "
            f"{cells.lines[j]} behind a comma; write all of them in one way"
        )
    if said is Decimal.POINT:
        return "."
    if said is Decimal.COMMA:
        return ","
    if said is Decimal.OPEN and decimal is None and not _is_plain(cells, raw, found):
        i = _first(found, lambda one: one.point != one.comma)
        j = _first(found, lambda one: one.point == one.comma, beside=i)
        one = found[i]
        raise DataError(
            f"{cells.at(i, column)}: {_shown(raw[i])} may be {one.point:.12g} or {one.comma:.12g}, and no other cell "
            f"tells, {_shown(raw[j])} in line {cells.lines[j]} neither; say what stands before decimals: --decimal . "
            "or --decimal ,"
        )
    return "," if decimal == "," else "."


def _is_plain(cells: Cells, raw: Sequence[str], found: Mapping[int, Numeral]) -> bool:
    """Whether numbers that leave open what they mean are those of a program: parted by commas, with a point and equally
    many decimals each. A whole number among them would say that thousands are apart."""
    return cells.delimiter == "," and all("." in raw[i] and "," not in raw[i] for i in found)


def _unit(cells: Cells, column: int, texts: Sequence[str | None], found: Mapping[int, Numeral]) -> str | None:
    """The unit of a column's numbers; None where texts are words that begin with a number.

    Raises: DataError where the units of a few differ, or some cells are percentages and others are not.
    """
    header = cells.headers[column].unit
    units = Counter(one.unit for one in found.values())
    named = [unit for unit in units if unit]
    if not named:
        return header
    first = named[0]
    other = next((unit for unit in named[1:] if not same_unit(unit, first)), None)
    if other is None and "%" in first and any(one.unit == "" and (one.point or one.comma) for one in found.values()):
        other = ""
    if other is None and header and not same_unit(header, first):
        i = _first(found, lambda one: one.unit == first)
        raise DataError(
            f"{cells.at(i, column)}: {_shown(texts[i] or '')} is in {first}, the line of names says {header}"
        )
    if other is None:
        return header or first
    if other and (len(named) > MOST_UNITS or not repeats_little([text for text in texts if text is not None])):
        return None
    i, j = _first(found, lambda one: one.unit == first), _first(found, lambda one: one.unit == other)
    raise DataError(
        f"{cells.at(i, column)}: {_shown(texts[i] or '')} and {_shown(texts[j] or '')} in line {cells.lines[j]} are in "
        "different units; write all of them in one"
    )


def _first(found: Mapping[int, Numeral], wanted: Callable[[Numeral], bool], *, beside: int = -1) -> int:
    """The first row of that kind; else any other than `beside`, or that."""
    rows = [i for i in found if i != beside]
    return next((i for i in rows if wanted(found[i])), rows[0] if rows else beside)


def places(cells: Cells, column: int, texts: Sequence[str | None], words: Sequence[str]) -> NDArray[np.float64]:
    """Each cell's place among `words`, NaN where it is missing. Raises: DataError at a cell that is none of them."""
    place = {word: float(i) for i, word in enumerate(words)}
    found = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        if text is None:
            continue
        if text not in place:
            some = ", ".join(list(place)[:10]) + (", ..." if len(place) > 10 else "")
            raise DataError(f"{cells.at(i, column)}: {_shown(text)} is none of {some}")
        found[i] = place[text]
    return found


def words(present: Sequence[str]) -> tuple[str, ...]:
    """The different texts in order: numbers by their size, other words by the alphabet."""
    different = set(present)
    if all(_PLAIN.fullmatch(text) for text in different):
        return tuple(sorted(different, key=lambda text: (float(text), text)))
    return tuple(sorted(different, key=lambda text: (text.casefold(), text)))


def counts_rows(numbers: NDArray[np.float64]) -> bool:
    """Whether a column only numbers the rows: different whole numbers with hardly a gap between them, in any order, or
    rising ones with some, as where rows were taken out. Years and times are none."""
    there = numbers[np.isfinite(numbers)]
    if len(there) < 3 or len(there) < (1 - SLIPS) * len(numbers) or (there != np.round(there)).any():
        return False
    if any(low <= there.min() and there.max() <= high for low, high in TIMES):
        return False
    steps = np.diff(np.sort(there))
    if (steps == 0).any():
        return False
    places = np.ptp(there) / np.gcd.reduce(steps.astype(np.int64)) + 1
    return bool(places <= (MOST_GAPS if (np.diff(there) > 0).all() else 1 + SLIPS) * len(there))


def repeats_little(present: Sequence[str]) -> bool:
    """Whether texts are names or prose rather than categories: more than half of them occur once, or over 1,000."""
    counts = Counter(present)
    once = sum(count == 1 for count in counts.values())
    return len(counts) > 1000 or (len(counts) > 2 and once > len(present) / 2)


def _shown(text: str) -> str:
    return f"'{text if len(text) <= 60 else text[:57] + '...'}'"
