"""CSV (RFC 4180) as cells: a header with names in any order, then rows; commas, semicolons, tabs or bars between.

Pure functions; nothing is built before it is counted. What is not about errors of a request serves training as well.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from app.core.errors import ClientError, TooLarge, UnsupportedMedia, invalid, over_limit, shown

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS: Final = (",", ";", "\t", "|")
CHARSETS: Final = ("utf-8", "utf-16", "us-ascii", "iso-8859-1", "windows-1252")
MAX_CELLS: Final = 1 << 20
MAX_LINE: Final = 4 << 20
_PIECE_BYTES: Final = 1 << 20
# Possessive and bounded: of what has no end, it neither goes back over it nor reads all of it, holding the interpreter.
_LINE: Final = re.compile(rf"[^\r\n]{{0,{MAX_LINE}}}+(\r\n|[\r\n]|\Z)?")

_HINT: Final = re.compile(r"\s*\"?sep=([,;|\t])\"?[,;|\t]*[ ]*(?:\r\n|\r|\n|\Z)", re.IGNORECASE)

Cells = list[str]


def decoded(data: bytes) -> tuple[str, str]:
    """The text of a file that says no charset, and which it is taken for.

    UTF-8 or UTF-16 with a mark or without one; what is neither is Windows-1252, in which older spreadsheets write.

    Raises: UnicodeDecodeError.
    """
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if marked or (len(data) > 1 and len(data) % 2 == 0 and (data[0] == 0) != (data[1] == 0)):
        encoding = "utf-16" if marked else "utf-16-be" if data[0] == 0 else "utf-16-le"
        return data.decode(encoding), encoding
    try:
        return data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("cp1252"), "cp1252"


def without_hint(text: str) -> tuple[str, str | None]:
    """The text with an empty line in place of a spreadsheet's `sep=;`, and the delimiter that it names, or None."""
    found = _HINT.match(text)
    return ("\n" + text[found.end() :], found[1]) if found else (text, None)


def fitted(cells: Sequence[str], width: int) -> Sequence[str]:
    """A row without the empty cells that delimiters at its end make beyond so many."""
    beyond = cells[width:]
    return cells[:width] if beyond and not any(cell.strip() for cell in beyond) else cells


def csv_text(data: bytes, parameters: str, *, subject: str) -> str:
    """The text of a file, counted and decoded.

    Args:
        parameters: what stands behind `text/csv;` in the content type: `charset`, UTF-8 where there is none, `header`.
        subject: what to call the file in errors.

    Raises:
        TooLarge: more than MAX_CELLS cells.
        UnsupportedMedia: another charset, or no header.
        Unprocessable: not of that charset.
    """
    _check_size(data, subject)
    text, _ = without_hint(_text(data, parameters, subject))
    return text


def csv_header(text: str, knows: Callable[[str], bool]) -> tuple[Cells, str]:
    """The bare cells of the first line that is not empty, and the delimiter: the one that makes most known names.

    Cells without a name at its end are left out. No cells where there is no such line, or none whose quotes are whole.
    """
    headers = [(_header(text, delimiter), delimiter) for delimiter in DELIMITERS]
    return max(headers, key=lambda found: sum(map(knows, found[0])))


def csv_rows(text: str, delimiter: str, width: int, *, max_rows: int, subject: str) -> tuple[list[Cells], list[int]]:
    """The rows below the header, and the line that each ends at. Lines with nothing but delimiters are passed over.

    Args:
        width: cells of the header.
        max_rows: greatest number of rows.

    Raises:
        TooLarge: more than `max_rows` rows.
        Unprocessable: broken quotes, a row with more or fewer cells than the header, no rows.
    """
    reader = _reader(text, delimiter)
    rows: list[Cells] = []
    lines: list[int] = []
    filled = (cells for cells in reader if any(map(str.strip, cells)))
    try:
        next(filled, None)  # the header
        for found in filled:
            cells = found if len(found) == width else list(fitted(found, width))
            if len(cells) != width:
                spot, got = f"{subject}[{len(rows)}]", f"{len(cells)} cells"
                detail = f"{spot} (line {reader.line_num}) has {got}, the header has {width}"
                raise invalid(spot, expected=f"{width} cells", got=got, detail=detail)
            if len(rows) == max_rows:
                raise over_limit(subject, got=f"more than {max_rows} rows", most=max_rows, unit="rows")
            rows.append(cells)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise _broken(subject, reader.line_num, error) from None
    if not rows:
        raise invalid(
            subject, expected="one row or more", got="no rows", detail=f"{subject}: has no rows below its header"
        )
    return rows, lines


