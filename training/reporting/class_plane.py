"""The plane of two latents as SVG, with a dot for each row in its class's colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.reporting.charts import Scale, tick

SIDE, LEFT, PAD = 560.0, 40.0, 12.0
# Ten hues that are told apart on light and on dark (after Tableau's), used again in turn for more classes.
HUES: Final = (
    "#4e79a7", "#f28e2b", "#e15759", "#3aa6a0", "#59a14f", "#c9a227", "#b07aa1", "#e5729b", "#9c755f", "#8a8d93",
)  # fmt: skip

Points = NDArray[np.floating[Any]]
Across = Callable[[float], float]


def key(labels: Sequence[str], classes: NDArray[np.int64]) -> str:
    """What the colours mean, of the classes that occur."""
    items = "".join(
        f'<li><b style="color:{HUES[k % len(HUES)]}">●</b> {escape(label)}</li>'
        for k, label in enumerate(labels)
        if (classes == k).any()
    )
    return f'<ul class="key">{items}</ul>'


def linear_plane(points: Points, classes: NDArray[np.int64], reach: float) -> str:
    """Points (N, 2) in the square from -reach to reach."""
    x, y = Scale(-reach, reach, LEFT, LEFT + SIDE), Scale(-reach, reach, PAD + SIDE, PAD)
    ticks = [v for v in x.ticks() if abs(v) < 0.95 * reach]
    return _svg([*_grid(x, y, ticks), *_dots(x, y, points, classes)])


def quantile_plane(points: Points, classes: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Points (N, 2), and each class's name at its median.

    Both axes are in quantiles of the standard normal distribution, so that the prior is spread evenly over the square.
    """
    across, up, normal = Scale(0.0, 1.0, LEFT, LEFT + SIDE), Scale(0.0, 1.0, PAD + SIDE, PAD), NormalDist()

    def x(value: float) -> float:
        return across(normal.cdf(value))

    def y(value: float) -> float:
        return up(normal.cdf(value))

    parts = _grid(x, y, (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)) + _dots(x, y, points, classes)
    for k, label in enumerate(labels):
        own = points[classes == k]
        if len(own):
            a, b = np.median(own, axis=0)
            at = f'x="{x(float(a)):.1f}" y="{y(float(b)) + 8:.1f}"'
            parts.append(f'<text class="name" {at} text-anchor="middle">{escape(label)}</text>')
    return _svg(parts)


def _grid(x: Across, y: Across, ticks: Sequence[float]) -> list[str]:
    parts = [f'<rect class="frame" x="{LEFT}" y="{PAD}" width="{SIDE}" height="{SIDE}"/>']
    for v in ticks:
        parts.append(f'<line class="grid" x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{PAD}" y2="{PAD + SIDE}"/>')
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + SIDE}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>')
        parts.append(f'<text class="muted" x="{x(v):.1f}" y="{PAD + SIDE + 16}" text-anchor="middle">{tick(v)}</text>')
        parts.append(f'<text class="muted" x="{LEFT - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{tick(v)}</text>')
    return parts


def _dots(x: Across, y: Across, points: Points, classes: NDArray[np.int64]) -> list[str]:
    """One path of dots of no length per class: a tenth of the bytes of so many circles."""
    parts = []
    for k in np.unique(classes).tolist():
        dots = "".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b in points[classes == k].tolist())
        hue = HUES[k % len(HUES)]
        parts.append(
            f'<path d="{dots}" fill="none" stroke="{hue}" stroke-width="4" stroke-linecap="round" opacity="0.55"/>'
        )
    return parts


def _svg(parts: Sequence[str]) -> str:
    width, height = int(LEFT + SIDE + 10), int(PAD + SIDE + 24)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="The plane of the two latents, coloured by class" '
        f'style="max-width:{width}px">{"".join(parts)}</svg>'
    )
