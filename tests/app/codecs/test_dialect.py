"""Numbers as people write them, and what stands for none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.tables.dialect import Decimal, Numeral, is_missing, numeral, settled, truth


@pytest.mark.parametrize(
    ("text", "point", "comma", "unit"),
    [
        ("1,530", 1530, 1.53, ""),
        ("1.530", 1.53, 1530, ""),
        ("969", 969, 969, ""),
        ("0,123", None, 0.123, ""),
        ("0.123", 0.123, None, ""),
        ("1,2345", None, 1.2345, ""),
        ("1234,567", None, 1234.567, ""),
        ("1.234,5", None, 1234.5, ""),
        ("12,34,567.5", 1234567.5, None, ""),
        ("1 234 567", 1234567, 1234567, ""),
        ("1'234.50 CHF", 1234.5, None, "CHF"),
        ("-$1,234.5", -1234.5, None, "$"),
        ("($1,234)", -1234, -1.234, "$"),
        ("12 345 m\u00b2", 12345, 12345, "m2"),
        ("7,5 l/100 km", None, 7.5, "l/100 km"),
        ("CHF 1'200.\u2013", 1200, 1200, "CHF"),
        ("2,5 \u00b0C", None, 2.5, "\u00b0C"),
        ("1.5e3 kg", 1500, None, "kg"),
    ],
)
def test_a_numeral_has_a_value_by_point_and_one_by_comma(
    text: str, point: float | None, comma: float | None, unit: str
) -> None:
    assert numeral(text) == Numeral(point, comma, unit)


@pytest.mark.parametrize(
    "text",
    ["1.2.3", "2020-01-02", "12:30", "3/4", "18-24", "0 123", "+49 171 1234567", "A12", "12 (kg)", "1..5", "inf", "nan",
     "--5", "(-5)", "$5 EUR", "1,23,45", "12 34", "1'23", "1 234'567", "e5", "", ".", "9" * 101],
)  # fmt: skip
def test_what_is_no_number_is_none(text: str) -> None:
    assert numeral(text) is None


def test_all_cells_of_a_column_settle_what_one_leaves_open() -> None:
    def said(*texts: str) -> Decimal:
        return settled([one for text in texts if (one := numeral(text))])

    assert said("1,530", "969") is Decimal.OPEN
    assert said("1,530", "10.75") is Decimal.POINT
    assert said("1,530", "1,5") is Decimal.COMMA
    assert said("1", "2e3") is Decimal.EITHER
    assert said("1.5", "1,5") is Decimal.NEITHER


@given(st.floats(-1e9, 1e9).map(lambda number: round(number, 2)), st.sampled_from(["", " ", "'", ".", ",", "_"]))
def test_what_format_writes_is_read_back(number: float, group: str) -> None:
    decimal = "," if group == "." else "."
    text = f"{number:,.2f}".replace(".", "#").replace(",", group).replace("#", decimal)
    found = numeral(text)
    assert found is not None
    assert found.value(decimal) == number
    other = found.value("." if decimal == "," else ",")
    assert other is None or group in ("", ".", ",")


def test_what_is_missing_has_many_names_in_any_case() -> None:
    for text in ("", " ", "NA", "n/a", "NaN", "None", "NULL", "?", "-", "\u2014", "<na>", "#N/A", "#Div/0!", "."):
        assert is_missing(text)
    for text in ("0", "no", "nan5", "x" * 1000):
        assert not is_missing(text)


def test_yes_and_no_have_many_names() -> None:
    assert [truth(word) for word in ("True", "YES", "1", "ja", "on")] == [True] * 5
    assert [truth(word) for word in ("FALSE", "n", "0", "nein", "off")] == [False] * 5
    assert truth("maybe") is None
    assert truth("yes" * 100) is None
