"""The page of the lesson on optimisers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
import torch

from training.lessons.optimisers.descent import Problem, Trace, best
from training.reporting import lesson
from training.reporting.charts import COLOURS, Line, Point, line_chart
from training.reporting.formatting import count
from training.reporting.html import Section, charts, figure, note
from training.reporting.plane import Plane
from training.reporting.table import Row, table

FINE: Final = 97
CONTOURS: Final = 14
LEAST_SECONDS: Final = 1e-4  # where the axis of seconds begins


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was measured: one list per method, a trace for each of its rates; on the net, and on the two weights."""

    traces: list[list[Trace]]
    paths: list[list[Trace]]
    surface: Problem  # of the two weights
    ranges: tuple[Point, Point]  # of each of them
    level: float  # the loss that the table is about
    net: str  # what was trained, in words


def findings(chosen: Sequence[Trace], level: float) -> list[str]:
    """A line per method, then who came first by each measure; all from the traces."""
    lines = []
    for t in chosen:
        i = t.first_below(level)
        when = (
            f"never reached {level:g}"
            if i is None
            else f"{level:g} after {t.seen[i]:,} rows, {t.steps[i]:,} steps, {t.seconds[i]:.2f} s"
        )
        lines.append(f"{t.method.name:13} rate {t.rate:<6g} loss {t.end:.4f} after {t.method.epochs} epochs; {when}")
    return [*lines, *winners(chosen, level)]


def winners(chosen: Sequence[Trace], level: float) -> list[str]:
    """Sentences: who reached the level with the fewest rows, steps and seconds, and who ended lowest."""
    there = [(t, i) for t in chosen if (i := t.first_below(level)) is not None]
    found = []
    if there:
        by_rows = min(there, key=lambda entry: entry[0].seen[entry[1]])[0].method.name
        by_steps = min(there, key=lambda entry: entry[0].steps[entry[1]])[0].method.name
        by_time = min(there, key=lambda entry: entry[0].seconds[entry[1]])[0].method.name
        found.append(
            f"A loss of {level:g} was reached with the fewest rows by {by_rows}, with the fewest steps by {by_steps}, "
            f"in the least time by {by_time}."
        )
    return [*found, f"The lowest loss at the end: {best(chosen).method.name}, {best(chosen).end:.4f}."]


def write(found: Comparison, folder: Path) -> Path:
    """Write `folder/index.html`."""
    chosen = [best(of_method) for of_method in found.traces]
    return lesson.write(
        folder,
        title="Five optimisers on the same loss",
        claim=escape(" ".join(winners(chosen, found.level))),
        command="python -m training optimisers",
        sections=[
            Section("descent", "One network, five optimisers", _descent(chosen, found)),
            Section("rates", "The learning rate", _rates(found.traces)),
            Section("paths", "The loss of two weights", _paths(found)),
        ],
    )


def _descent(chosen: Sequence[Trace], found: Comparison) -> str:
    def lines(axis: str) -> list[Line]:
        found = []
        for t, colour in zip(chosen, COLOURS, strict=False):
            an_epoch = t.seen[-1] / t.method.epochs
            xs: Sequence[float] = {
                "epochs": [seen / an_epoch for seen in t.seen],
                "rows": [float(seen) for seen in t.seen],
                "steps": [float(step) for step in t.steps],
                "seconds": t.seconds,
            }[axis]
            points = [(float(x), y) for x, y in zip(xs, t.losses, strict=True) if x > 0 and math.isfinite(y)]
            points = [(max(x, LEAST_SECONDS), y) for x, y in points] if axis == "seconds" else points
            found.append(Line(label=t.method.name, points=points, colour=colour))
        return found

    labels = {"epochs": "epochs", "rows": "rows seen", "steps": "steps", "seconds": "seconds of one core"}
    drawings = [
        line_chart(lines(axis), x_label=label, y_label="Loss, nats", log_x=True, log_y=True, legend=False)
        for axis, label in labels.items()
    ]
    rows: list[Row] = []
    for t in chosen:
        i = t.first_below(found.level)
        reached = ("–",) * 3 if i is None else (count(t.seen[i]), count(t.steps[i]), f"{t.seconds[i]:.2f}")
        size = "all" if t.method.rows is None else str(t.method.rows)
        cells = (size, f"{t.rate:g}", str(t.method.epochs), f"{t.end:.4f}", f"{t.seconds[-1]:.2f}", *reached)
        rows.append((t.method.name, *cells))
    to = f"to {found.level:g}: "
    titles = (
        "Method",
        "Rows per step",
        "Rate",
        "Epochs",
        "Loss at the end",
        "Seconds",
        to + "rows",
        "steps",
        "seconds",
    )
    return (
        note(
            f"{escape(found.net)} All start from the same weights. The loss is over all rows, measured now and then; "
            "measuring is left out of the seconds. One epoch is each row once: the same runs look different over "
            "another axis."
        )
        + lesson.key([t.method.name for t in chosen])
        + charts(drawings, columns="two")
        + table(titles, rows)
    )


