"""A model's report as one page: the claim first, then how to make and measure it again, then everything to doubt it by.

Self-contained HTML (no scripts, nothing fetched, pictures inside), for light and dark, phone and paper.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final

from app.core.manifest import Manifest
from training.metrics.onnx_model import Latency
from training.reporting import sections as parts

REPORT: Final = "report/index.html"
POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, kw_only=True)
class Section:
    """`key` is its anchor and its word in the page's menu; a section without `inside` (HTML) is left out."""

    key: str
    title: str
    inside: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything the page needs.

    `claim` is HTML; figures by the names that the manifest uses in `own` are of this very model, worked out for this
    page, and `measured_on` says on what ("on 10,000 test rows"). `headlines` are the measures shown large.
    """

    manifest: Manifest
    claim: str
    sections: Sequence[Section]
    headlines: Sequence[str] = parts.HEADLINES
    own: Mapping[str, float] = field(default_factory=dict)
    measured_on: str = ""
    latency: Sequence[Latency] = ()

    def html(self) -> str:
        """The whole page."""
        m = self.manifest
        shown = [part for part in self.sections if part.inside]
        links = "".join(f'<a href="#{part.key}">{part.key.capitalize()}</a>' for part in shown)
        body = "".join(
            f'<section id="{part.key}"><h2>{escape(part.title)}</h2>{part.inside}</section>' for part in shown
        )
        evaluate = shlex.join(["python", "-m", "training", "evaluate", m.name, "--version", m.version, *_elsewhere(m)])
        return document(
            f"{m.name} {m.version}: {m.title}",
            f'<header><p class="eyebrow">{escape(m.name)}, version {escape(m.version)}</p><h1>{escape(m.title)}</h1>'
            f'<p class="lead">{self.claim}</p></header>'
            f"{parts.tiles(m, self.headlines, self.own, self.measured_on, self.latency)}"
            f"{parts.reproduce(m, evaluate)}<nav>{links}</nav>{body}",
        )


def _elsewhere(manifest: Manifest) -> list[str]:
    """Where the command that made it has put it, if that is another folder than the default."""
    words = shlex.split(manifest.made.command)
    return ["--models", words[words.index("--models") + 1]] if "--models" in words[:-1] else []


def document(title: str, body: str) -> str:
    """A whole HTML document with the style of all reports; `body` is HTML, `title` is text."""
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>{body}</body></html>\n"
    )


def write(page: Page, folder: Path) -> Path:
    """Writes `folder/report/index.html` and returns its path. Raises `OSError` where that cannot be written."""
    path = folder / REPORT
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.html(), encoding="utf-8")
    return path