def _check_size(data: bytes, subject: str) -> None:
    """Every cell ends at one of these signs; in quotes they count as well."""
    cells = 0
    for at in range(0, len(data), _PIECE_BYTES):
        cells += sum(data.count(sign, at, at + _PIECE_BYTES) for sign in (b",", b";", b"\t", b"|", b"\n", b"\r"))
    if cells > MAX_CELLS:
        raise invalid(
            subject,
            expected=f"at most {MAX_CELLS} cells",
            got=f"{cells} cells",
            detail=f"{subject}: has {cells} cells, at most {MAX_CELLS} are taken",
            error=TooLarge,
        )


def _text(data: bytes, parameters: str, subject: str) -> str:
    given = {}
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        given[name.strip().lower()] = value.strip().strip('"').lower()
    if given.get("header") == "absent":
        expected = "a first line with the names of the columns"
        raise invalid(
            "header.content-type",
            expected=expected,
            got="header=absent",
            detail=f"header=absent is not taken, expected {expected}",
            error=UnsupportedMedia,
        )
    if "charset" not in given:
        return _without_charset(data, subject)
    charset = given["charset"]
    charset = {"utf8": "utf-8", "ascii": "us-ascii", "latin-1": "iso-8859-1", "latin1": "iso-8859-1"}.get(
        charset, charset
    )
    if charset not in CHARSETS:
        raise invalid(
            "header.content-type",
            expected=", ".join(CHARSETS),
            got=shown(charset),
            detail=f"charset {shown(charset)} is not taken, send one of {', '.join(CHARSETS)}",
            error=UnsupportedMedia,
        )
    try:
        return data.decode("utf-8-sig" if charset == "utf-8" else charset)
    except UnicodeDecodeError as error:
        got = f"byte 0x{data[error.start]:02x} at {error.start}"
        raise invalid(
            subject,
            expected=f"text in {charset}",
            got=got,
            detail=f"{subject}: is not {charset}: {got}; name another charset as text/csv; charset=windows-1252",
        ) from None


def _without_charset(data: bytes, subject: str) -> str:
    try:
        text, _ = decoded(data)
    except UnicodeDecodeError as error:
        got = f"byte 0x{data[error.start]:02x} at {error.start}"
        expected = "text in UTF-8, UTF-16 or Windows-1252"
        raise invalid(subject, expected=expected, got=got, detail=f"{subject}: is not {expected}: {got}") from None
    return text


def _reader(text: str, delimiter: str) -> Reader:
    return csv.reader(_lines(text), delimiter=delimiter, strict=True, skipinitialspace=True)


def _lines(text: str) -> Iterator[str]:
    """One after another: the whole of a large file is copied nowhere, and a line holds the interpreter no longer than
    it takes to read that many characters."""
    for match in _LINE.finditer(text):
        if match[1] is None:
            raise csv.Error(f"a line of more than {MAX_LINE} characters")
        if line := match[0]:
            yield line


def _header(text: str, delimiter: str) -> Cells:
    """Empty where its quotes make no sense with this delimiter."""
    try:
        found = next((cells for cells in _reader(text, delimiter) if any(map(str.strip, cells))), [])
        cells = [cell.strip() for cell in found]
        while cells and not cells[-1]:
            cells.pop()
        return cells
    except csv.Error:
        return []


def _broken(subject: str, line: int, error: csv.Error) -> ClientError:
    return invalid(
        subject,
        expected="CSV as in RFC 4180",
        got=str(error),
        detail=f"{subject}: is no whole CSV: line {line}: {error}",
    )
