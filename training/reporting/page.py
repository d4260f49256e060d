"""A model's report as one page: the claim first, then how to make and measure it again, then everything to doubt it by.

Self-contained HTML (no scripts, nothing fetched, pictures inside), for light and dark, phone and paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Final

from app.core.manifest import Manifest
from training.metrics.onnx_model import Latency
from training.reporting.figures import HEADLINES, tiles
from training.reporting.html import Section
from training.reporting.made import reproduce

REPORT: Final = "report/index.html"
POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything the page needs.

    `claim` is HTML; figures by the names that the manifest uses in `own` are of this very model, worked out for this
    page, and `measured_on` says on what ("on 10,000 test rows"). `headlines` are the measures shown large.
    """

    manifest: Manifest
    claim: str
    sections: Sequence[Section]
    headlines: Sequence[str] = HEADLINES
    own: Mapping[str, float] = field(default_factory=dict)
    measured_on: str = ""
    latency: Sequence[Latency] = ()

    def html(self) -> str:
        """The whole page."""
        m = self.manifest
        return document(
            f"{m.name} {m.version}: {m.title}",
            f"{header(f'{m.name}, version {m.version}', m.title, self.claim)}"
            f"{tiles(m, self.headlines, self.own, self.measured_on, self.latency)}"
            f"{reproduce(m)}{menu_and_sections(self.sections)}",
        )


def header(above: str, title: str, claim: str) -> str:
    """The top of a page; `above` and `title` are text, `claim` is HTML."""
    return f'<header><p class="eyebrow">{escape(above)}</p><h1>{escape(title)}</h1><p class="lead">{claim}</p></header>'


def menu_and_sections(sections: Sequence[Section]) -> str:
    """Links to the sections that are not empty, and these sections."""
    shown = [section for section in sections if section.body]
    links = "".join(f'<a href="#{one.key}">{escape(one.key.capitalize())}</a>' for one in shown)
    body = "".join(f'<section id="{one.key}"><h2>{escape(one.title)}</h2>{one.body}</section>' for one in shown)
    return f"<nav>{links}</nav>{body}"


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