def _rates(traces: Sequence[Sequence[Trace]]) -> str:
    lines = [
        Line(
            label=of_method[0].method.name,
            points=[(t.rate, t.end) for t in of_method if math.isfinite(t.end)],
            colour=colour,
        )
        for of_method, colour in zip(traces, COLOURS, strict=False)
    ]
    drawings = line_chart(
        lines, x_label="learning rate", y_label="Loss at the end, nats", log_x=True, log_y=True, legend=False
    )
    lost = [f"{t.method.name} at {t.rate:g}" for of_method in traces for t in of_method if not math.isfinite(t.end)]
    words = (
        "Each method was run with each rate of its own small grid, and the rate with the lowest loss at the end was "
        "chosen for everything above. A rate that is too small is slow; one that is too large oscillates or diverges."
    )
    if lost:
        words += f" Diverged: {', '.join(lost)}."
    names = [of_method[0].method.name for of_method in traces]
    return note(escape(words)) + lesson.key(names) + charts([drawings], columns="two")


def _paths(found: Comparison) -> str:
    plane = Plane(x_range=found.ranges[0], y_range=found.ranges[1], x_label="w1", y_label="w2", width=330, height=330)
    w = torch.from_numpy(np.stack(plane.grid(FINE), axis=-1)).float()
    with torch.no_grad():
        loss = found.surface.loss([w], found.surface.x, found.surface.y).double().numpy()
    low, high = float(np.log(loss).min()), float(np.log(loss).max())
    height = 1 - 2 * (np.log(loss) - low) / (high - low)  # blue is low
    levels = np.exp(np.linspace(low, high, CONTOURS + 2)[1:-1]).tolist()
    ground = plane.coloured(height) + plane.contours(loss, levels)
    drawings: list[str] = []
    rows: list[Row] = []
    for of_method, colour in zip(found.paths, COLOURS, strict=False):
        t = best(of_method)
        points = [(p[0], p[1]) for p in t.path]
        parts = [ground, plane.path(points, colour), plane.dots(points[:1], colour, radius=3)]
        path = plane.svg(parts, label=f"The path of {t.method.name} over the loss of two weights")
        drawings.append(figure(path, title=escape(t.method.name)))
        end = ", ".join(f"{v:.2f}" for v in points[-1])
        size = "all" if t.method.rows is None else str(t.method.rows)
        rows.append((t.method.name, size, f"{t.rate:g}", t.steps[-1], f"{t.end:.5f}", f"({end})"))
    titles = ("Method", "Rows per step", "Rate", "Steps", "Loss at the end", "Where it ended")
    return (
        note(
            "The lecture's smallest net: x → w1 → sigmoid → w2 → sigmoid, squared error over "
            f"{len(found.surface.x)} rows that a net with w = (1, 4) generated, with noise. Blue is low, orange high; "
            "along a thin line the loss is the same, and the lines are evenly spaced in its logarithm. All start at "
            "the small dot, each with the best of its rates, and end at the large one."
        )
        + charts(drawings)
        + table(titles, rows)
    )
