"""Tables from CSV files: what is understood of them, and how faults are told."""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codecs.tables.rows import TableReader
from app.core.manifest.table import CategoryColumn, DateColumn, NumberColumn
from training.data import csv_table, csv_values
from training.data.base import DataError
from training.data.column_header import Header
from training.data.csv_cells import Cells, read_cells
from training.data.csv_values import Reading
from training.data.tables import load

ROWS = 40


def grades(separator: str = ",", point: str = ".") -> str:
    """40 rows: lectures, hours with a unit and two values missing, a programme, and the grade."""
    lines = [separator.join(("lectures", "hours [h]", "programme", "grade (points)"))]
    for i in range(ROWS):
        hours = "" if i in (3, 8) else f"{i / 4:.2f}".replace(".", point)
        grade = f"{40 + i * 1.25:.2f}".replace(".", point)
        lines.append(separator.join((str(i * 7 % 15), hours, ("physics", "maths")[i % 2], grade)))
    return "\n".join(lines) + "\n"


def written(folder: Path, text: str | bytes, name: str = "grades.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_numbers_words_units_and_gaps_are_told_apart(tmp_path: Path) -> None:
    found = load(written(tmp_path, grades()), target_column="grade")
    lectures, hours, programme = found.table.columns
    assert isinstance(lectures, NumberColumn)
    assert isinstance(hours, NumberColumn)
    assert isinstance(programme, CategoryColumn)
    assert (lectures.name, lectures.unit, lectures.missing) == ("lectures", "", False)
    assert (hours.name, hours.unit, hours.missing, hours.low, hours.high) == ("hours", "h", True, 0.0, 9.75)
    assert programme.categories == ("maths", "physics")
    assert found.task == "regress"
    assert found.target is not None
    assert (found.target.name, found.target.unit, found.target.low) == ("grade", "points", 40.0)
    assert found.train_x.shape == (ROWS, 3)
    assert np.isnan(found.train_x[3, 1].item())
    assert found.train_x[:2, 2].tolist() == [1.0, 0.0]
    assert found.train_y[4].item() == 45.0
    assert len(found.test_y) == 0


@pytest.mark.parametrize(
    ("separator", "point"), [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), ("|", ".")]
)
def test_every_delimiter_gives_the_same_table(tmp_path: Path, separator: str, point: str) -> None:
    plain = load(written(tmp_path, grades()), target_column="grade")
    other = load(written(tmp_path, grades(separator, point), "other.csv"), target_column="grade")
    numbers = [column for column in other.table.columns if isinstance(column, NumberColumn)]
    assert {column.decimal for column in numbers} == {point}
    by_point = [c.model_copy(update={"decimal": "."}) if c in numbers else c for c in other.table.columns]
    assert tuple(by_point) == plain.table.columns
    assert other.train_x.nan_to_num(-1).equal(plain.train_x.nan_to_num(-1))
    assert other.train_y.equal(plain.train_y)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_every_spreadsheet_s_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    text = grades().replace("physics", "Übung").replace("\n", "\r\n")
    found = load(written(tmp_path, text.encode(encoding)), target_column="grade")
    column = found.table.columns[2]
    assert isinstance(column, CategoryColumn)
    assert "Übung" in column.categories
    assert ("Windows-1252" in found.note) == (encoding == "cp1252")


def test_a_spreadsheet_s_own_hint_is_no_row(tmp_path: Path) -> None:
    found = load(written(tmp_path, "sep=;\n" + grades(";", ",")), target_column="grade")
    assert len(found.train_y) == ROWS


@pytest.mark.parametrize(
    "mark", ["", "NA", "NaN", "null", "?", "n/a", "None", "<NA>", "#DIV/0!", "-", "-nan", "N.A.", "."]
)
def test_gaps_have_many_names(tmp_path: Path, mark: str) -> None:
    text = "a,b,y\n" + "".join(f"{i * i},{mark if i == 5 else ('p', 'q')[i % 2]},{i % 2}\n" for i in range(ROWS))
    found = load(written(tmp_path, text), target_column="y")
    assert found.table.columns[1].missing
    assert math.isnan(found.train_x[5, 1].item())
    assert found.labels == ("0", "1")


