"""Charts over two numbers: a field behind as colour and contours, lines, paths and points upon it.

A field is coloured by its sign, blue above zero and orange below, the stronger the further from it; in a page's dark
mode the ground shows through.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.reporting.charts import Colour, Point, Scale, tick

Field = NDArray[np.floating[Any]]
"""(rows, columns): values at evenly spaced points, the first row at the lowest y, the first column at the lowest x."""

STRONGEST: Final = 0.62  # opacity of a field at its greatest
ABOVE, BELOW = (31, 95, 191), (196, 98, 16)


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The frame: ranges, names and size in pixels. Its methods draw SVG parts for `svg`."""

    x_range: Point
    y_range: Point
    x_label: str
    y_label: str
    width: int = 380
    height: int = 360

    @property
    def x(self) -> Scale:
        return Scale(*self.x_range, 46, self.width - 12)

    @property
    def y(self) -> Scale:
        return Scale(*self.y_range, self.height - 40, 24)

    def grid(self, count: int) -> tuple[Field, Field]:
        """The x and y at which a field of (count, count) has its values, each (count, count)."""
        xs, ys = np.meshgrid(np.linspace(*self.x_range, count), np.linspace(*self.y_range, count))
        return xs, ys

    def coloured(self, field: Field) -> str:
        """Values from -1 to 1 as colour."""
        values = np.clip(np.flipud(field), -1, 1)
        pixels = np.empty((*values.shape, 4), np.uint8)
        pixels[..., :3] = np.where(values[..., None] > 0, ABOVE, BELOW)
        pixels[..., 3] = np.rint(255 * STRONGEST * np.abs(values))
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG", optimize=True)
        data = base64.b64encode(stream.getvalue()).decode("ascii")
        left, top = self.x(self.x_range[0]), self.y(self.y_range[1])
        width, height = self.x(self.x_range[1]) - left, self.y(self.y_range[0]) - top
        return (
            f'<image x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
        )

    def contours(self, field: Field, levels: Sequence[float], *, name: str = "contour") -> str:
        """Lines along which the field has these values; `name` is their CSS class."""
        rows, columns = field.shape
        xs, ys = np.linspace(*self.x_range, columns), np.linspace(*self.y_range, rows)
        parts = []
        for level in levels:
            ends = [
                f"M{self.x(ax):.1f} {self.y(ay):.1f}L{self.x(bx):.1f} {self.y(by):.1f}"
                for (ax, ay), (bx, by) in crossings(field, level, xs, ys)
            ]
            if ends:
                parts.append(f'<path class="{name}" d="{"".join(ends)}"/>')
        return "".join(parts)

    def path(self, points: Sequence[Point], colour: Colour) -> str:
        """A way across the plane: a line, a ring where it starts and a dot where it ends."""
        at = [(self.x(a), self.y(b)) for a, b in points]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in at)
        return (
            f'<polyline class="line {colour}" points="{line}" clip-path="url(#{self._clip})"/>'
            f'<circle class="dot {colour}" cx="{at[-1][0]:.1f}" cy="{at[-1][1]:.1f}" r="4.5"/>'
        )

    def dots(self, points: Sequence[Point], colour: Colour, *, radius: float = 3.0) -> str:
        return "".join(
            f'<circle class="dot {colour}" cx="{self.x(a):.1f}" cy="{self.y(b):.1f}" r="{radius}"/>' for a, b in points
        )

    def note(self, at: Point, words: str, *, anchor: Literal["start", "middle", "end"] = "start") -> str:
        """Words in the plane, beginning (or ending) nine pixels beside the point."""
        aside = {"start": 9, "middle": 0, "end": -9}[anchor]
        return (
            f'<text class="strong" x="{self.x(at[0]) + aside:.1f}" y="{self.y(at[1]) - 7:.1f}" '
            f'text-anchor="{anchor}">{escape(words)}</text>'
        )

    @property
    def _clip(self) -> str:
        # Charts of one size have the same frame, so it does not matter whose clip of that name is found.
        return f"inside-{self.width}-{self.height}"

    def svg(self, parts: Sequence[str], *, label: str) -> str:
        """The whole chart; `label` is what a screen reader says."""
        left, right = self.x(self.x_range[0]), self.x(self.x_range[1])
        bottom, top = self.y(self.y_range[0]), self.y(self.y_range[1])
        box = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
        axes = [f'<clipPath id="{self._clip}"><rect {box}/></clipPath>', f'<rect class="frame" {box}/>']
        axes += [
            f'<text class="muted" x="{self.x(v):.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{tick(v)}</text>'
            for v in self.x.ticks()
        ]
        axes += [
            f'<text class="muted" x="{left - 7:.1f}" y="{self.y(v) + 4:.1f}" text-anchor="end">{tick(v)}</text>'
            for v in self.y.ticks()
        ]
        axes.append(
            f'<text class="muted" x="{(left + right) / 2:.1f}" y="{self.height - 6}" '
            f'text-anchor="middle">{escape(self.x_label)}</text>'
        )
        axes.append(f'<text class="strong" x="4" y="13">{escape(self.y_label)}</text>')
        inside = "".join([*parts, *axes])
        return f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(label)}">{inside}</svg>'


def crossings(field: Field, level: float, xs: Field, ys: Field) -> list[tuple[Point, Point]]:
    """Marching squares (Lorensen & Cline 1987, in two dimensions): the segments of one contour.

    Args:
        field: (R, C), at ys (R) and xs (C); between them it is taken as linear along the cells' edges.
    """
    above = field > level
    found: list[tuple[Point, Point]] = []
    mixed = above[:-1, :-1].astype(int) + above[:-1, 1:] + above[1:, :-1] + above[1:, 1:]
    for i, j in zip(*np.nonzero((mixed > 0) & (mixed < 4)), strict=True):
        around = ((i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j))
        cuts = []
        for (r, c), (s, d) in zip(around, (*around[1:], around[0]), strict=True):
            if above[r, c] != above[s, d]:
                t = float((level - field[r, c]) / (field[s, d] - field[r, c]))
                cuts.append((float(xs[c] + t * (xs[d] - xs[c])), float(ys[r] + t * (ys[s] - ys[r]))))
        # Four cuts are a saddle: either pairing is as right as the other.
        found += list(zip(cuts[::2], cuts[1::2], strict=True))
    return found
