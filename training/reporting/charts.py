"""Charts as inline SVG, coloured by the page's CSS variables, so that one drawing suits light and dark.

Classes used: `grid`, `ideal`, `band`, `whisker`, `bar`, `one` to `five` (the series), `hollow`, `muted`, `strong`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, Literal

from numpy.typing import NDArray

from training.metrics.classification import Bin, wilson_interval

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 30, 38
LARGEST: Final = 1.25  # times its own size that a chart is shown at most
LETTER: Final = 7.4  # what a letter of a title or a legend takes at most, on average
ROW: Final = 17  # of a legend

Point = tuple[float, float]
Colour = Literal["one", "two", "three", "four", "five"]
COLOURS: Final[tuple[Colour, ...]] = ("one", "two", "three", "four", "five")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series: finite points in order of x; `high` is the edge of a band above, `hollow` points are empty dots."""

    label: str
    points: Sequence[Point]
    colour: Colour = "one"
    high: Sequence[Point] = ()
    hollow: Sequence[Point] = ()


@dataclass(frozen=True)
class Scale:
    """Values between `low` and `high` to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers in range, three to seven of them where the range allows."""
        if not self.log:
            step = _round_step((self.high - self.low) / 5)
            first = math.ceil(self.low / step - 1e-9)
            return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        every = math.ceil(len(powers) / 7)
        for mantissas in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7)):
            inside = [m * 10.0**p for p in powers if p % every == 0 for m in mantissas]
            inside = [v for v in inside if self.low * 0.999 <= v <= self.high * 1.001]
            if len(inside) >= 3:
                return inside
        return Scale(self.low, self.high, self.start, self.end).ticks()  # less than a factor of two or so


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    x_ticks: Sequence[float] | None = None,
    from_zero: bool = False,
    legend: bool = True,
    hollow: str = "",
) -> str:
    """Lines over one pair of axes; a lone point is a dot. Without any point: an empty string.

    Without `legend` the page says what the colours mean, once for several charts. `hollow` says what empty dots mean.
    """
    points = [p for line in lines for p in (*line.points, *line.high)]
    if not points:
        return ""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    log_y = log_y and min(ys) > 0
    x = Scale(*_padded(min(xs), max(xs), log_x, 0.0), LEFT + 8, WIDTH - RIGHT - 8, log_x)
    low, high = _padded(min(ys), max(ys), log_y, 0.06)
    y = Scale(0.0 if from_zero and not log_y else low, high, HEIGHT - BOTTOM, TOP, log_y)
    shown = [t for t in (x.ticks() if x_ticks is None else x_ticks) if log_x or float(t).is_integer()]
    parts = [_grid(x, y, shown, y.ticks(), x_label)]
    for line in lines:
        at = [f"{x(a):.1f},{y(b):.1f}" for a, b in line.points]
        if line.high:
            back = [f"{x(a):.1f},{y(b):.1f}" for a, b in reversed(line.high)]
            parts.append(f'<polygon class="band {line.colour}" points="{" ".join(at + back)}"/>')
        if len(at) > 1:
            parts.append(f'<polyline class="line {line.colour}" points="{" ".join(at)}"/>')
        if len(at) <= 12:
            parts += [
                f'<circle class="dot {line.colour}{" hollow" * (point in line.hollow)}" '
                f'cx="{x(point[0]):.1f}" cy="{y(point[1]):.1f}" r="3"/>'
                for point in line.points
            ]
    words = [(line.label, str(line.colour)) for line in lines] if legend and (len(lines) > 1 or hollow) else []
    if hollow and any(line.hollow for line in lines):
        words.append((f"○ {hollow}", "muted"))
    head, extra = _head(y_label, words)
    moved = [f'<g transform="translate(0 {extra})">', *parts, "</g>"] if extra else parts
    return svg([*head, *moved], WIDTH, HEIGHT + extra, f"{y_label} over {x_label}")


