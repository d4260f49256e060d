"""Calibration: whether a classifier is right as often as its probabilities say. In every classifier's report."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import figure as shown
from training.metrics import classification as measure
from training.reporting.charts import reliability_chart
from training.reporting.formatting import count
from training.reporting.html import Section, charts, figure, note
from training.reporting.table import table

Probabilities = NDArray[np.float32]

WORDS: Final = (
    "Of the rows that get a confidence of 80 %, about 80 % should be right: then the dots lie on the diagonal. "
    "Whiskers are 95 % intervals. The bars count the rows at each level of confidence, on a log scale."
)
TITLES: Final = ("Confidence, %", "Rows", "Mean confidence, %", "Right, %", "Gap, points")


def calibration(p: Probabilities, uncalibrated: Probabilities | None, y: NDArray[np.int64], m: Manifest) -> Section:
    """Reliability diagrams before and after temperature scaling, and the equal-mass bins that the ECE is made of.

    Args:
        p, uncalibrated: probabilities (N, K) as served, and at temperature 1 where that is known. y: labels (N,).
    """
    panels = []
    for when, q in (("before", uncalibrated), ("after", p)):
        if q is None:
            continue
        heading = "" if uncalibrated is None else f"{when.capitalize()}: "
        ece, nll = measure.expected_calibration_error(q, y), measure.negative_log_likelihood(q, y)
        chart = reliability_chart(measure.equal_width_bins(q, y), label=f"{when} calibration")
        panels.append(figure(chart, title=f"{heading}ECE {shown(ece, 'ece')}, NLL {shown(nll, 'nll')}"))
    words = WORDS
    if m.calibration is not None:
        words += (
            f" The temperature is {m.calibration.temperature:.3f}. It was fitted on {count(m.calibration.rows)} "
            "held-out rows and is part of the graph."
        )
    rows = [
        (
            f"{100 * b.low:.3f} to {100 * b.high:.3f}",
            b.rows,
            f"{100 * b.confidence:.3f}",
            f"{100 * b.accuracy:.3f}",
            f"{100 * (b.accuracy - b.confidence):+.3f}",
        )
        for b in measure.equal_mass_bins(p, y)
    ]
    bins = f"<details><summary>The 15 bins of equal mass behind the ECE</summary>{table(TITLES, rows)}</details>"
    return Section("calibration", "Calibration", f"{note(words)}{charts(panels, columns='two')}{bins}")
