"""Any CSV file as a table: which columns are numbers and which are words, and which one is the target."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.manifest.table import CategoryColumn, DateColumn, NumberColumn, Table, TableColumn
from app.core.text import did_you_mean, listed
from training.data import csv_values
from training.data.base import DataError
from training.data.csv_cells import Cells, read_cells
from training.data.csv_values import AS_WRITTEN, Dates, Reading, Values
from training.data.table import TableDataset, category, copies_of, date, folds, number, target

FEWEST_ROWS: Final = 30
FEWEST_OF_A_CLASS: Final = 5  # one for each fold
MANY_ROWS: Final = 5000  # from here on a fifth is a test part, and nothing is nested
MANY_VALUES: Final = 20  # different numbers of a target; more than so many is a regression
TOTALS: Final = frozenset(
    {"total", "totals", "grand total", "sum", "summe", "gesamt", "somme", "soma", "suma", "totale"}
)
LEAST_LEFT: Final = 0.9  # of the different values of a column, in float32
SPLIT_SEED: Final = 7

Task = Literal["classify", "regress"]


def load(
    spec: str, *, target_column: str | None, task: Task | None = None, reading: Reading = AS_WRITTEN
) -> TableDataset:
    """The table in the CSV file `spec`, whose column `target_column` is to be predicted from all others; `reading` says
    what the file leaves open.

    Columns that cannot help are left out and named in the note: those without a value, those with one value only,
    those that number the rows, and texts that are names rather than categories.

    Raises: DataError.
    """
    cells = read_cells(Path(spec))
    cells, notes = _without_totals(cells)
    at = _place(cells, target_column)
    reading = replace(reading, decimal=reading.decimal or csv_values.decimal_of(cells))
    answer = csv_values.values(cells, at, reading, dates=False)
    cells, answer = _with_answers(cells, at, answer, notes)
    if answer.numbers is None and (task == "regress" or len(set(answer.present)) > MANY_VALUES):
        _check_no_dates(cells, at, answer)
    task = task or _task_of(answer)
    columns, x, ignored = _columns(cells, at, notes, reading)
    header = cells.headers[at]
    labels: tuple[str, ...] = ()
    if task == "regress":
        y = torch.from_numpy(_numbers_of(cells, at, answer).astype(np.float32))
        if bool((y == y[0]).all()):
            where = f"{cells.path}, column '{header.written}'"
            raise DataError(f"{where}: is {y[0]:g} in every row, expected different numbers")
    else:
        labels, place = _labels(cells, at, answer)
        y = torch.from_numpy(place)
    copies = copies_of(torch.from_numpy(x))
    alike = len(y) - len(np.unique(copies))
    if alike:
        notes.append(f"{alike} rows are copies of others; copies are trained on, or measured on, together")
    test = _test_rows(y, copies)
    train = np.setdiff1d(np.arange(len(y)), test)
    name = Path(spec).stem
    name_of = header.name if task == "regress" else header.written
    return TableDataset(
        name=_slug(name),
        title=name,
        table=Table(columns=tuple(_column(one, x[train, j]) for j, one in enumerate(columns)), ignored=ignored),
        target=target(name_of, y[train].numpy(), unit=answer.unit) if task == "regress" else None,
        labels=labels,
        target_column=name_of,
        train_x=torch.from_numpy(x[train]),
        train_y=y[train],
        test_x=torch.from_numpy(x[test]),
        test_y=y[test],
        source=f"the file {Path(spec).name}",
        licence="not stated",
        note="; ".join(notes),
    )


def load_for(
    spec: str, table: Table, *, target_column: str, labels: tuple[str, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (N, F) and answers (N,) of another file, read by the columns that a model declares.

    Raises: DataError, also where a column is not there or holds a category that the model does not know.
    """
    cells, _ = _without_totals(read_cells(Path(spec)))
    at = _place(cells, target_column)
    decimal = csv_values.decimal_of(cells)
    answer = csv_values.values(cells, at, Reading(decimal=decimal), dates=False)
    cells, answer = _with_answers(cells, at, answer, [])
    x = np.empty((len(cells.rows), len(table.columns)), np.float32)
    for j, column in enumerate(table.columns):
        place = _place(cells, column.name)
        own = Reading(
            decimal=decimal or (column.decimal if isinstance(column, NumberColumn) else "."),
            first=column.order if isinstance(column, DateColumn) else None,
        )
        found = csv_values.values(cells, place, own, dates=isinstance(column, DateColumn))
        if isinstance(column, CategoryColumn):
            x[:, j] = csv_values.places(cells, place, found.texts, column.categories)
        elif found.present:
            x[:, j] = _numbers_of(cells, place, found) - column.offset
        else:
            x[:, j] = np.nan
    if labels:
        y: NDArray[Any] = csv_values.places(cells, at, answer.texts, labels).astype(np.int64)
    else:
        y = _numbers_of(cells, at, answer).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(y)


