"""A CSV file as text cells: its encoding, its delimiter and its shape; every fault with file, line and column."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.codecs.tables.delimited import DELIMITERS, decoded, fitted, without_hint
from training.data.base import DataError
from training.data.column_header import Header

if TYPE_CHECKING:
    from _csv import Reader

NAMES: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LOOKED_AT: Final = 200  # records that tell the delimiter
LONGEST_CELL: Final = 10_000


@dataclass(frozen=True)
class Cells:
    """The text of a table. `rows` (N, F) are stripped; `lines` (N,) say where each begins in the file."""

    path: str
    delimiter: str
    headers: tuple[Header, ...]
    rows: list[list[str]]
    lines: list[int]
    encoding: str

    def at(self, row: int, column: int) -> str:
        """Where a cell is, for an error: `grades.csv, line 7, column 'hours'`."""
        return f"{self.path}, line {self.lines[row]}, column '{self.headers[column].written}'"


def read_cells(path: Path) -> Cells:
    """Read a file with a line of names and one line per row; empty lines are passed over, and empty cells at line ends.

    Encodings are as `decoded` tells them. The delimiter is the one of a spreadsheet's line `sep=;`, or that by which
    most rows have as many cells as the header.

    Raises: DataError.
    """
    text, encoding = _text(path)
    text, hint = without_hint(text)
    delimiter = hint or _delimiter(path, text)
    records = _records(path, text, delimiter)
    if not records:
        raise DataError(f"{path}: is empty, expected a line of column names and rows below it")
    names, header_line = records[0]
    width = len(names)
    while width > 1 and all(len(fitted(record, width - 1)) < width for record, _ in records):
        width -= 1  # a last column without a name and without a value is that of delimiters at the ends of lines
    headers = _headers(path, names[:width], header_line)
    rows, lines = [], []
    for record, line in records[1:]:
        cells = fitted(record, len(headers))
        if len(cells) != len(headers):
            raise DataError(
                f"{path}, line {line}: has {len(record)} cells, the line of names has {len(headers)} "
                f"(with {NAMES[delimiter]} between them); put quotes around a cell that contains one"
            )
        rows.append([cell.strip() for cell in cells])
        lines.append(line)
    if not rows:
        raise DataError(f"{path}: has column names and no rows below them")
    return Cells(str(path), delimiter, headers, rows, lines, encoding)


def _text(path: Path) -> tuple[str, str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text, encoding = decoded(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{data[error.start]:02x} is neither UTF-8 nor {error.encoding}"
        raise DataError(f"{path}, line {line}: {what}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}, line {line}: has a zero byte, expected text")
    return text, encoding


def _reader(text: str, delimiter: str) -> Reader:
    csv.field_size_limit(LONGEST_CELL)
    return csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=delimiter != "\t"
    )


def _delimiter(path: Path, text: str) -> str:
    """The one by which the most records are as wide as the first, which has two cells at least."""
    best, best_score = "", (0.0, 0)
    for delimiter in DELIMITERS:
        try:
            widths = [len(record) for record in islice(_reader(text, delimiter), LOOKED_AT) if any(record)]
        except csv.Error:
            # Quotes that make sense with another delimiter only, or a fault that is reported once one is chosen.
            widths = _widths_before_fault(text, delimiter)
        if widths and widths[0] > 1:
            score = (Counter(widths)[widths[0]] / len(widths), widths[0])
            if score > best_score:
                best, best_score = delimiter, score
    if not best:
        names = next((line for line in text.splitlines() if line.strip()), "")
        if not names:
            raise DataError(f"{path}: is empty, expected a line of column names and rows below it")
        raise DataError(
            f"{path}: has one column, {names[:60]!r}; expected two or more, with commas, semicolons or tabs between"
        )
    return best


def _widths_before_fault(text: str, delimiter: str) -> list[int]:
    widths = []
    try:
        for record in islice(_reader(text, delimiter), LOOKED_AT):
            widths += [len(record)] * any(record)
    except csv.Error:
        widths.append(0)  # the faulty record agrees with none
    return widths


def _records(path: Path, text: str, delimiter: str) -> list[tuple[list[str], int]]:
    """Each record with the line that it begins in."""
    reader, found, line = _reader(text, delimiter), [], 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                found.append((record, line))
            line = reader.line_num + 1
    except csv.Error as error:
        what = str(error)
        if "field limit" in what:
            what = f"has a cell of more than {LONGEST_CELL:,} characters; a quote may not be closed"
        elif "unexpected end" in what:
            what = "opens a quote that is never closed"
        elif "expected after" in what:
            what = "has text behind a closing quote; a quote inside a cell is written twice"
        raise DataError(f"{path}, line {line}: {what}") from None
    return found


def _headers(path: Path, names: list[str], line: int) -> tuple[Header, ...]:
    headers = [Header.of(name) for name in names]
    for j, header in enumerate(headers):
        if len(header.written) > 200:
            raise DataError(
                f"{path}, line {line}: the name of column {j + 1} has {len(header.written)} characters, "
                "expected 200 at most"
            )
    if all(_is_number(name) for name in names):
        raise DataError(f"{path}, line {line}: has only numbers, expected the names of the columns")
    # The first column of numbered rows often has no name; an empty one at the end comes from a last delimiter.
    named = [
        header if header.written else Header(f"column {j + 1}", f"column {j + 1}") for j, header in enumerate(headers)
    ]
    for text, count in Counter(header.written for header in named).items():
        if count > 1:
            raise DataError(f"{path}, line {line}: {count} columns are called '{text}', expected different names")
    bare = Counter(header.name for header in named)
    return tuple(h if bare[h.name] == 1 else Header(h.written, h.written) for h in named)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
