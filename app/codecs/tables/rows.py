"""Rows of a table, in every form that they come in, as the one float32 row that the graph takes of each.

Pure functions; whatever comes, only `UnsupportedMedia` (415), `Unprocessable` (422) and `TooLarge` (413) leave. A cell
is named by its row and its column, e.g. `body.instances[3].hours`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.tables.cells import MOST, Cell, DateCell, NumberCell, WrongCell, cell_of
from app.codecs.tables.dates import Order, first_of, moment
from app.codecs.tables.delimited import csv_header, csv_rows, csv_text
from app.codecs.tables.dialect import Decimal, numeral, settled
from app.core.errors import ClientError, invalid, shown
from app.core.manifest.table import CategoryColumn, DateColumn, NumberColumn, Table
from app.core.text import described, listed, unknown

_OPENED_BY: Final = {"]": "[", ")": "("}
_NUMERALS: Final = b"0123456789+-.eE,;\t\r\n "
_PIECE_BYTES: Final = 1 << 20  # looked through before another thread may have its turn
_NUMBERS: Final = frozenset({int, float})


@dataclass(frozen=True, slots=True)
class Rows:
    """The graph's input, and notes for the response.

    Attributes:
        values: float32 (N, F); NaN where a value is missing.
        notes: by row, only where there is one: `outside`, numbers that are not within what training saw;
            `imputed`, columns that had no value; `ignored`, columns that came and are no features.
    """

    values: NDArray[np.float32]
    notes: dict[int, dict[str, list[Any]]]


class TableReader:
    """Reads rows of one table. Prepared once: a table may have thousands of columns.

    Args:
        ignored: names of further columns that may come and change nothing, as the target.

    Every form raises Unprocessable, naming the cell: no number, one that float32 cannot hold or in another unit; an
    unknown category; a missing value in a column without which training saw no row.
    """

    def __init__(self, table: Table, *, ignored: Iterable[str] = ()) -> None:
        columns = table.columns
        self._ignored = {*table.ignored, *ignored} - {column.name for column in columns}
        self.columns = columns
        self._index = {column.name: i for i, column in enumerate(columns)}
        self._names = tuple(self._index)
        self._cells = tuple(cell_of(column) for column in columns)
        self._only_numbers = all(isinstance(column, NumberColumn) for column in columns)
        self._by_point = all(column.decimal == "." for column in columns if isinstance(column, NumberColumn))
        take: Callable[[dict[str, Any]], Any] = itemgetter(*self._names)
        self._take = take if len(columns) > 1 else lambda row: (take(row),)
        self._has_offset = any(not isinstance(column, CategoryColumn) and column.offset for column in columns)
        self._may_miss = np.array([column.missing for column in columns])
        self._offset = np.array([0.0 if isinstance(c, CategoryColumn) else c.offset for c in columns])
        spans = [(-np.inf, np.inf) if isinstance(c, CategoryColumn) else (c.low, c.high) for c in columns]
        places = np.arange(len(columns))
        # Compared as float32: what float32 rounds to a bound is within it.
        self._low, self._high = (
            (np.array(bound, np.float64) - self._offset).astype(np.float32) for bound in zip(*spans, strict=True)
        )
        self._spans = [
            {"feature": c.name, "value": 0.0, "low": low, "high": high, "unit": getattr(c, "unit", "")}
            for c, low, high in zip(
                columns, self._shown(self._low, places), self._shown(self._high, places), strict=True
            )
        ]

    def records(self, instances: Sequence[object], *, subject: str) -> Rows:
        """Rows of JSON: objects by the columns' names, or lists in the columns' order.

        Raises:
            Unprocessable: see the class; or an unknown name, a list of another length, a row that is neither.
        """
        values = self._plain(instances)
        ignored = None
        if values is None:
            values = np.array([self._row(row, f"{subject}[{i}]") for i, row in enumerate(instances)], np.float64)
            ignored = {i: self._not_features(row) for i, row in enumerate(instances)} if self._ignored else None
        return self._finished(values, subject, ignored=ignored)

    def csv(self, data: bytes, parameters: str, *, max_rows: int, subject: str) -> Rows:
        """Rows of a CSV file; its header names the columns in any order, with their units or without: `hours [h]`.

        Raises:
            UnsupportedMedia, TooLarge, Unprocessable: see the class and app/codecs/tables/delimited.py; or a header
                with a name that is not known, that stands there twice or that has another unit, or without a column
                that must be there.
        """
        text = csv_text(data, parameters, subject=subject)
        header, delimiter = csv_header(text, self._knows)
        order, ignored = self._order(header, subject)
        rows, lines = csv_rows(text, delimiter, len(header), max_rows=max_rows, subject=subject)
        values = self._numerals(rows, order) if self._by_point and _are_numerals(data) else None
        if values is None:
            cells = self._in_file(rows, lines, order, subject)
            values = np.array(
                [
                    self._read([None if at is None else row[at] for at in order], f"{subject}[{i}]", lines[i], cells)
                    for i, row in enumerate(rows)
                ],
                np.float64,
            )
        return self._finished(values, subject, lines, dict.fromkeys(range(len(rows)), ignored) if ignored else None)

    def rows(self, values: NDArray[np.float32], *, subject: str) -> Rows:
        """Rows (N, F) as the graph takes them: numbers less their column's offset, categories as their indices.

        Raises:
            Unprocessable: see the class; or an index without a category.
        """
        for j, column in enumerate(self.columns):
            if not isinstance(column, CategoryColumn):
                continue
            most = len(column.categories) - 1
            of = values[:, j]
            wrong = ~((of >= 0) & (of <= most) & (of == np.floor(of)) | np.isnan(of))
            if wrong.any():
                i = int(np.argmax(wrong))
                expected = f"a whole number from 0 to {most}, the index of a category"
                raise WrongCell(expected, str(of[i])).at(f"{subject}[{i}].{column.name}")
        return self._finished(values, subject, less_offset=True)

    def _plain(self, instances: Sequence[object]) -> NDArray[np.float64] | None:
        """The values where all rows are records or lists of nothing but numbers; None where they are anything else."""
        if not self._only_numbers:
            return None
        width, take = len(self._names), self._take
        found: list[Any] = []
        for row in instances:
            if type(row) is dict and len(row) == width:
                try:
                    cells = take(row)
                except KeyError:
                    return None
            elif type(row) is list and len(row) == width:
                cells = row
            else:
                return None
            if not _NUMBERS.issuperset(map(type, cells)):
                return None
            found.append(cells)
        try:
            values = np.array(found, np.float64)
        except OverflowError:  # an integer beyond any float
            return None
        return values if (np.abs(values) <= MOST).all() else None

    def _numerals(self, rows: Sequence[Sequence[str]], order: Sequence[int | None]) -> NDArray[np.float64] | None:
        """As `_plain`, of cells that hold nothing but plain numbers, or nothing."""
        filled = [at for at in order if at is not None]
        if self._only_numbers and len(filled) == len(order):
            with suppress(ValueError):  # an empty cell, say
                values = np.array([list(map(float, row)) for row in rows])[:, filled]
                if (np.abs(values) <= MOST).all():
                    return values
        return None

    def _row(self, row: object, spot: str) -> list[float]:
        width = len(self._names)
        if isinstance(row, dict):
            if not self._index.keys() >= row.keys() - self._ignored:
                name = next(str(name) for name in row if name not in self._index and name not in self._ignored)
                raise unknown("feature", name, self._names, subject=f"{spot}.{name[:100]}")
            return self._read(map(row.get, self._names), spot)
        if isinstance(row, list) and len(row) == width:
            return self._read(row, spot)
        if isinstance(row, list):
            expected, got = f"{width} values, {listed(self._names)}", f"{len(row)} values"
            raise invalid(spot, expected=expected, got=got, verb="has", rule="expected")
        expected = f"an object by name, or a list of {width} values: {listed(self._names)}"
        raise WrongCell(expected, described(row)).at(spot)

    def _not_features(self, row: object) -> list[str]:
        return [name for name in row if name in self._ignored] if isinstance(row, dict) else []

    def _in_file(
        self, rows: Sequence[Sequence[str]], lines: Sequence[int], order: Sequence[int | None], subject: str
    ) -> Sequence[Cell]:
        """The readers of the columns' cells in this file: where one cell leaves open what a comma is, others may tell.

        Raises: Unprocessable, where one column has decimals behind points and behind commas.
        """
        texts = {
            j: [row[at] for row in rows]
            for j, (at, cell) in enumerate(zip(order, self._cells, strict=True))
            if at is not None and isinstance(cell, NumberCell)
        }
        cells = self._with_orders(rows, order)
        if self._by_point and not any("," in text for column in texts.values() for text in column):
            return cells
        said = {j: self._settled(column, lines, f"{subject}[%d].{self._names[j]}") for j, column in texts.items()}
        decimals = {one.value for one in said.values() if one in (Decimal.POINT, Decimal.COMMA)}
        for j, one in said.items():
            cell = cells[j]
            assert isinstance(cell, NumberCell)
            if one in (Decimal.POINT, Decimal.COMMA):
                cells[j] = cell.with_decimal(one.value)
            elif one is Decimal.OPEN and len(decimals) == 1:
                cells[j] = cell.with_decimal(*decimals)
        return cells

    def _with_orders(self, rows: Sequence[Sequence[str]], order: Sequence[int | None]) -> list[Cell]:
        """The cells' readers, those of dates by what stands first in this file, where that is told."""
        cells = list(self._cells)
        for j, (at, cell) in enumerate(zip(order, cells, strict=True)):
            if at is not None and isinstance(cell, DateCell):
                # What begins with its year says nothing of it.
                texts = (row[at] for row in rows if not row[at][:4].isdecimal())
                said = first_of(one for text in texts if (one := moment(text)) is not None)
                if said in (Order.DAY, Order.MONTH):
                    cells[j] = cell.with_order(said.value)
        return cells

    def _settled(self, texts: Sequence[str], lines: Sequence[int], spot: str) -> Decimal:
        numerals = {i: one for i, text in enumerate(texts) if (one := numeral(text)) is not None}
        found = settled(numerals.values())
        if found is Decimal.NEITHER:
            i = next(i for i, one in numerals.items() if one.comma is None)
            j = next(j for j, one in numerals.items() if one.point is None)
            hint = f" as in line {lines[i]}, {described(texts[i])}"
            raise WrongCell("decimals behind a point" + hint, described(texts[j])).at(spot % j, lines[j])
        return found

    def _read(
        self, values: Iterable[object], spot: str, line: int | None = None, cells: Sequence[Cell] | None = None
    ) -> list[float]:
        read: list[float] = []
        try:
            for cell, value in zip(self._cells if cells is None else cells, values, strict=True):
                read.append(cell(value))
        except WrongCell as wrong:
            raise wrong.at(f"{spot}.{self._names[len(read)]}", line) from None
        return read

    def _finished(
        self,
        values: NDArray[np.floating[Any]],
        subject: str,
        lines: Sequence[int] | None = None,
        ignored: Mapping[int, list[str]] | None = None,
        *,
        less_offset: bool = False,
    ) -> Rows:
        less = values if less_offset or not self._has_offset else values - self._offset
        given = less.astype(np.float32)
        missing = np.isnan(given)
        # Comparisons with NaN are false.
        outside = (given < self._low) | (given > self._high)
        if (missing & ~self._may_miss).any():
            i, j = map(int, np.argwhere(missing & ~self._may_miss)[0])
            wrong = WrongCell(self._cells[j].expected, "missing", hint="; training saw no row without it")
            raise wrong.at(f"{subject}[{i}].{self._names[j]}", lines[i] if lines else None)
        notes: dict[int, dict[str, list[Any]]] = {}
        at = np.nonzero(outside)
        for i, j, value in zip(*(axis.tolist() for axis in at), self._shown(less[at], at[1]), strict=True):
            notes.setdefault(i, {}).setdefault("outside", []).append({**self._spans[j], "value": value})
        for i, j in np.argwhere(missing).tolist():
            notes.setdefault(i, {}).setdefault("imputed", []).append(self._names[j])
        for i, names in (ignored or {}).items():
            if names:
                notes.setdefault(i, {})["ignored"] = names
        return Rows(given, notes)

    def _shown(self, values: NDArray[np.floating[Any]], columns: NDArray[np.intp]) -> list[float | str]:
        """Values (n,) of those columns, less their offset, as whoever sent them writes them."""
        found: list[float | str] = []
        for value, plain, j in zip(values.tolist(), _written(values), columns.tolist(), strict=True):
            column, offset = self.columns[j], float(self._offset[j])
            if isinstance(column, DateColumn):
                found.append(column.written(value + offset) if np.isfinite(value) else value)
            else:
                found.append(plain + offset if offset else plain)
        return found

    def _named(self, cell: str) -> tuple[int | None, str | None]:
        """The column that a header's cell names, and the unit that it gives with it."""
        if cell in self._index:
            return self._index[cell], None
        bracket = _OPENED_BY.get(cell[-1:])
        if bracket is None:
            return None, None
        name, _, unit = cell[:-1].rpartition(bracket)
        return (None, None) if cell[-1] in unit else (self._index.get(name.rstrip()), unit)

    def _knows(self, cell: str) -> bool:
        return self._named(cell)[0] is not None

    def _order(self, header: Sequence[str], subject: str) -> tuple[list[int | None], list[str]]:
        """For each column its cell in the rows, None where the file has none; and the names that are no features.

        The first column may have no name, as that of a data frame's index.
        """
        order: list[int | None] = [None] * len(self._names)
        ignored = []
        if not any(map(self._knows, header)):
            raise self._no_header(header, subject)
        for at, cell in enumerate(header):
            j, unit = self._named(cell)
            spot = f"{subject}.header.{cell[:100]}"
            if j is None and (cell in self._ignored or (not cell and at == 0)):
                ignored.append(cell)
                continue
            if j is None:
                raise unknown("feature", cell, self._names, subject=spot)
            if order[j] is not None:
                name = self._names[j]
                raise invalid(spot, expected="once", got="twice", detail=f"the header has '{name}' twice")
            if unit is not None:
                self._check_unit(j, unit, f"{subject}.header.{self._names[j]}")
            order[j] = at
        for j, column in enumerate(self.columns):
            if order[j] is None and not column.missing:
                raise invalid(
                    f"{subject}.header.{column.name}",
                    expected=listed(self._names),
                    got=listed([shown(cell) for cell in header]),
                    detail=f"the header has no '{column.name}', and training saw no row without it",
                )
        return order, ignored

    def _check_unit(self, j: int, unit: str, spot: str) -> None:
        cell = self._cells[j]
        if not isinstance(cell, NumberCell):
            raise WrongCell("no unit: it is a category", shown(unit), verb="has the unit").at(spot)
        try:
            cell.check_unit(unit)
        except WrongCell as wrong:
            raise wrong.at(spot) from None

    def _no_header(self, header: Sequence[str], subject: str) -> ClientError:
        expected = f"a first line with the names of the columns: {listed(self._names)}"
        got = listed([shown(cell[:40]) for cell in header[:8]]) or "no names"
        return invalid(
            f"{subject}.header", expected=expected, got=got, where=f"{subject}:", verb="begins with", rule="expected"
        )


def _written(values: NDArray[np.floating[Any]]) -> list[float]:
    """Numbers (n,) with no more digits than they have: as float64, the float32 nearest to 0.1 would be
    0.10000000149011612."""
    return [float(str(v)) if abs(v) < 2**24 else float(v) for v in values] if values.itemsize < 8 else values.tolist()


def _are_numerals(data: bytes) -> bool:
    """Whether below the first line there is nothing but what plain numbers are made of.

    Python would also take `1_000`, `inf` and the digits of other scripts.
    """
    end = data.find(b"\n") + 1
    pieces = range(end, len(data), _PIECE_BYTES)
    return end > 0 and not any(data[at : at + _PIECE_BYTES].translate(None, _NUMERALS) for at in pieces)