def reliability_chart(bins: Sequence[Bin], *, label: str) -> str:
    """Accuracy over confidence with 95 % intervals and the ideal diagonal; below, rows per bin on a log scale."""
    side, strip, top = 250.0, 70.0, 30.0
    x = Scale(0.0, 1.0, LEFT, LEFT + side)
    y = Scale(0.0, 1.0, top + side, top)
    fifths = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    parts = [f'<line class="grid" x1="{x(0)}" x2="{x(1)}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>' for v in fifths]
    parts += [_text(LEFT - 7, y(v) + 4, f"{100 * v:.0f}", anchor="end") for v in fifths]
    parts.append(f'<line class="ideal" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    parts.append(_text(4, 13, "Right, % of rows", anchor="start", strong=True))
    for b in bins:
        low, high = wilson_interval(b.accuracy * b.rows, b.rows)
        c = x(b.confidence)
        parts.append(f'<line class="whisker" x1="{c:.1f}" x2="{c:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}"/>')
        parts.append(f'<circle class="dot one" cx="{c:.1f}" cy="{y(b.accuracy):.1f}" r="4"/>')
    base = top + side + 22 + strip
    tall = Scale(0.5, max(10, *(b.rows for b in bins)), base, base - strip + 14, log=True)
    for b in bins:
        left, right = x(b.low) + 1, x(b.high) - 1
        edge = tall(b.rows)
        parts.append(
            f'<rect class="bar" x="{left:.1f}" y="{edge:.1f}" width="{right - left:.1f}" height="{base - edge:.1f}"/>'
        )
        parts.append(_text((left + right) / 2, edge - 3, _short(b.rows), anchor="middle", small=True))
    parts.append(f'<line class="grid" x1="{x(0)}" x2="{x(1)}" y1="{base}" y2="{base}"/>')
    parts.append(_text(LEFT - 7, base - 2, "rows", anchor="end"))
    parts += [_text(x(v), base + 15, f"{100 * v:.0f}", anchor="middle") for v in fifths]
    parts.append(_text(x(0.5), base + 33, "Confidence, %", anchor="middle"))
    return svg(parts, int(LEFT + side + 14), int(base + 40), f"Reliability {label}: accuracy over confidence")


def confusion_map(confusion: NDArray[Any]) -> str:
    """Where the mistakes of many classes lie: row true, column predicted, one square per pair that was confused."""
    k, side = len(confusion), 420.0
    cell = side / k
    size = max(cell, 3.0)
    most = max(1, max((int(confusion[i, j]) for i in range(k) for j in range(k) if i != j), default=1))
    parts = [f'<rect class="frame" x="30" y="30" width="{side}" height="{side}"/>']
    parts.append(f'<line class="ideal" x1="30" y1="30" x2="{30 + side}" y2="{30 + side}"/>')
    for i, j in zip(*confusion.nonzero(), strict=True):
        if i != j:
            alpha = 0.35 + 0.65 * math.sqrt(confusion[i, j] / most)
            cx, cy = 30 + (j + 0.5) * cell - size / 2, 30 + (i + 0.5) * cell - size / 2
            parts.append(
                f'<rect class="wrong" x="{cx:.1f}" y="{cy:.1f}" width="{size:.1f}" height="{size:.1f}" '
                f'opacity="{alpha:.2f}"/>'
            )
    parts.append(_text(30 + side / 2, 20, f"predicted label, all {k} in their order", anchor="middle"))
    turn = f"translate(20 {30 + side / 2}) rotate(-90)"
    parts.append(f'<text class="muted" text-anchor="middle" transform="{turn}">true label</text>')
    return svg(parts, int(side + 45), int(side + 45), "Map of confused classes")


def _grid(x: Scale, y: Scale, xs: Sequence[float], ys: Sequence[float], x_label: str) -> str:
    parts = []
    for v in ys:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>')
        parts.append(_text(LEFT - 7, y(v) + 4, tick(v), anchor="end"))
    parts += [_text(x(v), HEIGHT - BOTTOM + 17, tick(v), anchor="middle") for v in xs]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x_label, anchor="middle"))
    return "".join(parts)


def _head(title: str, words: Sequence[tuple[str, str]]) -> tuple[list[str], int]:
    """The title and, beside it or where that is too narrow in rows below, the legend's (words, class); and how many
    pixels these rows take."""
    rows: list[list[tuple[str, str]]] = [list(words)]
    if sum(_wide(word) for word, _ in words) > WIDTH - RIGHT - LETTER * len(title):
        rows, left = [[]], 0.0
        for word, colour in words:
            if _wide(word) > left:
                rows.append([])
                left = WIDTH - RIGHT
            rows[-1].append((word, colour))
            left -= _wide(word)
    parts = [_text(4, 13, title, anchor="start", strong=True)]
    for i, row in enumerate(rows):
        inside = "".join(f'<tspan class="{colour}" dx="10">{escape(word)}</tspan>' for word, colour in row)
        if inside:
            parts.append(
                f'<text class="legend" x="{WIDTH - RIGHT}" y="{13 + ROW * i}" text-anchor="end">{inside}</text>'
            )
    return parts, ROW * (len(rows) - 1)


def _wide(word: str) -> float:
    """Pixels that a legend's word takes, with the space before it."""
    return LETTER * len(word) + 10


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: Literal["start", "middle", "end"],
    strong: bool = False,
    small: bool = False,
) -> str:
    name = "strong" if strong else "small" if small else "muted"
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def svg(parts: Sequence[str], width: int, height: int, label: str) -> str:
    """A drawing of `parts` (SVG), no larger than `LARGEST` times its own size on a page that is wide."""
    inside, most = "".join(parts), round(LARGEST * width)
    return (
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{most}px" role="img" aria-label="{escape(label)}">'
        f"{inside}</svg>"
    )


def tick(value: float) -> str:
    """A number on an axis: 0.02, 1.5, 3 × 10⁻⁵."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}"
    power = math.floor(math.log10(abs(value)) + 1e-9)
    mantissa = f"{value / 10**power:.3g}"
    ten = "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return ten if mantissa == "1" else f"{mantissa}·{ten}"


def _short(rows: int) -> str:
    """A count in at most four characters."""
    return str(rows) if rows < 1000 else f"{rows / 1000:.1f}k" if rows < 9950 else f"{rows / 1000:.0f}k"


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)


def _padded(low: float, high: float, log: bool, share: float) -> tuple[float, float]:
    """The range with `share` of it added on both sides; a range of one value is opened around it."""
    if log:
        low, high = (low / 1.5, high * 1.5) if low == high else (low, high)
        factor = (high / low) ** share
        return low / factor, high * factor
    if low == high:
        half = 0.5 if low == 0 else abs(low) / 2
        return low - half, high + half
    return low - share * (high - low), high + share * (high - low)
