"""Which cells are measured, and what came of them over the rounds."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.bench.load import Cell
from tests.bench.shapes import SHAPES
from tests.bench.yardsticks import Raw

DEFAULT: Final = "A1,A8,A32,A128,B32,B128,C8,N32,J32,P32,mlp/A32"


@dataclass(frozen=True, slots=True)
class Place:
    """A cell's coordinates: `A32` or `mlp/A32`."""

    model: str
    shape: str
    connections: int

    def __str__(self) -> str:
        return f"{'' if self.model == 'cnn' else self.model + '/'}{self.shape}{self.connections}"


def places(text: str) -> list[Place]:
    """Parse `A1,mlp/A32`.

    Raises:
        ValueError: naming the wrong one.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(rf"(?:(cnn|mlp)/)?([{''.join(SHAPES)}])([1-9][0-9]{{0,3}})", part)
        if not match:
            raise ValueError(
                f"cell '{part}': expected one of {', '.join(SHAPES)} and the connections, as A32 or mlp/A32"
            )
        found.append(Place(match[1] or "cnn", match[2], int(match[3])))
    return found


@dataclass
class Results:
    """All that was measured, a list entry for each round."""

    lectern: dict[Place, list[Cell]] = field(default_factory=dict)
    bare: dict[Place, list[Cell]] = field(default_factory=dict)
    raw: dict[str, list[Raw]] = field(default_factory=dict)
    start_s: list[float] = field(default_factory=list)
    worst: dict[str, float] = field(default_factory=dict)  # model -> largest difference to ONNX Runtime

    def raw_rows_per_s(self, place: Place) -> float:
        return statistics.median(raw.most(SHAPES[place.shape].rows) for raw in self.raw[place.model])

    def model_us(self, place: Place) -> float:
        """What one request costs the model, in CPU time."""
        rows = SHAPES[place.shape].rows
        return rows * statistics.median(raw.row_us(rows, place.connections) for raw in self.raw[place.model])


def median(cells: Sequence[Cell], of: Callable[[Cell], float]) -> float:
    return statistics.median(map(of, cells))


def spread(cells: Sequence[Cell]) -> float:
    """Half the range of the requests/s, as a share of their median."""
    rates = [cell.per_s for cell in cells]
    middle = statistics.median(rates)
    return (max(rates) - min(rates)) / 2 / middle if middle else 0.0


HEADINGS: Final = (
    "cell", "req/s", "+-%", "rows/s", "p50 ms", "p99 ms", "errors", "server us", "model us", "overhead us",
    "cores", "RSS MB", "PSS MB", "bare req/s", "bare us", "of bare", "of raw",
)  # fmt: skip


def table(results: Results) -> list[list[str]]:
    """One line a cell, medians over the rounds."""
    lines = [list(HEADINGS)]
    for place, cells in results.lectern.items():
        rate, rows = median(cells, lambda c: c.per_s), median(cells, lambda c: c.rows_per_s)
        server_us, model_us = median(cells, lambda c: c.cpu_us), results.model_us(place)
        errors: dict[str, int] = {}
        for cell in cells:
            for kind, count in cell.errors.items():
                errors[kind] = errors.get(kind, 0) + count
        bare = ["-", "-", "-"]
        if place in results.bare:
            bare_rate = median(results.bare[place], lambda c: c.per_s)
            bare_us = median(results.bare[place], lambda c: c.cpu_us)
            bare = [f"{bare_rate:,.0f}", f"{bare_us:,.0f}", f"{rate / bare_rate:.2f}"]
        lines.append(
            [
                str(place),
                f"{rate:,.0f}",
                f"{spread(cells):.0%}".rstrip("%"),
                f"{rows:,.0f}",
                f"{median(cells, lambda c: c.p50_ms):.2f}",
                f"{median(cells, lambda c: c.p99_ms):.2f}",
                " ".join(f"{count} {kind}" for kind, count in errors.items()) or "0",
                f"{server_us:,.0f}",
                f"{model_us:,.0f}",
                f"{server_us - model_us:,.0f}",
                f"{median(cells, lambda c: c.cores):.2f}",
                f"{median(cells, lambda c: c.memory.rss) / 1e6:,.0f}",
                f"{median(cells, lambda c: c.memory.pss) / 1e6:,.0f}",
                *bare,
                f"{rows / results.raw_rows_per_s(place):.2f}",
            ]
        )
    return lines


def raw_table(results: Results) -> list[list[str]]:
    lines = [["ONNX Runtime alone", "rows", "CPU us a row", "rows/s, one session", "rows/s, two sessions"]]
    for model, rounds in results.raw.items():
        for rows in rounds[0].cpu_us:
            figures = (
                statistics.median(r.cpu_us[rows] for r in rounds),
                statistics.median(r.one[rows] for r in rounds),
                statistics.median(r.two[rows] for r in rounds),
            )
            lines.append([model, str(rows), f"{figures[0]:,.1f}", f"{figures[1]:,.0f}", f"{figures[2]:,.0f}"])
    return lines


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns, the first to the left and the others to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    first, *others = widths
    return "\n".join(
        "  ".join([line[0].ljust(first), *(text.rjust(n) for text, n in zip(line[1:], others, strict=True))])
        for line in lines
    )
