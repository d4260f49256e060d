"""Bars as inline SVG: values in an order, and a histogram."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.reporting.charts import BOTTOM, HEIGHT, RIGHT, TOP, WIDTH, Scale, svg, tick


def bars(values: Sequence[float], *, y_label: str, x_label: str) -> str:
    """Bars in the order given, from zero, as SVG."""
    width, height, left, top, bottom = 520, 180, 44.0, 26.0, 30.0
    y = Scale(0.0, max(*values, 1e-9) * 1.05, height - bottom, top)
    step = (width - left - 10) / len(values)
    parts = [f'<text class="strong" x="4" y="13">{escape(y_label)}</text>']
    for v in y.ticks():
        parts.append(f'<line class="grid" x1="{left}" x2="{width - 10}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>')
        parts.append(f'<text class="muted" x="{left - 7}" y="{y(v) + 4:.1f}" text-anchor="end">{tick(v)}</text>')
    for i, v in enumerate(values):
        parts.append(
            f'<rect x="{left + i * step + step * 0.12:.1f}" y="{y(v):.1f}" width="{step * 0.76:.1f}" '
            f'height="{max(0.0, y(0) - y(v)):.1f}" rx="1.5" style="fill:var(--one);opacity:0.8"/>'
        )
    middle = left + (width - left - 10) / 2
    parts.append(f'<text class="muted" x="{middle}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>')
    inside = "".join(parts)
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" aria-label="{escape(y_label)}">'
        f"{inside}</svg>"
    )


def histogram(values: NDArray[np.floating[Any]], limit: float, *, title: str, x_label: str, beyond: str) -> str:
    """Values (N,) from zero on in 40 bins, those above `limit` in the second colour; `beyond` says what they are."""
    left = 14.0
    last = float(np.quantile(values, 0.998))
    counts, edges = np.histogram(values, bins=40, range=(0.0, last))
    x = Scale(0.0, last, left, WIDTH - RIGHT)
    y = Scale(0.0, float(counts.max()), HEIGHT - BOTTOM, TOP)
    base = HEIGHT - BOTTOM
    parts = [f'<text class="strong" x="4" y="13">{escape(title)}</text>']
    for n, a, b in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        colour = "two" if (a + b) / 2 > limit else "one"
        parts.append(
            f'<rect x="{x(a) + 0.5:.1f}" y="{y(n):.1f}" width="{x(b) - x(a) - 1:.1f}" height="{y(0) - y(n):.1f}" '
            f'style="fill:var(--{colour})"/>'
        )
    parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    parts += [f'<text x="{x(v):.1f}" y="{base + 15}" text-anchor="middle">{tick(v)}</text>' for v in x.ticks()]
    parts.append(f'<line class="ideal" x1="{x(limit):.1f}" x2="{x(limit):.1f}" y1="{TOP}" y2="{base}"/>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{TOP - 6}" text-anchor="end">{escape(beyond)}</text>')
    parts.append(f'<text x="{(left + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    return svg(parts, WIDTH, HEIGHT, title)
