"""The report of a classifier of pictures.

What the manifest publishes is printed as it stands; everything else is computed here, from rows and probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from html import escape

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import THIN
from training.metrics import classification as measure
from training.metrics.onnx_model import Latency
from training.reporting.calibration import calibration
from training.reporting.classification import classes, confusion, mistakes, sample
from training.reporting.figures import figures
from training.reporting.formatting import count, percent, plural, seconds
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, note
from training.reporting.latency import latency
from training.reporting.made import made
from training.reporting.page import Page


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
        m, p, y = self.manifest, self.probabilities, self.test_y
        sections = [figures(m, self._own_figures()), Section("training", "Learning curves", self._curves())]
        if len(y):
            sections += [
                confusion(self._confusion, m.labels),
                calibration(p, self.uncalibrated, y, m),
                mistakes(self.test_x, p, y, m.labels),
                sample(self.test_x, p, y, m.labels),
                classes(self._confusion, m.labels),
            ]
        return [*sections, latency(self.latency), made(m)]

    def _curves(self) -> str:
        """Loss, errors and learning rate by epoch."""
        found = history_charts(
            self.history,
            [
                Curves(y_label="Loss, nats", lines=[("loss", "training"), ("held_loss", "held-out")], log_y=True),
                Curves(
                    y_label="Errors, % of rows",
                    lines=[("accuracy", "training"), ("held_accuracy", "held-out")],
                    log_y=True,
                    shown=lambda accuracy: 100 * (1 - accuracy),
                ),
                Curves(y_label="Learning rate", lines=[("lr", "learning rate")], from_zero=True),
            ],
        )
        if not found:
            return ""
        last = self.history[-1]
        words = f"After {plural(len(self.history), 'epoch')}"
        if math.isfinite(last.get("held_accuracy", math.nan)):
            words += f": {100 * last['held_accuracy']:.2f}{THIN}% of the held-out rows right"
        took = [row["seconds"] for row in self.history if math.isfinite(row.get("seconds", math.nan))]
        speeds = [row.get("images_per_s", row.get("rows_per_s", math.nan)) for row in self.history]
        speeds = [v for v in speeds if math.isfinite(v)]
        if took:
            words += f"; {seconds(float(np.mean(took)))} per epoch"
        if speeds:
            words += f", {count(round(float(np.median(speeds))))} pictures per second"
        words += (
            ". Training figures are running means over augmented rows, and of a smoothed loss where the recipe "
            "smooths labels: they may be worse than the held-out ones."
        )
        return note(words) + found
