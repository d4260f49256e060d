"""Many pictures as one: grids and strips as a single PNG, and the plane of two latents with its classes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.reporting.charts import Scale, tick

Pictures = NDArray[np.floating[Any]]
"""Pixels in [0, 1]."""

GAP: Final = 2
GREY_BETWEEN: Final = 24  # of the gaps, 0 to 255
# Ten hues that are told apart on light and on dark (after Tableau's), used again in turn for more classes.
HUES: Final = (
    "#4e79a7", "#f28e2b", "#e15759", "#3aa6a0", "#59a14f", "#c9a227", "#b07aa1", "#e5729b", "#9c755f", "#8a8d93",
)  # fmt: skip


def mosaic(pictures: Pictures, *, alt: str, columns: int | None = None, scale: int = 2, gap: int = GAP) -> str:
    """`<img>` of pictures laid out row by row.

    Args:
        pictures: (rows, columns, H, W, C), or (N, H, W, C) with `columns`.
        scale: CSS pixels per pixel at most; a narrow page shrinks it. gap: pixels between pictures.
    """
    if pictures.ndim == 4:
        across = columns or len(pictures)
        missing = -len(pictures) % across
        blank = np.zeros((missing, *pictures.shape[1:]), pictures.dtype)
        pictures = np.concatenate([pictures, blank]).reshape(-1, across, *pictures.shape[1:])
    rows, across, h, w, c = pictures.shape
    sheet = np.full((rows * (h + gap) - gap, across * (w + gap) - gap, c), GREY_BETWEEN, np.uint8)
    values = np.rint(np.clip(pictures, 0, 1) * 255).astype(np.uint8)
    for i in range(rows):
        for j in range(across):
            sheet[i * (h + gap) : i * (h + gap) + h, j * (w + gap) : j * (w + gap) + w] = values[i, j]
    stream = io.BytesIO()
    Image.fromarray(sheet[..., 0] if c == 1 else sheet).save(stream, "PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return (
        f'<img style="width:{sheet.shape[1] * scale}px;max-width:100%;height:auto;image-rendering:pixelated;'
        f'border-radius:6px;display:block" src="data:image/png;base64,{data}" alt="{escape(alt)}">'
    )


def class_plane(points: NDArray[np.floating[Any]], classes: NDArray[np.int64], labels: Sequence[str]) -> str:
    """The plane of two latents as SVG: points (N, 2), each in its class's colour, the class's name at its median.

    Both axes are in quantiles of the standard normal distribution, so that the prior is spread evenly over the square.
    """
    side, left, top = 560.0, 40.0, 12.0
    across, up = Scale(0.0, 1.0, left, left + side), Scale(0.0, 1.0, top + side, top)
    normal = NormalDist()

    def x(value: float) -> float:
        return across(normal.cdf(value))

    def y(value: float) -> float:
        return up(normal.cdf(value))

    parts = [f'<rect class="frame" x="{left}" y="{top}" width="{side}" height="{side}"/>']
    for v in (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0):
        parts.append(f'<line class="grid" x1="{x(v):.1f}" x2="{x(v):.1f}" y1="{top}" y2="{top + side}"/>')
        parts.append(f'<line class="grid" x1="{left}" x2="{left + side}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>')
        parts.append(f'<text class="muted" x="{x(v):.1f}" y="{top + side + 16}" text-anchor="middle">{tick(v)}</text>')
        parts.append(f'<text class="muted" x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{tick(v)}</text>')
    for k in range(len(labels)):
        # One path of dots of no length per class: a tenth of the bytes of so many circles.
        dots = "".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b in points[classes == k].tolist())
        hue = HUES[k % len(HUES)]
        parts.append(
            f'<path d="{dots}" fill="none" stroke="{hue}" stroke-width="4" stroke-linecap="round" opacity="0.55"/>'
        )
    for k, label in enumerate(labels):
        own = points[classes == k]
        if len(own):
            a, b = np.median(own, axis=0)
            parts.append(
                f'<text x="{x(float(a)):.1f}" y="{y(float(b)) + 8:.1f}" text-anchor="middle" style="font-size:24px;'
                "font-weight:700;fill:var(--ink);stroke:var(--page);stroke-width:4px;paint-order:stroke;"
                f'stroke-linejoin:round">{escape(label)}</text>'
            )
    inside = "".join(parts)
    width, height = int(left + side + 10), int(top + side + 24)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="The plane of the two latents, coloured by class" '
        f'style="max-width:{width}px">{inside}</svg>'
    )


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
