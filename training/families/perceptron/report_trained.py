"""The report of a unit that was trained on a table."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.manifest.table import CategoryColumn, NumberColumn
from app.core.metric_names import figure, title_of
from training.data.table import TableDataset
from training.reporting.charts import Line, line_chart
from training.reporting.figures import figures
from training.reporting.formatting import count
from training.reporting.html import Section, charts, note, plane_and_words
from training.reporting.made import made
from training.reporting.page import Page
from training.reporting.plane import Plane
from training.reporting.table import Row, label, table

FINE: Final = 121
SHOWN: Final = 400  # rows in the plane
CURVE_POINTS: Final = 120


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How the unit was trained, and its weights: one per coded column, in units of its standard deviation
    for the numbers, which come first; `mean` and `scale` are theirs."""

    activation: str
    penalty: float
    penalties: list[float]
    held: list[float]
    losses: list[float]
    names: list[str]
    weights: list[float]
    bias: float
    mean: list[float]
    scale: list[float]
    own_test: bool


def page(
    manifest: Manifest, evidence: Evidence, dataset: TableDataset, test_x: NDArray[np.float32], test_y: NDArray[Any]
) -> Page:
    """The page; the rows that it shows are test rows: x (N, F), y (N,)."""
    first = manifest.quality[0]
    claim = (
        f"One unit predicts {escape(dataset.target_column)} from {len(dataset.table.columns)} columns: "
        f"<strong>{title_of(first.name)} {figure(first.value, first.name)}</strong> on {count(first.rows)} rows "
        + ("of the test part." if evidence.own_test else "set aside, a fifth of all.")
    )
    return Page(
        manifest=manifest,
        claim=claim,
        sections=[
            figures(manifest),
            Section(
                "plane",
                "The decision line" if dataset.labels else "The plane",
                _plane(evidence, dataset, test_x, test_y),
            ),
            Section("weights", "The weights", _weights(evidence)),
            Section("training", "Learning curves", _curve(evidence)),
            made(manifest),
        ],
        headlines=[q.name for q in manifest.quality],
    )


def _plane(e: Evidence, dataset: TableDataset, x: NDArray[np.float32], y: NDArray[Any]) -> str:
    """The two numbers with the largest weights; all others at their means, categories at none."""
    # Weights of numbers and dates come first; the axes are the graph's own numbers.
    ranged = [(i, c) for i, c in enumerate(dataset.table.columns) if not isinstance(c, CategoryColumn)]
    places = [(k, i, c) for k, (i, c) in enumerate(ranged) if isinstance(c, NumberColumn) and not c.offset]
    if len(places) < 2:
        return ""
    weights = np.abs(np.array(e.weights)[[k for k, _, _ in places]])
    columns = [(i, c) for _, i, c in places]
    a, b = sorted(int(i) for i in np.argsort(-weights, kind="stable")[:2])
    (at_a, first), (at_b, second) = columns[a], columns[b]
    plane = Plane(
        x_range=_around(first),
        y_range=_around(second),
        x_label=_named(first),
        y_label=_named(second),
        width=460,
        height=450,
    )
    xs, ys = plane.grid(FINE)
    of_a, of_b = places[a][0], places[b][0]
    z = e.bias + e.weights[of_a] * (xs - e.mean[of_a]) / e.scale[of_a]
    z = z + e.weights[of_b] * (ys - e.mean[of_b]) / e.scale[of_b]
    shown = x[:SHOWN]
    known = ~np.isnan(shown[:, at_a]) & ~np.isnan(shown[:, at_b])
    points = [(float(r[at_a]), float(r[at_b])) for r in shown[known]]
    if dataset.labels:
        p = 1 / (1 + np.exp(-(2 if e.activation == "tanh" else 1) * z))
        parts = [
            plane.coloured(2 * p - 1),
            plane.contours(p, [0.1, 0.25, 0.75, 0.9]),
            plane.contours(z, [0.0], name="border"),
        ]
        blue = [point for point, label in zip(points, y[:SHOWN][known], strict=True) if label == 1]
        orange = [point for point, label in zip(points, y[:SHOWN][known], strict=True) if label == 0]
        parts += [plane.dots(orange, "two"), plane.dots(blue, "one")]
        words = (
            f"Blue: {dataset.labels[1]}, orange: {dataset.labels[0]}. On the thick line both are equally probable; the "
            "thin lines are at 10, 25, 75 and 90 %."
        )
    else:
        value = np.maximum(z, 0) if e.activation == "relu" else z
        low, high = float(value.min()), float(value.max())
        parts = [
            plane.coloured(2 * (value - low) / max(high - low, 1e-12) - 1),
            plane.contours(value, np.linspace(low, high, 12)[1:-1].tolist()),
            plane.dots(points, "five", radius=2.5),
        ]
        words = "Blue is high, orange low; along a thin line the prediction is the same."
    rest = len(dataset.table.columns) - 2
    if rest:
        words += f" The unit has {count(rest)} more columns: they are held at their means here, so rows may lie on the "
        words += "wrong side of this line and on the right side of the real one. The two with the largest weights are "
        words += "shown."
    words += f" The dots are {count(len(points))} test rows."
    drawing = plane.svg(parts, label=f"{first.name} and {second.name}, coloured by the unit's output")
    return plane_and_words(drawing, escape(words))


def _weights(e: Evidence) -> str:
    numbers = len(e.scale)
    rows: list[Row] = [
        (
            label(e.names[i]),
            f"{e.weights[i]:+.4g}",
            f"{e.weights[i] / e.scale[i]:.4g}" if i < numbers else None,
        )
        for i in np.argsort(-np.abs(e.weights), kind="stable")
    ]
    free = e.bias - sum(w * m / s for w, m, s in zip(e.weights, e.mean, e.scale, strict=False))
    rows.append(("bias", f"{e.bias:+.4g}", f"{free:.4g}"))
    return note(
        "What one standard deviation more adds to the net input, and what one unit more adds; the largest first. "
        "Correlated columns share their weight, so a small weight does not prove that a column does not matter."
    ) + table(("Column", "Per deviation", "Per unit"), rows)


def _curve(e: Evidence) -> str:
    steps = np.unique(np.geomspace(1, len(e.losses), CURVE_POINTS).astype(int))
    curve = [(float(s), e.losses[s - 1]) for s in steps]
    drawings = [
        line_chart([Line(label="loss", points=curve)], x_label="step", y_label="Loss with penalty", log_x=True),
        line_chart(
            [Line(label="held-out", points=list(zip(e.penalties, e.held, strict=True)), colour="two")],
            x_label="penalty",
            y_label="Held-out loss",
            log_x=True,
            x_ticks=e.penalties,
        ),
    ]
    words = (
        f"Gradient descent over all rows at once, {count(len(e.losses))} steps from zero weights until the gradient "
        f"was flat or the steps were used up. The penalty on the weights, {e.penalty:g}, had the lowest held-out loss "
        "of five folds."
    )
    return note(words) + charts(drawings, columns="two")


def _around(column: NumberColumn) -> tuple[float, float]:
    margin = 0.04 * (column.high - column.low) or 0.5
    return column.low - margin, column.high + margin


def _named(column: NumberColumn) -> str:
    return f"{column.name}, {column.unit}" if column.unit else column.name
