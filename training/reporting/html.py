"""The small parts of a page, each a function from texts to HTML.

What a function takes is HTML unless its docstring says text; whoever passes foreign words escapes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """`key` is its anchor and its word in the page's menu, `title` is text; with an empty `body` it is left out."""

    key: str
    title: str
    body: str


def note(words: str) -> str:
    """A paragraph in small print: what is seen below it and how it was obtained."""
    return f'<p class="note">{words}</p>'


def figure(inside: str, *, title: str = "", caption: str = "") -> str:
    head = f"<h3>{title}</h3>" if title else ""
    return f"<figure>{head}{inside}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>"


def charts(drawings: Sequence[str], *, columns: str = "") -> str:
    """Drawings, or figures, beside each other; empty ones are left out. `columns` "two" makes them smaller."""
    inside = "".join(one if one.startswith("<figure") else figure(one) for one in drawings if one)
    return f'<div class="charts{f" {columns}" if columns else ""}">{inside}</div>' if inside else ""


def beside(left: str, plot: str) -> str:
    """A table, or other content, with a plot to its right where there is room."""
    return f'<div class="side">{left}<div class="plot">{plot}</div></div>'


def plane_and_words(plane: str, words: str) -> str:
    """A large square chart with a text to its right where there is room."""
    return f'<div class="side"><div class="plane">{plane}</div><p>{words}</p></div>'


def stack(blocks: Sequence[str]) -> str:
    """Pictures below each other, with a small gap."""
    return f'<div class="stack">{"".join(blocks)}</div>'
