"""What was tried before a family's defaults were chosen: notes in its `ablations.md`, one heading per data set.

Of Markdown a note may hold paragraphs, lists of lines that start with `- `, tables of `| a | b |`, and code in
backquotes.
"""

from __future__ import annotations

import re
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Final

from training.reporting.html import Section, note
from training.reporting.table import table, wide

FILE: Final = "ablations.md"


def tried(family: Path, heading: str) -> Section:
    """The section of the notes below `## heading` in `family/ablations.md`; an empty one where there is none."""
    return Section("tried", "What was tried", _html(_below(family / FILE, heading)))


def _below(path: Path, heading: str) -> list[str]:
    """The lines below a heading, up to the next one."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if f"## {heading}" not in lines:
        return []
    rest = lines[lines.index(f"## {heading}") + 1 :]
    end = next((i for i, line in enumerate(rest) if line.startswith("## ")), len(rest))
    return rest[:end]


def _html(lines: list[str]) -> str:
    blocks = []
    for kind, group in groupby(lines, key=_kind):
        block = list(group)
        if kind == "text":
            blocks.append(note(_text(" ".join(block))))
        elif kind == "list":
            items = "\n".join(block).removeprefix("- ").split("\n- ")
            blocks.append(f"<ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>")
        elif kind == "table":
            blocks.append(_table(block))
    return "".join(blocks)


def _text(lines: str) -> str:
    return re.sub("`(.+?)`", r"<code>\1</code>", escape(" ".join(lines.split())))


def _kind(line: str) -> str:
    """A line of a list goes on in lines that start with two spaces."""
    if not line.strip():
        return "gap"
    return "table" if line.startswith("|") else "list" if line.startswith(("- ", "  ")) else "text"


def _table(lines: list[str]) -> str:
    titles, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return table(titles, [[wide(first), *others] for first, *others in rows])
