"""Learning curves: charts of what a training wrote down at each epoch or step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from training.reporting.charts import COLOURS, Line, line_chart
from training.reporting.html import charts

History = Sequence[Mapping[str, float]]
"""One mapping per epoch; a missing or non-finite figure leaves a gap. A missing `x` is the row's number from 1 on."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One chart: `lines` are pairs of a key of the history and its label; `shown` converts its values."""

    y_label: str
    lines: Sequence[tuple[str, str]]
    log_y: bool = False
    from_zero: bool = False
    shown: Callable[[float], float] = float


def history_charts(history: History, curves: Sequence[Curves], *, x: str = "epoch", skip: float = 0.0) -> str:
    """The charts beside each other as HTML; those without any point are left out.

    Args:
        x: key and name of the horizontal axis.
        skip: share of the points, one at least, left out at the start, since a training that starts from nothing would
            flatten all that comes after. Nothing is left out of four points or fewer.
    """
    drawings = []
    for chart in curves:
        lines = [
            Line(label=label, points=_points(history, key, chart.shown, x=x, skip=skip), colour=colour)
            for (key, label), colour in zip(chart.lines, COLOURS, strict=False)
        ]
        drawings.append(
            line_chart(
                [line for line in lines if line.points],
                x_label=x,
                y_label=chart.y_label,
                log_y=chart.log_y,
                from_zero=chart.from_zero,
            )
        )
    return charts(drawings)


def _points(
    history: History, key: str, shown: Callable[[float], float], *, x: str, skip: float
) -> list[tuple[float, float]]:
    points = [
        (row.get(x, i + 1.0), shown(row[key])) for i, row in enumerate(history) if math.isfinite(row.get(key, math.nan))
    ]
    return points[max(1, int(skip * len(points))) :] if skip and len(points) > 4 else points
