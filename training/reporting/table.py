"""Tables from rows of cells: the one place where a page's tables are built (but for the confusion matrix)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal


@dataclass(frozen=True)
class Cell:
    """HTML with a line of small print below it. `wide` cells wrap, `label` cells are cut off where they are long."""

    html: str
    small: str = ""
    style: Literal["", "wide", "label"] = ""
    title: str = ""  # text shown on hovering


Row = Sequence[Cell | str | int | None]
"""A str is text, an int is shown with thousands separators, None as a dash; `Cell` holds HTML."""


def wide(words: str, small: str = "") -> Cell:
    """A text that wraps; `small` is HTML below it."""
    return Cell(escape(words), small, "wide")


def label(words: str) -> Cell:
    """A name of any length, cut off where it is too long and shown whole on hovering."""
    return Cell(escape(words), style="label", title=words)


def table(titles: Sequence[str], rows: Iterable[Row]) -> str:
    """A table that scrolls in itself, as HTML.

    `titles` are text; one that starts with `<` sets its column to the left, as the first column always is.
    """
    left = [title.startswith("<") for title in titles]
    head = "".join(
        f'<th class="left">{escape(title[1:])}</th>' if at_left else f"<th>{escape(title)}</th>"
        for title, at_left in zip(titles, left, strict=True)
    )
    body = "".join(
        f"<tr>{''.join(_cell(value, at_left) for value, at_left in zip(row, left, strict=True))}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Cell | str | int | None, at_left: bool) -> str:
    if value is None:
        value = Cell("–")
    elif isinstance(value, int):
        value = Cell(f"{value:,}")
    elif isinstance(value, str):
        value = Cell(escape(value))
    names = " ".join(name for name in (value.style, "left" if at_left else "") if name)
    name = f' class="{names}"' if names else ""
    title = f' title="{escape(value.title)}"' if value.title else ""
    return f"<td{name}{title}>{value.html}{f'<small>{value.small}</small>' if value.small else ''}</td>"
