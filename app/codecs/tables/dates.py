"""How people write dates and times: training and the server read them by this alone, as days since 1970-01-01.

"3/4/2024" is a day in March or in April, and the cell does not tell. So a date has both readings, `first_of` looks at
all cells of a column, and what stays open is for the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Final

from app.codecs.tables.dialect import LONGEST
from app.core.manifest.table import DAY_S, EPOCH

CENTURY_FROM: Final = 69
"""Years of two digits are those from 1969 to 2068, as POSIX has them."""

_MONTHS: Final = {
    name: month
    for month, names in enumerate(
        (
            "jan january januar janeiro janvier enero ene janv",
            "feb february februar fevereiro fev février févr febrero",
            "mar march märz mär mrz março mars marzo",
            "apr april abril abr avril avr",
            "may mai maio mayo",
            "jun june juni junho juin junio",
            "jul july juli julho juillet juil julio",
            "aug august agosto ago août",
            "sep sept september setembro set septembre septiembre",
            "oct october oktober okt outubro out octobre octubre",
            "nov november novembro novembre noviembre",
            "dec december dezember dez dezembro décembre déc diciembre dic",
        ),
        start=1,
    )
    for name in names.split()
}
_CLOCK: Final = (
    r"(?:(?:[T ]|, )\s*(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<part>[0-9]{1,9}))?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?\s*(?P<zone>Z|z|UTC|GMT|[+-][0-9]{2}:?(?:[0-9]{2})?)?)?"
)
_WEEKDAY: Final = r"(?:[^\W\d_]{2,10}\.?,? )?"
_ISO: Final = re.compile(
    rf"(?P<year>[0-9]{{4}})(?P<sign>[-/.])(?P<month>[0-9]{{1,2}})(?P=sign)(?P<day>[0-9]{{1,2}}){_CLOCK}"
)
_NUMBERS: Final = re.compile(
    rf"(?P<first>[0-9]{{1,2}})(?P<sign>[-/.])(?P<other>[0-9]{{1,2}})(?P=sign)(?P<year>[0-9]{{4}}|[0-9]{{2}}){_CLOCK}"
)
_DAY_NAMED: Final = re.compile(
    rf"{_WEEKDAY}(?P<day>[0-9]{{1,2}})(?:st|nd|rd|th|\.)?[- ](?:de )?(?P<name>[^\W\d_]{{3,10}})\.?,?[- ](?:de )?"
    rf"(?P<year>[0-9]{{4}}|[0-9]{{2}}){_CLOCK}"
)
_MONTH_NAMED: Final = re.compile(
    rf"{_WEEKDAY}(?P<name>[^\W\d_]{{3,10}})\.? (?P<day>[0-9]{{1,2}})(?:st|nd|rd|th)?,? (?P<year>[0-9]{{4}}){_CLOCK}"
)


class Order(Enum):
    """What the cells of a column say about what stands first in `3/4/2024`."""

    DAY = "day"
    MONTH = "month"
    EITHER = "either"  # every cell means the same both ways
    OPEN = "open"  # some cell means another day
    NEITHER = "neither"  # no order suits all


@dataclass(frozen=True, slots=True)
class Moment:
    """A date in days since 1970-01-01, UTC where it names a zone: where the day stands before the month, and where the
    month stands first; None where it cannot be read so. `clock`: whether it has a time of day."""

    day_first: float | None
    month_first: float | None
    clock: bool = False

    def days(self, order: str | None) -> float | None:
        """In the order "day" or "month"; where neither is told, the one reading that there is."""
        if order is None:
            readings = {self.day_first, self.month_first} - {None}
            return readings.pop() if len(readings) == 1 else None
        return self.month_first if order == Order.MONTH.value else self.day_first


def moment(text: str) -> Moment | None:
    """The date that a text is, None where it is none: 2024-03-05, 5.3.2024, 5 March 2024, each with a time or without.

    Points have the day first, as every country that writes them does.
    """
    if not 6 <= len(text) <= LONGEST:
        return None
    text = " ".join(text.split())
    if found := _ISO.fullmatch(text):
        return _both(_days(found, found["year"], found["month"], found["day"]), found)
    if found := _NUMBERS.fullmatch(text):
        if found["sign"] == "-" and len(found["year"]) == 2:
            return None  # 24-03-05 may begin with its year
        day = _days(found, found["year"], found["other"], found["first"])
        if found["sign"] == ".":
            return _both(day, found)
        month = _days(found, found["year"], found["first"], found["other"])
        return None if day is None and month is None else Moment(day, month, found["hour"] is not None)
    for form in (_DAY_NAMED, _MONTH_NAMED):
        if (found := form.fullmatch(text)) and (month_of := _MONTHS.get(found["name"].casefold())):
            return _both(_days(found, found["year"], str(month_of), found["day"]), found)
    return None


def first_of(moments: Iterable[Moment]) -> Order:
    """What all cells of a column say together."""
    day = month = True
    differ = False
    for one in moments:
        day &= one.day_first is not None
        month &= one.month_first is not None
        differ |= one.day_first != one.month_first
    if day and month:
        return Order.OPEN if differ else Order.EITHER
    return Order.DAY if day else Order.MONTH if month else Order.NEITHER


def _both(days: float | None, found: re.Match[str]) -> Moment | None:
    return None if days is None else Moment(days, days, found["hour"] is not None)


def _days(found: re.Match[str], year: str, month: str, day: str) -> float | None:
    y = int(year)
    if len(year) == 2:
        y += 1900 if y >= CENTURY_FROM else 2000
    hour = int(found["hour"] or 0)
    half = (found["half"] or "").replace(".", "").casefold()
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (half == "pm")
    try:
        when = datetime(
            y,
            int(month),
            int(day),
            hour,
            int(found["minute"] or 0),
            int(found["second"] or 0),
            tzinfo=_zone(found["zone"]),
        )
        seconds = (when - EPOCH).total_seconds()
    except (ValueError, OverflowError):  # no such day, or a time that no clock shows
        return None
    return (seconds + float(f"0.{found['part'] or 0}")) / DAY_S


def _zone(text: str | None) -> timezone:
    if not text or text[0] not in "+-":
        return UTC
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return timezone(-offset if text[0] == "-" else offset)
