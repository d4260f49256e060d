"""The report of a classifier of pictures.

What the manifest publishes is printed as it stands; everything else is worked out here, from rows and probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from training.metrics import classification as measure
from training.metrics.onnx_model import Latency
from training.reporting import rows as by_row
from training.reporting import sections
from training.reporting.page import Page, Section
from training.reporting.words import count, percent


@dataclass(frozen=True, kw_only=True)
class ClassifierReport:
    """Everything the page needs. N may be 0: then only what is known without rows is shown.

    `history` has one row per epoch with any of epoch, loss, accuracy, held_loss, held_accuracy, lr, seconds and
    images_per_s; accuracies are shares, missing and non-finite figures leave a gap. `uncalibrated` are the
    probabilities at temperature 1. `test_split` names the rows: "test", or "held-out" where there is no test.
    """

    manifest: Manifest
    history: list[dict[str, float]]
    test_x: NDArray[np.uint8]  # (N, H, W, C)
    test_y: NDArray[np.int64]  # (N,)
    probabilities: NDArray[np.float32]  # (N, K)
    uncalibrated: NDArray[np.float32] | None
    latency: list[Latency]
    test_split: str

    def __post_init__(self) -> None:
        n, k = len(self.test_y), len(self.manifest.labels)
        if len(self.test_x) != n:
            raise ValueError(f"test_x: expected {n} rows, one per label, got {len(self.test_x)}")
        for name, p in (("probabilities", self.probabilities), ("uncalibrated", self.uncalibrated)):
            if p is not None and p.shape != (n, k):
                raise ValueError(f"{name}: expected {(n, k)}, rows and labels, got {p.shape}")

    @cached_property
    def _confusion(self) -> NDArray[np.int64]:
        return measure.confusion_matrix(self.probabilities, self.test_y)

    def page(self) -> Page:
        """The page, ready to be written."""
        return Page(
            manifest=self.manifest,
            claim=self._claim(),
            sections=self._sections(),
            own=self._own_figures(),
            measured_on=f"on {count(len(self.test_y))} {self.test_split} rows",
            latency=self.latency,
        )

    def _own_figures(self) -> dict[str, float]:
        """Of this very model on these rows, by the names that manifests use."""
        if not len(self.test_y):
            return {}
        p, y = self.probabilities, self.test_y
        return {
            "accuracy": measure.accuracy(p, y),
            "nll": measure.negative_log_likelihood(p, y),
            "ece": measure.expected_calibration_error(p, y),
            "brier": measure.brier_score(p, y),
        }

    def _claim(self) -> str:
        data, n = escape(self.manifest.data.name), len(self.test_y)
        if not n:
            return (
                f"Trained on {data}. No rows were set aside: <strong>nothing here is measured on unseen data</strong>."
            )
        right = int(np.trace(self._confusion))
        low, high = (percent(share, n) for share in measure.wilson_interval(right, n))
        line = (
            f"Right on {count(right)} of {count(n)} {escape(self.test_split)} rows of {data}. "
            f"With other rows of the same kind expect {low} to {high} (95 % interval)."
        )
        if self.test_split != "test":
            line += (
                " <strong>There is no separate test set:</strong> these rows also served to watch and calibrate the "
                "training, so unseen ones may do a little worse."
            )
        return line

    def _sections(self) -> list[Section]:
        m, p, y, rows = self.manifest, self.probabilities, self.test_y, bool(len(self.test_y))
        parts: list[tuple[str, str, str]] = [("figures", "Figures", sections.figures(m, self._own_figures()))]
        parts.append(("curves", "Learning curves", sections.curves(self.history)))
        if rows:
            parts += [
                ("confusion", "What is taken for what", by_row.confusion(self._confusion, m.labels)),
                ("calibration", "Can the probabilities be believed?", sections.calibration(p, self.uncalibrated, y, m)),
                ("mistakes", "The most confident mistakes", by_row.mistakes(self.test_x, p, y, m.labels)),
                ("sample", "A random sample", by_row.sample(self.test_x, p, y, m.labels)),
                ("classes", "Class by class", by_row.classes(self._confusion, m.labels)),
            ]
        parts.append(("latency", "How fast it answers", sections.latency(self.latency)))
        parts.append(("facts", "Facts", sections.facts(m)))
        return [Section(key=key, title=title, inside=inside) for key, title, inside in parts]