def test_columns_that_cannot_help_are_left_out_with_a_word(tmp_path: Path) -> None:
    lines = ["id,name,same,empty,fine,x,y"]
    lines += [f"{i + 1},student {i},here,,{i % 2 * 10**9 + i / 1000},{i * i % 13},{i % 2}" for i in range(ROWS)]
    found = load(written(tmp_path, "\n".join(lines)), target_column="y")
    assert [column.name for column in found.table.columns] == ["x"]
    assert found.table.ignored == ("id", "name", "same", "empty", "fine", "y")
    for part in (
        "'fine' (its 40 different values are 2 in float32, with any offset)",
        "'id' (it numbers the rows)",
        "'name' (names or prose",
        "'same' (the same",
        "'empty' (no value",
    ):
        assert part in found.note


def test_a_time_in_seconds_is_shifted_before_float32(tmp_path: Path) -> None:
    text = "time,x,y\n" + "".join(f"{1700000000 + i + i // 7},{i * i % 13},{i % 2}\n" for i in range(ROWS))
    path = written(tmp_path, text)
    found = load(path, target_column="y")
    time = found.table.columns[0]
    assert isinstance(time, NumberColumn)
    assert (time.low, time.high) == (1700000000, 1700000044)
    back = found.train_x[:, 0].double() + time.offset
    assert back.tolist() == [1700000000 + i + i // 7 for i in range(ROWS)]
    # The server reads the file alike, and another training does.
    read = TableReader(found.table, ignored=["y"]).csv(text.encode(), "", max_rows=99, subject="body")
    assert np.array_equal(read.values, found.train_x.numpy())
    x, _ = csv_table.load_for(path, found.table, target_column="y", labels=found.labels)
    assert np.array_equal(x.numpy(), found.train_x.numpy())
    far = TableReader(found.table).records([{"time": 1700000100, "x": 5}], subject="body").notes
    assert far == {0: {"outside": [{
        "feature": "time", "value": 1700000100, "low": 1700000000, "high": 1700000044, "unit": ""}]}}  # fmt: skip


FORMS = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d %b %Y", "%B %d, %Y", "%Y-%m-%dT%H:%M:%S", "%d.%m.%y %H:%M")


@pytest.mark.parametrize("form", FORMS)
def test_dates_are_days_in_every_form(tmp_path: Path, form: str) -> None:
    days = [datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=9 * i, hours=i % 24) for i in range(ROWS)]
    text = "\n".join(["when;x;y", *(f"{day:{form}};{i * i % 13};{i % 2}" for i, day in enumerate(days))])
    path = written(tmp_path, text)
    found = load(path, target_column="y")
    when = found.table.columns[0]
    assert isinstance(when, DateColumn)
    assert when.clock is ("%H" in form)
    assert when.written(when.low).startswith("2023-01-01")
    seconds = [(day - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() for day in days]
    truth = np.array(seconds) / 86_400 if when.clock else np.array(seconds) // 86_400
    assert found.train_x[:, 0].double().numpy() + when.offset == pytest.approx(truth, abs=1e-4)
    read = TableReader(found.table, ignored=["y"]).csv(text.encode(), "", max_rows=99, subject="body")
    assert np.array_equal(read.values, found.train_x.numpy())
    assert not any("outside" in note for note in read.notes.values())
    x, _ = csv_table.load_for(path, found.table, target_column="y", labels=found.labels)
    assert np.array_equal(x.numpy(), found.train_x.numpy())


def test_a_date_that_may_be_two_is_asked_about(tmp_path: Path) -> None:
    text = "when,x,y\n" + "".join(f"{i % 12 + 1:02}/{i % 11 + 1:02}/2024,{i * i % 13},{i % 2}\n" for i in range(ROWS))
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=r"line 13, column 'when': '12/01/2024' may have") as error:
        load(path, target_column="y")
    assert "--dates day-first or --dates month-first" in str(error.value)
    by_day, by_month = (load(path, target_column="y", reading=Reading(first=first)) for first in ("day", "month"))
    # Row 12 is 01/02/2024.
    column = by_day.table.columns[0]
    assert isinstance(column, DateColumn)
    assert column.written(by_day.train_x[12, 0].item() + column.offset) == "2024-02-01"
    other = by_month.table.columns[0]
    assert isinstance(other, DateColumn)
    assert other.written(by_month.train_x[12, 0].item() + other.offset) == "2024-01-02"


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (("13/01/2024", "01/13/2024"), "'13/01/2024' has the day first, '01/13/2024' in line 3 the month"),
        (("2024-01-13", "soon"), "line 3, column 'when': 'soon' is not a date, as 39 of 40 cells"),
        (("2024-01-13", "2024-02-30"), "'2024-02-30' is not a date"),
    ],
)
def test_what_spoils_a_column_of_dates_is_named(tmp_path: Path, cells: tuple[str, str], told: str) -> None:
    rows = [*cells, *(f"2024-03-{i % 28 + 1:02}" for i in range(ROWS - 2))]
    text = "when,x,y\n" + "".join(f"{day},{i * i % 13},{i % 2}\n" for i, day in enumerate(rows))
    with pytest.raises(DataError) as error:
        load(written(tmp_path, text), target_column="y")
    assert told in str(error.value)