@dataclass(frozen=True)
class _Found:
    """A column to learn from; `words` are its categories, empty for numbers."""

    name: str
    words: tuple[str, ...] = ()
    unit: str = ""
    decimal: Literal[".", ","] = "."
    grouped: bool = False
    dates: Dates | None = None
    offset: float = 0.0


def _place(cells: Cells, name: str | None) -> int:
    names = [header.name for header in cells.headers]
    written = [header.written for header in cells.headers]
    if name is None:
        raise DataError(
            f"{cells.path}: which column is to be predicted? Name it with --target; there are {listed(written)}"
        )
    for known in (names, written):
        if name in known:
            return known.index(name)
    raise DataError(f"{cells.path}: has no column '{name}'{did_you_mean(name, names)}; there are {listed(written)}")


def _without_totals(cells: Cells) -> tuple[Cells, list[str]]:
    """The rows without a spreadsheet's last one, if that has the sums of those above; and what there is to say."""
    notes = [] if cells.encoding != "cp1252" else ["not UTF-8, read as Windows-1252"]
    last = cells.rows[-1]
    summed = next((j for j, cell in enumerate(last) if cell.casefold().rstrip(":") in TOTALS), None)
    if summed is None or sum(row[summed] == last[summed] for row in cells.rows) > 1 or len(cells.rows) == 1:
        return cells, notes
    notes.append(f"the last row left out, '{last[summed]}' in line {cells.lines[-1]}")
    return replace(cells, rows=cells.rows[:-1], lines=cells.lines[:-1]), notes


def _with_answers(cells: Cells, at: int, answer: Values, notes: list[str]) -> tuple[Cells, Values]:
    """Only the rows whose target is there, and a word on the others."""
    keep = [i for i, text in enumerate(answer.texts) if text is not None]
    name, total = cells.headers[at].written, len(cells.rows)
    if not keep:
        raise DataError(f"{cells.path}, column '{name}': has no value in {total} rows, so there is nothing to learn")
    if len(keep) < FEWEST_ROWS:
        raise DataError(f"{cells.path}: has {len(keep)} rows with a value of '{name}', expected {FEWEST_ROWS} or more")
    if len(keep) < total:
        notes.append(f"{total - len(keep)} rows without a value of {name} left out")
    rows, lines = [cells.rows[i] for i in keep], [cells.lines[i] for i in keep]
    return replace(cells, rows=rows, lines=lines), answer.of(keep)


def _task_of(answer: Values) -> Task:
    """Regression where numbers have fractions or many values."""
    if answer.numbers is None:
        return "classify"
    different = np.unique(answer.numbers)
    fractions = bool((different != np.round(different)).any())
    return "regress" if len(different) > MANY_VALUES or (fractions and len(different) > 2) else "classify"


def _numbers_of(cells: Cells, at: int, found: Values) -> NDArray[np.float64]:
    if found.numbers is None:
        row = next(i for i, text in enumerate(found.texts) if text is not None and not _is_number(cells, text))
        raise DataError(f"{cells.at(row, at)}: '{found.texts[row]}' is not a number, as a regression needs")
    return found.numbers


def _check_no_dates(cells: Cells, at: int, answer: Values) -> None:
    if csv_values.are_dates(answer.present):
        raise DataError(
            f"{cells.path}, column '{cells.headers[at].written}': has dates, as '{answer.present[0]}', and what is "
            "predicted is a number or one of a few words; write days since some day, or the month"
        )


def _is_number(cells: Cells, text: str) -> bool:
    one = Cells(cells.path, cells.delimiter, cells.headers[:1], [[text]], [1], cells.encoding)
    return csv_values.values(one, 0, dates=False).numbers is not None


