"""The report of a denoiser of photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.core.manifest import Manifest
from training.evaluation.onnx_model import Latency
from training.evaluation.restoration import Photo, Published
from training.reports import sections
from training.reports.page import Page, Section


@dataclass(frozen=True, kw_only=True)
class PhotoDenoiserReport:
    """Everything the page needs."""

    manifest: Manifest
    found: Mapping[str, Any]
    model: Published
    bsd68: Sequence[Photo]
    latency: Sequence[Latency]
    estimator_latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        return Page(
            manifest=self.manifest,
            claim="",
            sections=[Section(key="figures", title="Figures", inside=sections.figures(self.manifest, {}))],
        )
