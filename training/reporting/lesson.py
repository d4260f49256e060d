"""The page of a lesson: what was found first, then the charts; nothing on it but what was measured just now."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from training.reporting.charts import COLOURS
from training.reporting.html import Section
from training.reporting.page import document, header, menu_and_sections


def key(names: Sequence[str]) -> str:
    """What the colours of the charts below mean, in their order."""
    spans = "".join(f'<span class="{c}">{escape(name)}</span>' for c, name in zip(COLOURS, names, strict=False))
    return f'<p class="key">{spans}</p>'


def write(folder: Path, *, title: str, claim: str, command: str, sections: Sequence[Section]) -> Path:
    """Write `folder/index.html` and return its path. `claim` is HTML. Raises `OSError` where it cannot be written."""
    path = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(
        document(
            title,
            f"{header('A lesson, measured anew each time', title, claim)}"
            f'<div class="commands"><h3>Measure it again</h3><pre>{escape(command)}</pre></div>'
            f"{menu_and_sections(sections)}",
        ),
        encoding="utf-8",
    )
    return path