def test_most_cells_are_dates_and_one_is_not(tmp_path: Path) -> None:
    rows = ["45321" if i % 3 == 0 else f"2024-03-{i % 28 + 1:02}" for i in range(ROWS)]
    text = "when,x,y\n" + "".join(f"{day},{i * i % 13},{i % 2}\n" for i, day in enumerate(rows))
    with pytest.raises(DataError, match="line 2, column 'when': '45321' is not a date, as 26 of 40 cells"):
        load(written(tmp_path, text), target_column="y")
    zeros = text.replace("45321", "0000-00-00")
    assert load(written(tmp_path, zeros), target_column="y").table.columns[0].missing


@pytest.mark.parametrize("task", [None, "regress"])
def test_dates_are_not_predicted(tmp_path: Path, task: csv_table.Task | None) -> None:
    lines = [f"{i * i % 13},{i % 28 + 1:02}/{i % 12 + 1:02}/2024" for i in range(ROWS)]
    path = written(tmp_path, "\n".join(["x,when", *lines]))
    with pytest.raises(DataError, match="column 'when': has dates, as '01/01/2024'"):
        load(path, target_column="when", task=task)


def test_rows_without_an_answer_are_left_out_with_a_word(tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f"{i * i},{'' if i < 2 else i / 2}\n" for i in range(ROWS))
    found = load(written(tmp_path, text), target_column="y")
    assert len(found.train_y) == ROWS - 2
    assert "2 rows without a value of y left out" in found.note


def test_few_whole_numbers_are_classes_unless_asked_otherwise(tmp_path: Path) -> None:
    path = written(tmp_path, "x,y\n" + "".join(f"{i * i},{i % 4}\n" for i in range(ROWS)))
    assert load(path, target_column="y").labels == ("0", "1", "2", "3")
    assert load(path, target_column="y", task="regress").target is not None


def test_two_columns_of_one_name_keep_their_units_in_it(tmp_path: Path) -> None:
    text = "w [kg],w [lb],y\n" + "".join(f"{i * i},{i * i * 2.2},{i % 2}\n" for i in range(ROWS))
    found = load(written(tmp_path, text), target_column="y")
    assert [column.name for column in found.table.columns] == ["w [kg]", "w [lb]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, expected a line of column names"),
        ("grade\n1\n", "has one column, 'grade'"),
        ("a,grade\n", "has column names and no rows"),
        ("1,2\n3,4\n", "line 1: has only numbers"),
        ("a,a,grade\n1,2,3\n", "line 1: 2 columns are called 'a'"),
        ("a,grade\n1,2\n\n3,4,5\n", "line 4: has 3 cells, the line of names has 2"),
        ('a,grade\n1,2\n"3,4\n', "line 3: opens a quote that is never closed"),
        ('a,grade\n"1"2,2\n', "line 2: has text behind a closing quote"),
        ("a,grade\n1,\0\n", "line 2: has a zero byte"),
        ("a,b\n1,2\n", "has no column 'grade'"),
        ("a,Grade\n1,2\n", "did you mean 'Grade'?"),
        ("a,grade\n1,2\n3,4\n", "has 2 rows with a value of 'grade', expected 30 or more"),
        ("a,grade\n1,NA\n3,\n", "column 'grade': has no value in 2 rows"),
        ("a,grade\n" + "1,2\n4,2\n" * 20, "column 'grade': is '2' in every row"),
        ("a,grade\n" + "1,2\n2,3\n" * 20, None),
        ("a,grade\n" + "1,2\n4,2\n" * 20 + "2,3\n", "the class '3' has 1 rows, expected 5 or more"),
        (
            "a,grade\n" + "1,2.5\n2,3.25\n4,5\n" * 20 + "one,3\n",
            "line 62, column 'a': 'one' is not a number, as 60 of 61",
        ),
        ("a,grade\n" + "1,2\n2,3\n" * 20 + "1e39,3\n", "line 42, column 'a': '1e39' is beyond what float32 holds"),
        ("a,grade\n" + "7,2\n7,3\n" * 20, "no column is left to learn from; left out: 'a' (the same in every row)"),
    ],
)
def test_faults_name_file_line_and_column(tmp_path: Path, text: str, message: str | None) -> None:
    path = written(tmp_path, text)
    if message is None:
        assert load(path, target_column="grade").labels == ("2", "3")
        return
    with pytest.raises(DataError) as told:
        load(path, target_column="grade")
    assert str(told.value).startswith(path)
    assert message in str(told.value)


