"""Rows of tables: every form gives the same numbers, and whatever is wrong is named by row and column."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codecs.tables.delimited import MAX_CELLS
from app.codecs.tables.rows import Rows, TableReader
from app.core.errors import ClientError, TooLarge, Unprocessable, UnsupportedMedia
from app.core.manifest.table import CategoryColumn, NumberColumn, Table

TABLE = Table(
    columns=(
        NumberColumn(kind="number", name="lectures", low=0, high=12),
        NumberColumn(kind="number", name="hours", unit="h", missing=True, low=0, high=20),
        NumberColumn(kind="number", name="petal length (cm)", missing=True, low=0.1, high=7.3),
        CategoryColumn(kind="category", name="course", missing=True, categories=("morning", "evening", "3", "Na")),
    )
)
READER = TableReader(TABLE)
NUMBERS = TableReader(Table(columns=TABLE.columns[:3]))
NAMES = [column.name for column in TABLE.columns]
RIGHT = {"lectures": 4, "hours": 5, "petal length (cm)": 1.5, "course": "morning"}
WANT = [4, 5, 1.5, 0]


def read(row: Any, reader: TableReader = READER) -> Rows:
    return reader.records([row], subject="body.instances")


def read_csv(text: str | bytes, parameters: str = "", max_rows: int = 100) -> Rows:
    data = text if isinstance(text, bytes) else text.encode()
    return READER.csv(data, parameters, max_rows=max_rows, subject="body")


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    "row",
    [
        RIGHT,
        dict(reversed(RIGHT.items())),
        list(RIGHT.values()),
        RIGHT | {"lectures": "4", "hours": " 5.0 ", "petal length (cm)": "+.15e1"},
        RIGHT | {"hours": "5 h", "petal length (cm)": {"value": 1.5}},
        RIGHT | {"hours": "5h"},
        RIGHT | {"hours": {"value": 5, "unit": "h"}},
        RIGHT | {"hours": {"value": "5", "unit": " h "}},
    ],
)
def test_a_row_is_read_in_every_form(row: Any) -> None:
    found = read(row)
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, np.array([WANT], np.float32))
    assert found.notes == {}


@pytest.mark.parametrize(
    "text",
    [
        "lectures,hours,petal length (cm),course\n4,5,1.5,morning\n",
        "course,petal length (cm),hours,lectures\r\nmorning,1.5,5,4",
        "\ufeffcourse;petal length (cm);hours;lectures\r\nmorning;1.5;5;4\r\n\r\n",
        "lectures\thours\tpetal length (cm)\tcourse\n4\t5\t1.5\tmorning\n",
        '"lectures","hours","petal length (cm)","course"\n"4","5","1.5","morning"\n',
        '"lectures";"hours";"petal length (cm)";"course"\n4;5;1.5;morning\n',
        "\nlectures, hours [h], petal length (cm), course\n4, 5, 1.5, morning\n",
        "lectures,hours (h),petal length (cm) [],course\n4,5 h,1.5,morning\n",
        "lectures,hours,petal length (cm),course\r4,5,1.5,morning\r",
    ],
)
def test_a_csv_is_read_whatever_its_quotes_ends_and_delimiter(text: str) -> None:
    found = read_csv(text)
    np.testing.assert_array_equal(found.values, np.array([WANT], np.float32))
    assert found.notes == {}


def test_a_unit_may_be_written_with_either_mu_and_any_raised_two() -> None:
    table = Table(columns=(NumberColumn(kind="number", name="area", unit="\u00b5m\u00b2", low=0, high=9),))
    assert TableReader(table).records([{"area": "3 \u03bcm2"}], subject="a").values == 3


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nlectures;hours;petal length (cm);course\n4;5;1,5;morning\n",
        '"sep=,"\r\nlectures,hours,petal length (cm),course\r\n4,5,1.5,morning\r\n',
        "lectures|hours|petal length (cm)|course\n4|5|1.5|morning\n",
        "lectures;hours;petal length (cm);course;\n4;5;1,5;morning;\n;;;;\n",
        "lectures,hours,petal length (cm),course\n4,5,1.5,morning,,\n , ,,\n",
        "lectures,hours,petal length (cm),course\n 4 ,5 ,1.5 , morning \n",
        'lectures,hours,petal length (cm),course\n"4,0","5,0 h","1,5",MORNING\n',
        "lectures;hours;petal length (cm);course\n4;5;1,500;morning\n".replace("4;", "4,0;"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_csv_is_read_as_spreadsheets_write_it(text: str, encoding: str) -> None:
    found = READER.csv(text.encode(encoding), "", max_rows=100, subject="body")
    np.testing.assert_array_equal(found.values, np.array([WANT], np.float32))
    assert found.notes == {}


def test_other_cells_of_a_file_tell_what_a_comma_is() -> None:
    table = Table(
        columns=(
            NumberColumn(kind="number", name="lot", low=0, high=4000),
            NumberColumn(kind="number", name="far", low=0, high=99),
        )
    )
    reader = TableReader(table)

    def lots(text: str) -> list[float]:
        found: list[float] = reader.csv(text.encode(), "", max_rows=9, subject="body").values[:, 0].tolist()
        return found

    assert lots("lot;far\n1.530;10,75\n969;1,5\n") == [1530, 969]
    assert lots("lot;far\n1,530;10.75\n969;1.5\n") == [1530, 969]
    assert lots("lot;far\n1,530;10\n1.969,5;1\n") == [np.float32(1.53), 1969.5]
    assert lots("lot;far\n1.530;10\n9;1\n") == [np.float32(1.53), 9]
    with pytest.raises(Unprocessable, match=r"it may be 1530 or 1\.53"):
        lots("lot;far\n1,530;10\n9;1\n")
    by_comma = [column.model_copy(update={"decimal": ","}) for column in table.columns]
    reader = TableReader(Table(columns=tuple(by_comma)))
    assert lots("lot;far\n1.530;10\n9;1\n") == [1530, 9]
    assert lots("lot;far\n1,530;10\n9;1\n") == [np.float32(1.53), 9]
    assert lots("lot;far\n1.530;10.75\n9;1\n") == [np.float32(1.53), 9]
    grouped = [column.model_copy(update={"grouped": True}) for column in table.columns]
    reader = TableReader(Table(columns=tuple(grouped)))
    assert lots("lot;far\n1,530;10\n9;1\n") == [1530, 9]


@pytest.mark.parametrize(
    ("words", "values", "wanted"),
    [
        (("no", "yes"), [True, False, "YES", "true", "0", 1, "Ja"], [1, 0, 1, 1, 0, 1, 1]),
        (("False", "True"), [True, "TRUE", "f", 0, "no"], [1, 1, 0, 0, 0]),
        (("nein", "ja"), ["yes", False], [1, 0]),
        (("A", "a", "b"), ["a", "A", "B", " b "], [1, 0, 2, 2]),
    ],
)
def test_words_are_known_as_clients_write_them(words: tuple[str, ...], values: list[Any], wanted: list[float]) -> None:
    reader = TableReader(Table(columns=(CategoryColumn(kind="category", name="w", categories=words),)))
    assert reader.records([[value] for value in values], subject="a").values[:, 0].tolist() == wanted


def test_a_flag_of_zeros_and_ones_takes_booleans_and_another_number_does_not() -> None:
    flag = TableReader(Table(columns=(NumberColumn(kind="number", name="on", low=0, high=1),)))
    assert flag.records([[True], [False], ["yes"], ["FALSE"], [1]], subject="a").values[:, 0].tolist() == [
        1,
        0,
        1,
        0,
        1,
    ]
    with pytest.raises(Unprocessable, match="is 'maybe', expected a number"):
        flag.records([["maybe"]], subject="a")


def test_columns_that_are_no_features_change_nothing_and_are_told() -> None:
    reader = TableReader(TABLE.model_copy(update={"ignored": ("id", "grade")}), ignored=["grade [points]"])
    plain = "lectures,hours,petal length (cm),course\n4,5,1.5,morning\n"
    more = ",id,lectures,grade [points],hours,petal length (cm),course\n0,17,4,99,5,1.5,morning\n"
    found = reader.csv(more.encode(), "", max_rows=9, subject="body")
    np.testing.assert_array_equal(found.values, read_csv(plain).values)
    assert found.notes == {0: {"ignored": ["", "id", "grade [points]"]}}
    assert reader.records([RIGHT | {"id": 5}, RIGHT], subject="a").notes == {0: {"ignored": ["id"]}}
    with pytest.raises(Unprocessable, match="'ide'"):
        reader.records([RIGHT | {"ide": 5}], subject="a")
    with pytest.raises(Unprocessable, match="'id'"):
        read_csv(more)


@pytest.mark.parametrize(
    "nothing",
    [
        None,
        "",
        " ",
        "NA",
        "N/A",
        "None",
        "null",
        "?",
        "-",
        "<NA>",
        "#DIV/0!",
        "-nan",
        "nan",
        "NaN",
        float("nan"),
        {"value": None, "unit": "h"},
    ],
)
def test_what_is_missing_is_put_in_and_said_so(nothing: Any) -> None:
    found = read(RIGHT | {"hours": nothing})
    assert np.isnan(found.values[0, 1])
    assert found.notes == {0: {"imputed": ["hours"]}}
    assert read(without(RIGHT, "hours")).notes == {0: {"imputed": ["hours"]}}


def test_a_word_that_is_a_category_is_not_missing() -> None:
    assert read(RIGHT | {"course": "Na"}).values[0, 3] == 3
    assert read(RIGHT | {"course": "NA"}).notes == {0: {"imputed": ["course"]}}


def test_a_category_of_digits_may_come_as_a_number() -> None:
    assert read(RIGHT | {"course": 3}).values[0, 3] == 2


def test_columns_that_a_csv_has_not_are_missing_in_every_row() -> None:
    assert read_csv("lectures\n4\n5\n").notes == {i: {"imputed": NAMES[1:]} for i in (0, 1)}


def test_numbers_outside_of_what_training_saw_are_answered_and_told() -> None:
    told = {"feature": "hours", "value": 40.25, "low": 0.0, "high": 20.0, "unit": "h"}
    below = {"feature": "lectures", "value": -1.0, "low": 0.0, "high": 12.0, "unit": ""}
    found = READER.records([RIGHT, RIGHT | {"hours": 40.25, "lectures": -1}, RIGHT], subject="a")
    assert found.notes == {1: {"outside": [below, told]}}
    assert found.values[1].tolist() == [-1, 40.25, 1.5, 0]


def test_a_bound_is_within_as_float64_and_as_float32() -> None:
    row = RIGHT | {"petal length (cm)": 0.1}
    assert read(row).notes == {}
    assert read(row | {"petal length (cm)": 7.3}).notes == {}
    as_float32 = np.array([[4, 5, 7.3, 0], [4, 5, 7.4, 0]], np.float32)
    (told,) = READER.rows(as_float32, subject="body").notes[1]["outside"]
    assert told["value"] == 7.4


# A cell of the second row -> words of the sentence, expected
CELLS: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "another unit": ("hours", "5 min", ("is in min, expected h",)),
    "another unit beside it": ("hours", {"value": 5, "unit": "min"}, ("is in min, expected h",)),
    "no unit beside it": ("hours", {"value": 5, "unit": ""}, ("has no unit, expected h",)),
    "a unit that is no text": ("hours", {"value": 5, "unit": 3}, ("has as unit 3, expected h",)),
    "a unit where there is none": ("lectures", "4 h", ("is in h, expected a number without unit",)),
    "an object of other names": ("hours", {"value": 5, "units": "h"}, ("'value', 'units'", '"unit"')),
    "an empty object": ("hours", {}, ("an empty object",)),
    "an object in an object": ("hours", {"value": {"value": 5}}, ("has as value an object",)),
    "a unit twice": ("hours", {"value": "5 h", "unit": "h"}, ("is '5 h', expected a number in h",)),
    "a comma that may be either": ("hours", "5,500", ("is '5,500'", "with a point", "it may be 5500 or 5.5")),
    "groups of two digits": ("hours", "1_00", ("is '1_00', expected a number in h",)),
    "a date": ("hours", "2020-01-02", ("is '2020-01-02', expected a number in h",)),
    "a word": ("hours", "many", ("is 'many'",)),
    "a word of infinity": ("hours", "inf", ("is 'inf'",)),
    "true": ("hours", True, ("is true",)),
    "a list": ("hours", [5], ("is a list of 1",)),
    "infinity": ("hours", float("inf"), ("is inf", "finite")),
    "minus infinity": ("lectures", float("-inf"), ("is -inf", "finite")),
    "more than float32 holds": ("hours", 3.5e38, ("is 3.5e+38", "float32")),
    "a text of more than float32 holds": ("hours", "1e999", ("is '1e999'", "float32")),
    "an integer of 400 digits": ("lectures", 10**400, ("more than 40 digits", "float32")),
    "a text of 200 digits": ("hours", "9" * 200, ("a text of 200 characters",)),
    "missing where it may not be": ("lectures", None, ("is missing", "training saw no row without it")),
    "an empty text where it may not be": ("lectures", "", ("is missing",)),
    "an unknown category": ("course", "night", ("is 'night'", "'morning', 'evening', '3', 'Na'")),
    "a category with a letter less": ("course", "MORNIG", ("is 'MORNIG'",)),
    "a category by its place": ("course", 0, ("is 0, expected one of",)),
    "a boolean category": ("course", False, ("is false, expected one of",)),
    "a category with a fraction": ("course", 3.0, ("is 3.0, expected one of",)),
}


@pytest.mark.parametrize(("name", "value", "words"), CELLS.values(), ids=CELLS.keys())
def test_a_wrong_cell_is_named_with_its_row_and_column(name: str, value: Any, words: tuple[str, ...]) -> None:
    for rows in ([RIGHT, RIGHT | {name: value}], [[*WANT[:3], "3"], list((RIGHT | {name: value}).values())]):
        with pytest.raises(Unprocessable) as caught:
            READER.records(rows, subject="body.instances")
        assert caught.value.subject == f"body.instances[1].{name}"
        for word in words:
            assert word in caught.value.detail
        assert caught.value.expected
        assert caught.value.got


def test_a_wrong_number_is_found_where_all_columns_are_numbers_too() -> None:
    good = dict.fromkeys(NAMES[:3], 1.5)
    for value in (float("inf"), 1e39, 10**400, True, "x"):
        with pytest.raises(Unprocessable) as caught:
            NUMBERS.records([good, good | {"hours": value}], subject="a")
        assert caught.value.subject == "a[1].hours"


ROWS_NOT_TAKEN: dict[str, tuple[Any, str, str]] = {
    "a number": (5, "body.instances[0]", "is 5, expected an object by name, or a list of 4 values: lectures"),
    "null": (None, "body.instances[0]", "is null"),
    "too few values": ([1, 2], "body.instances[0]", "has 2 values, expected 4 values, lectures, hours"),
    "too many values": ([1] * 5, "body.instances[0]", "has 5 values"),
    "an unknown name": (RIGHT | {"hour": 1}, "body.instances[0].hour", "'hour' (did you mean 'hours'?)"),
    "a name in capitals": (without(RIGHT, "hours") | {"HOURS": 1}, "body.instances[0].HOURS", "did you mean 'hours'"),
    "no name": (RIGHT | {"": 1}, "body.instances[0].", "unknown feature ''"),
    "nothing": ({}, "body.instances[0].lectures", "is missing"),
}


@pytest.mark.parametrize(("row", "subject", "says"), ROWS_NOT_TAKEN.values(), ids=ROWS_NOT_TAKEN.keys())
def test_a_wrong_row_is_named(row: Any, subject: str, says: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        read(row)
    assert caught.value.subject == subject
    assert says in caught.value.detail


HEAD = "lectures,hours,course\n"
FILES: dict[str, tuple[str | bytes, str, type[ClientError], str, str]] = {
    "no header": ("4,5,morning\n", "", Unprocessable, "body.header", "begins with '4', '5', 'morning'"),
    "no rows": (HEAD, "", Unprocessable, "body", "has no rows below its header"),
    "empty lines alone": ("\n\n", "", Unprocessable, "body.header", "no names"),
    "an unknown column": ("lectures,hour\n4,5\n", "", Unprocessable, "body.header.hour", "did you mean 'hours'?"),
    "a column twice": ("lectures,lectures\n4,5\n", "", Unprocessable, "body.header.lectures", "twice"),
    "a column in two ways": ("lectures,hours,hours [h]\n4,5,5\n", "", Unprocessable, "body.header.hours [h]", "twice"),
    "a column that must be there": ("hours\n5\n", "", Unprocessable, "body.header.lectures", "has no 'lectures'"),
    "a header in another unit": (
        "lectures,hours [min]\n4,5\n", "", Unprocessable, "body.header.hours", "is in min, expected h"),
    "a header with the unit of a category": (
        "lectures,course [h]\n4,3\n", "", Unprocessable, "body.header.course", "it is a category"),
    "a cell in another unit": (HEAD + "4,5 min,3\n", "", Unprocessable, "body[0].hours", "(line 2) is in min"),
    "a wrong cell far down": (HEAD + '4,5,3\n4,"5\n5",3\n', "", Unprocessable, "body[1].hours", "(line 4) is"),
    "an empty cell that must not be": (
        HEAD + "4,5,3\n,5,3\n", "", Unprocessable, "body[1].lectures", "(line 3) is missing"),
    "more than float32 holds": ("lectures\n1e39\n", "", Unprocessable, "body[0].lectures", "float32"),
    "too few cells": (HEAD + "4,5\n", "", Unprocessable, "body[0]", "(line 2) has 2 cells, the header has 3"),
    "too many cells": (HEAD + "4,5,3,1\n", "", Unprocessable, "body[0]", "has 4 cells"),
    "points and commas before decimals": (
        "lectures;hours\n4;5,5\n4;5.5\n", "", Unprocessable, "body[0].hours", "behind a point as in line 3, '5.5'"),
    "an open quote": (HEAD + '4,"5,3\n', "", Unprocessable, "body", "line 2: unexpected end of data"),
    "an open quote at the beginning": ('"', "", Unprocessable, "body.header", "no names"),
    "text behind a quote": (HEAD + '"4"4,5,3\n', "", Unprocessable, "body", "line 2: ',' expected after '\"'"),
    "a cell of 200 kB": (HEAD + "4" * 200_000 + ",5,3\n", "", Unprocessable, "body", "field limit"),
    "a line of 5 MB": (HEAD + "4," + " " * (5 << 20), "", Unprocessable, "body", "a line of more than"),
    "more rows than the limit": (HEAD + "4,5,3\n" * 101, "", TooLarge, "body", "more than 100 rows"),
    "a million cells": (b"," * (MAX_CELLS + 1), "", TooLarge, "body", "cells"),
    "bytes of another charset": (
        "größe".encode("latin-1"), "charset=utf-8", Unprocessable, "body", "is not utf-8: byte 0xf6 at 2"),
    "bytes of no charset": (b"\x81", "", Unprocessable, "body", "is not text in UTF-8, UTF-16 or Windows-1252: byte"),
    "a charset that is not taken": (
        HEAD + "4,5,3\n", "charset=utf-7", UnsupportedMedia, "header.content-type", "'utf-7'"),
    "a charset that does not exist": (
        HEAD + "4,5,3\n", ' Charset="\xff"', UnsupportedMedia, "header.content-type", "is not taken"),
    "a header that is said to be absent": (
        "4,5,3\n", " header=absent", UnsupportedMedia, "header.content-type", "header=absent"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "parameters", "kind", "subject", "says"), FILES.values(), ids=FILES.keys())
def test_a_wrong_csv_is_told_what_is_wrong(
    data: str | bytes, parameters: str, kind: type[ClientError], subject: str, says: str
) -> None:
    with pytest.raises(kind) as caught:
        read_csv(data, parameters)
    assert says in caught.value.detail
    assert caught.value.subject == subject


def test_a_charset_that_is_named_is_honoured() -> None:
    table = Table(columns=(CategoryColumn(kind="category", name="größe", categories=("groß",)),))
    data = "größe\ngroß\n".encode("latin-1")
    for charset in ("iso-8859-1", "latin1", '"Windows-1252"'):
        assert TableReader(table).csv(data, f" charset={charset}", max_rows=1, subject="body").values == 0


@pytest.mark.parametrize("place", [-1, 4, 0.5, 1e9])
def test_a_number_that_is_the_place_of_no_category_is_named(place: float) -> None:
    rows = np.array([WANT, [4, 5, 1, place]], np.float32)
    with pytest.raises(Unprocessable, match="from 0 to 3") as caught:
        READER.rows(rows, subject="body")
    assert caught.value.subject == "body[1].course"


def test_rows_of_numbers_may_have_gaps_where_records_may() -> None:
    gaps = np.array([[4, np.nan, np.nan, np.nan]], np.float32)
    assert READER.rows(gaps, subject="body").notes == {0: {"imputed": NAMES[1:]}}
    with pytest.raises(Unprocessable, match="training saw no row without it") as caught:
        READER.rows(np.array([[np.nan, 1, 1, 1]], np.float32), subject="body")
    assert caught.value.subject == "body[0].lectures"


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"lectures": FLOATS},
        optional={
            "hours": st.none() | FLOATS,
            "petal length (cm)": st.none() | FLOATS,
            "course": st.none() | st.sampled_from(["morning", "evening", "3", "Na"]),
        },
    ),
    min_size=1,
    max_size=8,
)


def as_rows(records: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """What the records must become, column by column, by another way."""
    places = {None: np.nan, "morning": 0, "evening": 1, "3": 2, "Na": 3}
    numbers = [[np.nan if record.get(n) is None else record[n] for n in NAMES[:3]] for record in records]
    courses = [[places[record.get("course")]] for record in records]
    return np.concatenate([np.array(numbers, np.float32), np.array(courses, np.float32)], axis=1)


@settings(max_examples=30, deadline=None)
@given(
    RECORDS,
    st.permutations(NAMES),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_all_forms_of_the_same_rows_give_the_same_numbers(
    records: list[dict[str, Any]], order: list[str], delimiter: str, quoting: Any
) -> None:
    want = as_rows(records)
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, order, delimiter=delimiter, quoting=quoting)
    writer.writeheader()
    writer.writerows(records)
    lists = [[record.get(name) for name in NAMES] for record in records]
    by_name = READER.records(json.loads(json.dumps(records)), subject="a")
    np.testing.assert_array_equal(by_name.values, want)
    for found in (READER.records(lists, subject="a"), read_csv(out.getvalue()), READER.rows(want, subject="a")):
        np.testing.assert_array_equal(found.values, want)
        assert names_in(found) == names_in(by_name)
    for i, record in enumerate(records):
        outside, imputed = names_in(by_name).get(i, ([], []))
        assert imputed == [name for name in NAMES if record.get(name) is None]
        assert ("lectures" in outside) == (not 0 <= record["lectures"] <= 12)


def names_in(found: Rows) -> dict[int, tuple[list[str], list[str]]]:
    """Of what is outside, and of what is imputed, by row."""
    return {
        i: ([note["feature"] for note in told.get("outside", [])], told.get("imputed", []))
        for i, told in found.notes.items()
    }


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["5 h", "NA", "3"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from([*NAMES, "value", "unit", ""]), inner),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(JUNK, min_size=1, max_size=3))
def test_whatever_json_holds_is_read_or_refused_by_name(instances: list[Any]) -> None:
    check(lambda: READER.records(instances, subject="body.instances"), len(instances))


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=60) | st.text('",;\t\r\n 4hx\ufeff', max_size=60).map(lambda t: (HEAD + t).encode()),
    st.text(max_size=20),
)
def test_whatever_a_file_holds_is_read_or_refused_by_name(data: bytes, parameters: str) -> None:
    check(lambda: read_csv(data, parameters), None)


def check(ask: Callable[[], Rows], rows: int | None) -> None:
    found: Rows | ClientError
    try:
        found = ask()
    except ClientError as error:
        found = error
    if isinstance(found, ClientError):
        assert found.subject
        assert len(found.detail) < 2000
        return
    assert found.values.shape[1] == 4
    assert rows in (None, len(found.values))
    assert not np.isinf(found.values).any()
    assert not np.isnan(found.values[:, 0]).any()


def test_ten_thousand_rows_take_well_under_a_second() -> None:
    names = [f"feature {i}" for i in range(10)]
    reader = TableReader(Table(columns=tuple(NumberColumn(kind="number", name=n, low=0, high=1) for n in names)))
    rng = np.random.default_rng(0)
    values = rng.random((10_000, 10)).round(4).astype(np.float32)
    records = [dict(zip(names, row, strict=True)) for row in values.tolist()]
    text = "\r\n".join([",".join(names), *(",".join(map(str, row)) for row in values.tolist())]).encode()
    began = process_time()
    by_name = reader.records(records, subject="a")
    by_csv = reader.csv(text, "", max_rows=10_000, subject="a")
    assert process_time() - began < 1.0
    np.testing.assert_array_equal(by_name.values, values)
    np.testing.assert_array_equal(by_csv.values, values)


def test_a_thousand_names_and_categories_are_not_written_out() -> None:
    columns = tuple(NumberColumn(kind="number", name=f"gene {i}", low=0, high=1) for i in range(5000))
    with pytest.raises(Unprocessable, match=r"\(5000 in all\)") as caught:
        TableReader(Table(columns=columns)).records([{"gene x": 1}], subject="a")
    assert len(caught.value.detail) < 1000
