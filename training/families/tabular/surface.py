"""The predictions over two columns of a table, and beside them the rule that generated the rows where there is one."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.manifest.table import CategoryColumn, NumberColumn
from app.core.metric_names import figure as value_of
from training.data import synthetic_tables
from training.data.table import TableDataset
from training.families.tabular.evidence import Evidence
from training.families.tabular.metrics import answers_of
from training.reporting.html import charts, figure, note
from training.reporting.plane import Plane

POINTS: Final = 61
SHOWN: Final = 250  # training rows shown on the surface

Field = NDArray[np.floating[Any]]


def section(folder: Path, manifest: Manifest, dataset: TableDataset, evidence: Evidence) -> str:
    """The surface over the two most important numbers; nothing where a table has fewer than two."""
    table = dataset.table
    # The axes are the graph's own numbers.
    numbers = [j for j, column in enumerate(table.columns) if isinstance(column, NumberColumn) and not column.offset]
    if len(numbers) < 2:
        return ""
    a, b = sorted(sorted(numbers, key=lambda j: -evidence.importances[j][0])[:2])
    first, second = table.columns[a], table.columns[b]
    assert isinstance(first, NumberColumn)
    assert isinstance(second, NumberColumn)
    plane = Plane(
        x_range=(first.low, first.high), y_range=(second.low, second.high), x_label=_name(first), y_label=_name(second)
    )
    xs, ys = plane.grid(POINTS)
    rows = np.tile(_middle(dataset), (POINTS * POINTS, 1))
    rows[:, a], rows[:, b] = xs.ravel(), ys.ravel()
    answers, _ = answers_of(folder, manifest, rows)
    some = np.random.default_rng(0).permutation(len(dataset.train_y))[:SHOWN]
    picked = dataset.train_x[some].numpy()
    points = [(float(row[a]), float(row[b])) for row in picked]
    truth = synthetic_tables.truth(dataset.name, rows) if dataset.name in synthetic_tables.SOURCES else None
    if dataset.labels:
        drawings, words = _classes(plane, answers, truth, points, dataset, some)
    else:
        drawings, words = _values(plane, answers[:, 0], None if truth is None else truth[:, 0], points, dataset)
    others = "" if len(table.columns) == 2 else " All other columns are at their median or most frequent value."
    dots = f"Dots are {len(points)} training rows"
    dots += ", filled where they have the label." if dataset.labels else "."
    return note(f"{words}{others} {dots}") + charts(drawings, columns="two")


def _classes(
    plane: Plane,
    answers: Field,
    truth: Field | None,
    points: list[tuple[float, float]],
    dataset: TableDataset,
    some: NDArray[np.int64],
) -> tuple[list[str], str]:
    labels = dataset.labels
    y = dataset.train_y[some].numpy()
    if len(labels) == 2:
        both = [("Model", answers[:, 1])] + ([] if truth is None else [("Rule", truth)])
        words = f"P({escape(labels[1])}): blue above a half, orange below, lines at 10, 25, 50, 75 and 90 %."
        dots = _dots(plane, points, y == 1)
        fields = [(title, field.reshape(POINTS, POINTS), dots) for title, field in both]
        if truth is not None:
            apart = float(np.abs(answers[:, 1] - truth).mean())
            words += (
                f" On average over the surface the two are {value_of(100 * apart, '', '%', digits=1)[:-1]}points apart."
            )
    else:
        first = labels[:6]
        words = "One chart for each label: blue where its probability is above a half, lines at 10, 50 and 90 %."
        fields = [
            (label, answers[:, k].reshape(POINTS, POINTS), _dots(plane, points, y == k))
            for k, label in enumerate(first)
        ]
    levels = (0.1, 0.25, 0.5, 0.75, 0.9)
    drawings = [
        figure(
            plane.svg([plane.coloured(2 * field - 1), plane.contours(field, levels), dots], label=title),
            title=escape(title),
        )
        for title, field, dots in fields
    ]
    return drawings, words


def _values(
    plane: Plane, value: Field, truth: Field | None, points: list[tuple[float, float]], dataset: TableDataset
) -> tuple[list[str], str]:
    assert dataset.target is not None
    unit = f" {dataset.target.unit}" if dataset.target.unit else ""
    every = value if truth is None else np.concatenate([value, truth])
    low, high = float(every.min()), float(every.max())
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-9)
    levels = [float(v) for v in np.linspace(low, high, 8)[1:-1]]
    fields = [("Model", value)] + ([] if truth is None else [("Rule", truth)])
    drawings = []
    for title, flat in fields:
        field = flat.reshape(POINTS, POINTS)
        parts = [
            plane.coloured((field - middle) / half),
            plane.contours(field, levels),
            _circles(plane, points, "fill:var(--ink);stroke:var(--page)"),
        ]
        drawings.append(figure(plane.svg(parts, label=title), title=title))
    words = (
        f"{escape(dataset.target_column.capitalize())} from {low:.3g} (orange) to {high:.3g}{escape(unit)} (blue), "
        f"lines at {', '.join(f'{level:.3g}' for level in levels)}."
    )
    return drawings, words


def _dots(plane: Plane, points: list[tuple[float, float]], of_one: NDArray[np.bool_]) -> str:
    ours = [point for point, mine in zip(points, of_one, strict=True) if mine]
    others = [point for point, mine in zip(points, of_one, strict=True) if not mine]
    return _circles(plane, others, "fill:var(--page);stroke:var(--ink)") + _circles(
        plane, ours, "fill:var(--ink);stroke:var(--page)"
    )


def _circles(plane: Plane, points: list[tuple[float, float]], style: str) -> str:
    """Dots in the colours of ink and paper, which stand out from the field's."""
    whole = [(a, b) for a, b in points if math.isfinite(a) and math.isfinite(b)]  # a missing value has no position
    found = "".join(f'<circle cx="{plane.x(a):.1f}" cy="{plane.y(b):.1f}" r="2.2"/>' for a, b in whole)
    return f'<g style="{style};stroke-width:.7">{found}</g>'


def _middle(dataset: TableDataset) -> NDArray[np.float32]:
    """A usual row: the median of each number, the most frequent of each category."""
    x = dataset.train_x.numpy()
    found = np.nanmedian(x, axis=0)
    for j, column in enumerate(dataset.table.columns):
        if isinstance(column, CategoryColumn):
            known = x[:, j][~np.isnan(x[:, j])]
            found[j] = np.bincount(known.astype(np.int64)).argmax()
    return np.asarray(found, np.float32)


def _name(column: NumberColumn) -> str:
    return f"{column.name}, {column.unit}" if column.unit else column.name