def test_a_regression_of_words_names_the_first(tmp_path: Path) -> None:
    path = written(tmp_path, "a,grade\n" + "".join(f"{i * i},{('good', 'bad')[i % 2]}\n" for i in range(ROWS)))
    with pytest.raises(DataError, match="line 2, column 'grade': 'good' is not a number, as a regression needs"):
        load(path, target_column="grade", task="regress")


def test_a_regression_of_one_number_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "a,grade\n" + "".join(f"{i * i},7\n" for i in range(ROWS)))
    with pytest.raises(DataError, match="column 'grade': is 7 in every row, expected different numbers"):
        load(path, target_column="grade", task="regress")


def test_the_target_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--target; there are lectures, hours \[h\], programme, grade \(points\)"):
        load(written(tmp_path, grades()))


def test_many_rows_have_a_test_part_of_each_class(tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f"{i * i % 997},{'ab'[i % 10 == 0]}\n" for i in range(csv_table.MANY_ROWS))
    found = load(written(tmp_path, text), target_column="y")
    assert len(found.test_y) == csv_table.MANY_ROWS // 5
    assert (found.test_y == 1).sum() == csv_table.MANY_ROWS // 50
    again = load(written(tmp_path, text, "again.csv"), target_column="y")
    assert found.test_x.equal(again.test_x)


def test_another_file_is_read_by_a_model_s_columns(tmp_path: Path) -> None:
    found = load(written(tmp_path, grades()), target_column="grade")
    lines = grades().splitlines()
    turned = [",".join(reversed(line.split(","))) for line in lines]
    x, y = csv_table.load_for(
        written(tmp_path, "\n".join(turned), "turned.csv"), found.table, target_column="grade", labels=()
    )
    assert x.nan_to_num(-1).equal(found.train_x.nan_to_num(-1))
    assert y.equal(found.train_y)
    strange = "\n".join(lines).replace("maths", "arts", 1)
    with pytest.raises(DataError, match="column 'programme': 'arts' is none of maths, physics"):
        csv_table.load_for(written(tmp_path, strange, "x.csv"), found.table, target_column="grade", labels=())


@pytest.mark.parametrize(
    ("text", "name", "unit"),
    [
        ("weight [kg]", "weight", "kg"),
        ("weight (kg)", "weight", "kg"),
        ("weight[kg]", "weight", "kg"),
        ("  two   words [m/s²] ", "two words", "m/s²"),
        ("f(x) [m]", "f(x)", "m"),
        ("weight", "weight", ""),
        ("weight []", "weight []", ""),
        ("[kg]", "[kg]", ""),
        ("weight (kg) of it", "weight (kg) of it", ""),
    ],
)
def test_units_stand_in_brackets_at_the_end(text: str, name: str, unit: str) -> None:
    found = Header.of(text)
    assert (found.name, found.unit) == (name, unit)


CELL = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12).map(str.strip)


@settings(max_examples=30)
@given(
    st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=8).filter(lambda rows: all(map(any, rows))),
    st.sampled_from([",", ";", "\t"]),
)
def test_what_the_standard_library_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str
) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([["first", "second", "third"], *rows])
    path = tmp_path_factory.getbasetemp() / "round.csv"
    path.write_text(stream.getvalue(), encoding="utf-8", newline="")
    found = read_cells(path)
    assert found.rows == rows
    assert found.delimiter == delimiter


