"""Dates as people write them, against datetime."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.tables.dates import Order, first_of, moment
from app.codecs.tables.rows import TableReader
from app.core.errors import Unprocessable
from app.core.manifest.table import DateColumn, Table

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def days(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: float = 0) -> float:
    return (datetime(year, month, day, hour, minute, tzinfo=UTC) + timedelta(seconds=second) - EPOCH) / DAY


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_datetime_writes_is_read(when: datetime) -> None:
    truth = (when - EPOCH) / DAY
    found = moment(when.isoformat())
    assert found is not None
    assert found.day_first == found.month_first == pytest.approx(truth, abs=1e-9)
    assert found.clock
    whole = moment(when.date().isoformat())
    assert whole is not None
    assert whole.day_first == np.floor(truth)
    assert not whole.clock


@pytest.mark.parametrize(
    ("text", "day_first", "month_first"),
    [
        ("2024-03-05", days(2024, 3, 5), days(2024, 3, 5)),
        ("2024/3/5", days(2024, 3, 5), days(2024, 3, 5)),
        ("2024-03-05T14:30Z", days(2024, 3, 5, 14, 30), days(2024, 3, 5, 14, 30)),
        ("2024-03-05 14:30:05.250+01:00", days(2024, 3, 5, 13, 30, 5.25), days(2024, 3, 5, 13, 30, 5.25)),
        ("2024-03-05 00:30 -0500", days(2024, 3, 5, 5, 30), days(2024, 3, 5, 5, 30)),
        ("3/4/2024", days(2024, 4, 3), days(2024, 3, 4)),
        ("3/4/24", days(2024, 4, 3), days(2024, 3, 4)),
        ("13/4/2024", days(2024, 4, 13), None),
        ("4/13/2024", None, days(2024, 4, 13)),
        ("3.4.2024", days(2024, 4, 3), days(2024, 4, 3)),  # points have the day first everywhere
        ("03.04.98 08:15", days(1998, 4, 3, 8, 15), days(1998, 4, 3, 8, 15)),
        ("5 Mar 2024", days(2024, 3, 5), days(2024, 3, 5)),
        ("05-Mar-24", days(2024, 3, 5), days(2024, 3, 5)),
        ("Mar 5, 2024", days(2024, 3, 5), days(2024, 3, 5)),
        ("March 5th 2024, 3:04 PM", days(2024, 3, 5, 15, 4), days(2024, 3, 5, 15, 4)),
        ("12:30 AM", None, None),
        ("3/4/2024 12:30 AM", days(2024, 4, 3, 0, 30), days(2024, 3, 4, 0, 30)),
        ("Tue, 05 Mar 2024 10:00:00 GMT", days(2024, 3, 5, 10), days(2024, 3, 5, 10)),
        ("5. M\u00e4rz 2024", days(2024, 3, 5), days(2024, 3, 5)),
        ("5 de mar\u00e7o de 2024", days(2024, 3, 5), days(2024, 3, 5)),
        ("29.02.2023", None, None),
        ("2024-13-01", None, None),
        ("2024-03-05 25:00", None, None),
        ("24-03-05", None, None),  # its year may be first or last
        ("1,234.56", None, None),
        ("5 kg", None, None),
        ("2024", None, None),
        ("12 Ham 2024", None, None),
        ("9" * 1_000_000, None, None),
    ],
)
def test_a_date_by_hand(text: str, day_first: float | None, month_first: float | None) -> None:
    found = moment(text)
    if day_first is None and month_first is None:
        assert found is None
        return
    assert found is not None
    for got, expected in ((found.day_first, day_first), (found.month_first, month_first)):
        assert got == (None if expected is None else pytest.approx(expected, abs=1e-9))


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        (("3/4/2024", "13/4/2024"), Order.DAY),
        (("3/4/2024", "4/13/2024"), Order.MONTH),
        (("3/4/2024", "5/6/2024"), Order.OPEN),
        (("3/3/2024", "2024-05-06"), Order.EITHER),
        (("13/4/2024", "4/13/2024"), Order.NEITHER),
    ],
)
def test_all_cells_tell_what_is_first(texts: tuple[str, ...], order: Order) -> None:
    assert first_of(found for text in texts if (found := moment(text))) is order


COLUMN = DateColumn(kind="date", name="when", order="day", offset=19_000, low=19_000, high=20_000, missing=True)
READER = TableReader(Table(columns=(COLUMN,)))


def test_a_request_reads_dates_as_training_did() -> None:
    instances = [{"when": "3/4/2024"}, {"when": "2024-04-03"}, ["3 Apr 2024"], {"when": None}, {}]
    rows = READER.records(instances, subject="a")
    expected = np.array([[days(2024, 4, 3) - 19_000]] * 3 + [[np.nan]] * 2, np.float32)
    assert np.array_equal(rows.values, expected, equal_nan=True)
    assert rows.notes == {
        3: {"imputed": ["when"]},
        4: {"imputed": ["when"]},
    }


def test_what_training_did_not_tell_is_asked_about() -> None:
    reader = TableReader(Table(columns=(COLUMN.model_copy(update={"order": None}),)))
    rows = reader.records([["2024-04-03"], ["3.4.2024"], ["13/4/2024"], ["4/13/2024"], ["4/4/2024"]], subject="a")
    expected = [days(2024, 4, day) - 19_000 for day in (3, 3, 13, 13, 4)]
    assert rows.values[:, 0].tolist() == expected
    with pytest.raises(Unprocessable, match=r"'3/4/2024', expected a date.*; it may be 2024-04-03 or 2024-03-04"):
        reader.records([["3/4/2024"]], subject="a")
    found = reader.csv(b"when\n3/4/2024\n4/13/2024\n", "", max_rows=9, subject="body")  # the second line tells
    assert found.values[0, 0] == days(2024, 3, 4) - 19_000


def test_points_have_the_day_first_beside_slashes_that_do_not() -> None:
    reader = TableReader(Table(columns=(COLUMN.model_copy(update={"order": "month"}),)))
    rows = reader.records([["3.4.2024"], ["3/4/2024"]], subject="a")
    assert rows.values[:, 0].tolist() == [days(2024, 4, 3) - 19_000, days(2024, 3, 4) - 19_000]


def test_a_file_may_have_the_month_first() -> None:
    rows = READER.csv(b"when\n3/4/2024\n4/13/2024\n", "", max_rows=9, subject="body")
    assert rows.values[:, 0].tolist() == [days(2024, 3, 4) - 19_000, days(2024, 4, 13) - 19_000]


def test_a_date_beyond_training_is_told_as_a_date() -> None:
    rows = READER.records([{"when": "2031-01-01"}], subject="a")
    outside = {"feature": "when", "value": "2031-01-01", "low": "2022-01-08", "high": "2024-10-04", "unit": ""}
    assert rows.notes == {0: {"outside": [outside]}}


@pytest.mark.parametrize(
    "value", ["yesterday", "4/13/2024", 20240305, 5.5, True, {"value": "2024-03-05"}, "2024-02-30"]
)
def test_what_is_no_date_is_refused_by_name(value: object) -> None:
    with pytest.raises(Unprocessable, match=r"a\[0\].when is .*, expected a date, such as '2023-05-23'"):
        READER.records([{"when": value}], subject="a")
