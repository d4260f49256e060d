"""Charts for tables: importances, predicted over true values, coverage, residuals."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.classification import wilson_interval
from training.reporting.charts import Scale, svg, tick
from training.reporting.plane import Plane

Floats = NDArray[np.floating[Any]]


def importance_chart(names: Sequence[str], found: Sequence[tuple[float, float]], *, label: str) -> str:
    """Bars of the means with whiskers of one standard deviation to each side, the largest first."""
    order = sorted(range(len(names)), key=lambda j: -found[j][0])
    left, right, top, step = 150, 560, 26, 24
    low = min(0.0, *(mean - spread for mean, spread in found))
    high = max(1e-9, *(mean + spread for mean, spread in found))
    x = Scale(low, high, left, right)
    bottom = top + step * len(order)
    parts = [f'<text class="strong" x="4" y="13">{escape(label)}</text>']
    for value in x.ticks():
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(
            f'<text class="muted" x="{x(value):.1f}" y="{bottom + 16}" text-anchor="middle">{tick(value)}</text>'
        )
    for i, j in enumerate(order):
        mean, spread = found[j]
        y = top + step * (i + 0.5)
        a, b = sorted((x(0.0), x(mean)))
        name = names[j] if len(names[j]) <= 22 else names[j][:21] + "…"
        ends = f'x1="{x(mean - spread):.1f}" x2="{x(mean + spread):.1f}"'
        parts += [
            f'<text class="muted" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="bar" x="{a:.1f}" y="{y - 7:.1f}" width="{b - a:.1f}" height="14"/>',
            f'<line class="whisker" {ends} y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<circle class="dot one" cx="{x(mean):.1f}" cy="{y:.1f}" r="3"/>',
        ]
    return svg(parts, 580, bottom + 24, label)


def prediction_chart(value: Floats, half: Floats, y: Floats, *, name: str) -> str:
    """Each row's predicted value and interval over its true value, with the diagonal on which both are the same."""
    low = float(min(y.min(), (value - half).min()))
    high = float(max(y.max(), (value + half).max()))
    plane = Plane(x_range=(low, high), y_range=(low, high), x_label=f"true {name}", y_label=f"Predicted {name}")
    parts = [_line(plane, (low, low), (high, high), "ideal")]
    for v, h, t in zip(value.tolist(), half.tolist(), y.tolist(), strict=True):
        parts.append(_line(plane, (t, v - h), (t, v + h), "whisker", extra=' style="opacity:.28"'))
    parts.append(plane.dots(list(zip(y.tolist(), value.tolist(), strict=True)), "one", radius=2.4))
    return plane.svg(parts, label=f"Predicted over true {name}, with intervals")


def coverage_chart(nominal: Sequence[float], found: Sequence[float], rows: int) -> str:
    """Share of rows inside their interval over its nominal coverage, with 95 % intervals."""
    plane = Plane(x_range=(40.0, 100.0), y_range=(40.0, 100.0), x_label="nominal, %", y_label="Inside, % of rows")
    parts = [_line(plane, (40, 40), (100, 100), "ideal")]
    for a, b in zip(nominal, found, strict=True):
        low, high = wilson_interval(b * rows, rows)
        parts.append(_line(plane, (100 * a, 100 * low), (100 * a, 100 * high), "whisker"))
    parts.append(plane.dots([(100 * a, 100 * b) for a, b in zip(nominal, found, strict=True)], "one", radius=4))
    return plane.svg(parts, label="Measured over nominal coverage")


def residual_chart(value: Floats, half: Floats, y: Floats, *, name: str) -> str:
    """True minus predicted over the predicted value, with the edges of the 90 % intervals as a band's two lines."""
    residual = y - value
    reach = float(max(np.abs(residual).max(), half.max()))
    plane = Plane(
        x_range=(float(value.min()), float(value.max())),
        y_range=(-reach, reach),
        x_label=f"predicted {name}",
        y_label="True − predicted",
    )
    order = np.argsort(value, kind="stable")
    parts = [_line(plane, (float(value.min()), 0.0), (float(value.max()), 0.0), "ideal")]
    # The median of neighbours: the half-width of single rows jumps with the columns that the chart does not show.
    bins = np.array_split(order, min(15, max(2, len(order) // 20)))
    middle = [(float(np.median(value[b])), float(np.median(half[b]))) for b in bins]
    for sign in (-1, 1):
        points = " ".join(f"{plane.x(v):.1f},{plane.y(sign * h):.1f}" for v, h in middle)
        parts.append(f'<polyline class="line two" points="{points}"/>')
    parts.append(plane.dots(list(zip(value.tolist(), residual.tolist(), strict=True)), "one", radius=2.2))
    return plane.svg(parts, label="Residuals over predicted values")


def _line(plane: Plane, a: tuple[float, float], b: tuple[float, float], name: str, *, extra: str = "") -> str:
    return (
        f'<line class="{name}" x1="{plane.x(a[0]):.1f}" y1="{plane.y(a[1]):.1f}" '
        f'x2="{plane.x(b[0]):.1f}" y2="{plane.y(b[1]):.1f}"{extra}/>'
    )