@settings(max_examples=30)
@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=20), st.booleans())
def test_numbers_are_read_as_they_were_written(numbers: list[float], comma: bool) -> None:
    texts = [repr(number).replace(".", ",") if comma else repr(number) for number in numbers]
    # With the sign that other columns of such a file tell: "1.125" alone may be 1125 as well.
    found = csv_values.values(column(texts), 0, Reading(decimal="," if comma else ".")).numbers
    assert found is not None
    assert found.tolist() == numbers


def column(texts: list[str], *, delimiter: str = ";", unit: str = "") -> Cells:
    lines = list(range(2, len(texts) + 2))
    return Cells("x.csv", delimiter, (Header("a", "a", unit),), [[t] for t in texts], lines, "utf-8")


@pytest.mark.parametrize(
    ("texts", "numbers", "unit"),
    [
        (["1.234,5", "969"], [1234.5, 969], ""),
        (["1,234.5", "969"], [1234.5, 969], ""),
        (["1,530", "969", "10.75"], [1530, 969, 10.75], ""),
        (["1.530", "969", "10,75"], [1530, 969, 10.75], ""),
        (["1,2", "1,530"], [1.2, 1.53], ""),
        (["1 234,5", "2 000", "7"], [1234.5, 2000, 7], ""),
        (["1\u202f234,5", "1\u00a0000"], [1234.5, 1000], ""),
        (["1'234.5", "1\u2019000"], [1234.5, 1000], ""),
        (["12,34,567", "1,00,000.5"], [1234567, 100000.5], ""),
        (["1.234.567", "2"], [1234567, 2], ""),
        (["1_000", "2"], [1000, 2], ""),
        (["$2,790", "$ 5", "$1,000,000"], [2790, 5, 1000000], "$"),
        (["\u20ac 5", "7\u20ac"], [5, 7], "\u20ac"),
        (["EUR 5", "EUR7.5"], [5, 7.5], "EUR"),
        (["R$ 1.234,56", "7"], [1234.56, 7], "R$"),
        (["10.7%", "3 %", "0"], [10.7, 3, 0], "%"),
        (["90 m2", "10.5m\u00b2", "3"], [90, 10.5, 3], "m2"),
        (["-1", "\u22122", "\u20133", "4-", "(5)", "($6)"], [-1, -2, -3, -4, -5, -6], "$"),
        (["5,-", "7,\u2013"], [5, 7], ""),
        ([".5", "5.", "+1e3"], [0.5, 5, 1000], ""),
        (["\uff11\uff12", "\u0663\u066b\u0665"], [12, 3.5], ""),
    ],
)
def test_numbers_are_read_as_people_write_them(texts: list[str], numbers: list[float], unit: str) -> None:
    found = csv_values.values(column(texts), 0)
    assert found.numbers is not None
    assert found.numbers.tolist() == numbers
    assert found.unit == unit


@pytest.mark.parametrize(
    ("texts", "delimiter", "said"),
    [
        (
            ["1,530", "969"],
            ";",
            "line 2, column 'a': '1,530' may be 1530 or 1.53, and no other cell tells, '969' in line 3",
        ),
        (
            ["969", "1.530"],
            ",",
            "line 3, column 'a': '1.530' may be 1.53 or 1530, and no other cell tells, '969' in line 2",
        ),
        (["1.5", "1,5"], ";", "line 2, column 'a': '1.5' has decimals behind a point, '1,5' in line 3 behind a comma"),
        (["10.7%", "0.2"], ",", "'10.7%' and '0.2' in line 3 are in different units"),
        (["5 km", "7 m", "8 km"], ",", "'5 km' and '7 m' in line 3 are in different units"),
    ],
)
def test_what_numbers_leave_open_is_asked_with_two_cells(texts: list[str], delimiter: str, said: str) -> None:
    with pytest.raises(DataError) as told:
        csv_values.values(column(texts, delimiter=delimiter), 0)
    assert said in str(told.value)
    if "may be" in said:
        assert "--decimal" in str(told.value)
        for decimal, number in (
            (".", float("1.53" if "." in texts[1] else "1530")),
            (",", 1.53 if "," in texts[0] else 1530),
        ):
            found = csv_values.values(column(texts, delimiter=delimiter), 0, Reading(decimal=decimal)).numbers
            assert found is not None
            assert number in found.tolist()