def _labels(cells: Cells, at: int, answer: Values) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    labels = csv_values.words(answer.present)
    where = f"{cells.path}, column '{cells.headers[at].written}'"
    if len(labels) < 2:
        raise DataError(f"{where}: is '{labels[0]}' in every row, expected two classes or more")
    counts = Counter(answer.present)
    few = min(labels, key=lambda label: counts[label])
    if counts[few] < FEWEST_OF_A_CLASS:
        hint = "; for numbers, --task regress predicts their value" if answer.numbers is not None else ""
        raise DataError(
            f"{where}: the class '{few[:60]}' has {counts[few]} rows, expected {FEWEST_OF_A_CLASS} or more of each "
            f"of the {len(labels)} classes{hint}"
        )
    if len(max(labels, key=len)) > 200:
        raise DataError(f"{where}: the class '{max(labels, key=len)[:40]}...' has more than 200 characters")
    return labels, csv_values.places(cells, at, answer.texts, labels).astype(np.int64)


def _columns(
    cells: Cells, at: int, notes: list[str], reading: Reading
) -> tuple[list[_Found], NDArray[np.float32], tuple[str, ...]]:
    """The columns that can help, their values (N, F), and the names of the others, the target's among them."""
    found, parts, left_out = [], [], []
    ignored: list[str] = []
    for j, header in enumerate(cells.headers):
        if j == at:
            ignored += dict.fromkeys([header.name, header.written])
            continue
        column = csv_values.values(cells, j, reading)
        reason = _why_not(column)
        if reason:
            left_out.append(f"'{header.written}' ({reason})")
            ignored += dict.fromkeys([header.name, header.written])
        elif column.numbers is not None:
            offset = _offset(column)
            found.append(
                _Found(header.name, (), column.unit, column.decimal, column.grouped, column.dates, offset)
                if column.dates is None
                else _Found(header.written, dates=column.dates, offset=offset)
            )
            parts.append(column.numbers - offset)
        else:
            words = csv_values.words(column.present)
            found.append(_Found(header.written, words))
            parts.append(csv_values.places(cells, j, column.texts, words))
    if left_out:
        notes.append("columns left out: " + ", ".join(left_out))
    if not found:
        raise DataError(f"{cells.path}: no column is left to learn from; left out: {', '.join(left_out)}")
    names = {one.name for one in found}
    return found, np.stack(parts, axis=1).astype(np.float32), tuple(one for one in ignored if one not in names)


def _why_not(column: Values) -> str:
    """Why a column cannot help, or nothing."""
    present = column.present
    if not present:
        return "no value in any row"
    if column.numbers is not None:
        if column.dates is None and csv_values.counts_rows(column.numbers):
            return "it numbers the rows"
        there = column.numbers[np.isfinite(column.numbers)]
        different, left = _different(there), _different((there - _offset(column)).astype(np.float32))
        if left < LEAST_LEFT * different:
            return f"its {different} different values are {left} in float32, with any offset"
        return "the same in every row" if np.ptp(there) == 0 else ""
    if len(set(present)) == 1:
        return "the same in every row" if len(present) == len(column.texts) else ""
    if csv_values.repeats_little(present):
        return f"names or prose, {len(set(present))} different texts in {len(present)} rows"
    return "words of more than 200 characters" if max(map(len, present)) > 200 else ""


def _different(values: NDArray[np.floating[Any]]) -> int:
    return len(np.unique(values))


def _offset(column: Values) -> float:
    """What is subtracted in float64 before float32 has to hold the rest: the middle of dates, and of numbers that
    float32 cannot tell apart."""
    assert column.numbers is not None
    there = column.numbers[np.isfinite(column.numbers)]
    if column.dates is None and _different(there.astype(np.float32)) >= LEAST_LEFT * _different(there):
        return 0.0
    return float(np.round(np.median(there)))


def _column(found: _Found, values: NDArray[np.float32]) -> TableColumn:
    if found.words:
        return category(found.name, values, found.words)
    if found.dates is not None:
        return date(found.name, values, order=found.dates.order, clock=found.dates.clock, offset=found.offset)
    return number(
        found.name, values, unit=found.unit, decimal=found.decimal, grouped=found.grouped, offset=found.offset
    )


def _test_rows(y: torch.Tensor, copies: NDArray[np.int64]) -> NDArray[np.int64]:
    """A fifth of many rows, of each class alike; none of a few."""
    if len(y) < MANY_ROWS:
        return np.zeros(0, np.int64)
    return np.flatnonzero(folds(y, 5, seed=SPLIT_SEED, copies=copies) == 0)


def _slug(name: str) -> str:
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_name)[:40].strip("-") or "table"
