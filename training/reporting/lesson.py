"""The page of a lesson: what was found first, then the pictures; nothing on it but what was measured just now."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from training.reporting.charts import Colour
from training.reporting.page import Section, document

COLOURS: Final[tuple[Colour, ...]] = ("one", "two", "three", "four", "five")


def key(names: Sequence[str]) -> str:
    """What the colours of the charts below mean, in their order."""
    spans = "".join(f'<span class="{c}">{escape(name)}</span>' for c, name in zip(COLOURS, names, strict=False))
    return f'<p class="key">{spans}</p>'


def charts(drawn: Sequence[str], *, wide: bool = False) -> str:
    figures = "".join(f"<figure style='margin:0'>{one}</figure>" for one in drawn)
    return f'<div class="charts{"" if wide else " two"}">{figures}</div>'


def write(folder: Path, *, title: str, claim: str, command: str, sections: Sequence[Section]) -> Path:
    """Write `folder/index.html` and return its path. `claim` is HTML. Raises `OSError` where it cannot be written."""
    links = "".join(f'<a href="#{part.key}">{escape(part.key.capitalize())}</a>' for part in sections)
    body = "".join(
        f'<section id="{part.key}"><h2>{escape(part.title)}</h2>{part.inside}</section>' for part in sections
    )
    path = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(
        document(
            title,
            f'<header><p class="eyebrow">A lesson, measured anew each time</p><h1>{escape(title)}</h1>'
            f'<p class="lead">{claim}</p></header>'
            f'<div class="commands"><h3>Measure it again</h3><pre>{escape(command)}</pre></div>'
            f"<nav>{links}</nav>{body}",
        ),
        encoding="utf-8",
    )
    return path