@pytest.mark.parametrize(
    "texts",
    [["1st", "2nd", "3rd", "4th"] * 9, ["12a", "3b", "14c", "2d", "9e"], ["18-24", "25-34"]],
)
def test_words_that_begin_with_a_number_are_words(texts: list[str]) -> None:
    assert csv_values.values(column(texts), 0).numbers is None


def test_a_file_tells_by_its_other_columns_what_a_comma_is(tmp_path: Path) -> None:
    german = "lot;far;price\n" + "".join(f"{i % 7 + 1}.{i * 37 % 1000:03d};{i},5;{i}.000\n" for i in range(1, ROWS))
    found = load(written(tmp_path, german), target_column="price")
    assert found.train_x[:2].tolist() == [[2037, 1.5], [3074, 2.5]]
    assert found.target is not None
    assert found.target.high == 39000
    lot, far = found.table.columns
    assert isinstance(lot, NumberColumn)
    assert isinstance(far, NumberColumn)
    assert (lot.decimal, lot.grouped, far.decimal, far.grouped) == (",", True, ",", False)
    plain = "lot,far,price\n" + "".join(f"{i % 7 + 1}.{i * 37 % 1000:03d},{i}.5,{i * 7}\n" for i in range(1, ROWS))
    assert load(written(tmp_path, plain), target_column="price").train_x[0, 0] == np.float32(2.037)


def test_a_row_of_sums_below_the_others_is_left_out(tmp_path: Path) -> None:
    text = "name,a,y\n" + "".join(f"{'pq'[i % 2]},{i * i},{i % 7}\n" for i in range(ROWS))
    plain = load(written(tmp_path, text), target_column="y", task="regress")
    for word in ("Total", "SUM:", "Gesamt"):
        found = load(written(tmp_path, text + f"{word},20540,117\n", "sums.csv"), target_column="y", task="regress")
        assert found.train_x.equal(plain.train_x)
        assert f"the last row left out, '{word}' in line 42" in found.note
    # A word of the table's own is none.
    own = text.replace("p,", "total,")
    assert len(load(written(tmp_path, own + "total,5,5\n", "own.csv"), target_column="y").train_y) == ROWS + 1


def test_copies_of_rows_are_told(tmp_path: Path) -> None:
    text = "a,b,y\n" + "".join(f"{i * i % 37},{i},{i % 2}\n" for i in range(0, 3 * ROWS, 3))
    found = load(written(tmp_path, text + "0,0,0\n9,3,1\n"), target_column="y")
    assert "2 rows are copies of others" in found.note


@pytest.mark.parametrize(
    ("numbers", "counts"),
    [
        ([1, 2, 3, 4, 5], True),
        ([3, 1, 5, 2, 4], True),
        ([10, 20, 30, 40], True),
        ([1, 2, 4, 5, 8, 9], True),
        ([1, 2, math.nan, 4, *range(5, 40)], True),
        ([5, 4, 3, 2], True),
        ([7, 1, 90, 33, 12], False),
        ([1, 2, 2, 3], False),
        ([1.5, 2.5, 3.5], False),
        ([1990, 1991, 1992, 1993], False),
        ([1700000002, 1700000000, 1700000001], False),
    ],
)
def test_columns_that_number_the_rows_are_found(numbers: list[float], counts: bool) -> None:
    assert csv_values.counts_rows(np.array(numbers)) == counts


def test_a_file_may_end_its_lines_with_delimiters(tmp_path: Path) -> None:
    plain = load(written(tmp_path, grades()), target_column="grade")
    for mark in ("utf-8", "utf-16-le"):
        text = '"sep=,"\n' + grades().replace("\n", ",,\n") + ",,,,,\n"
        found = load(written(tmp_path, text.encode(mark), "ends.csv"), target_column="grade")
        assert found.table == plain.table
        assert found.train_x.nan_to_num(-1).equal(plain.train_x.nan_to_num(-1))


@settings(max_examples=30)
@given(st.lists(st.text(max_size=6).map(str.strip), min_size=1, max_size=30))
def test_any_column_is_numbers_words_or_one_told_fault(texts: list[str]) -> None:
    cells = column(texts, delimiter=",")
    try:
        found = csv_values.values(cells, 0)
    except DataError as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert told.startswith("x.csv, line ")
        return
    if found.numbers is None and found.present:
        place = csv_values.places(cells, 0, found.texts, csv_values.words(found.present))
        assert [csv_values.words(found.present)[int(p)] for p in place if not math.isnan(p)] == found.present
