"""Two tables sampled from written rules, so that a trained model can be compared with the truth.

`pass`: "Will I pass this class?" from the lectures attended and the hours spent on the project. `grade`: the final
grade, whose spread is known too. All numbers come from the bit generator's raw stream, the one thing that NumPy
promises never to change (NEP 19).
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.manifest.table import Table
from training.data.table import TableDataset, category, number, target

ROWS: Final = 600
TEST_ROWS: Final = 10_000
LECTURES: Final = 15
MOST_HOURS: Final = 40
PROGRAMMES: Final = ("informatics", "mathematics", "physics")
FORGOTTEN: Final = 0.06  # share of rows that do not say their hours
SEED: Final = 2024

Array = NDArray[np.float64]
NORMAL_REACH: Final = tuple(NormalDist().inv_cdf((1 + c) / 2) for c in (0.5, 0.8, 0.9, 0.95))  # standard deviations


def pass_probability(lectures: Array, hours: Array) -> Array:
    """P(passed) = sigmoid(-5 + 0.25 lectures + 0.1 hours + 0.015 lectures * hours): each helps, together more."""
    z = -5 + 0.25 * lectures + 0.1 * hours + 0.015 * lectures * hours
    return np.asarray(1 / (1 + np.exp(-z)), np.float64)


def grade_mean(lectures: Array, hours: Array, programme: Array) -> Array:
    """30 + 1.6 lectures + 30 (1 - exp(-hours / 12)) points, and 0, 3 or -4 by programme."""
    offset: Array = np.array([0.0, 3.0, -4.0])[programme.astype(int)]
    mean: Array = 30 + 1.6 * lectures + 30 * (1 - np.exp(-hours / 12)) + offset
    return mean


def grade_spread(lectures: Array) -> Array:
    """Standard deviation of the grade, in points: 9 for who never came, 3 for who always did."""
    return 9 - 6 * lectures / LECTURES


def passing() -> TableDataset:
    """Will I pass this class? 600 students and their results, drawn from a written rule."""
    draw = _Draw(SEED)
    n = ROWS + TEST_ROWS
    lectures, hours = draw.whole(n, LECTURES), _hours(draw, n)
    y = (draw.uniform(n) < pass_probability(lectures, hours)).astype(np.int64)
    x = np.stack([lectures, hours], axis=1).astype(np.float32)
    columns = (
        number("lectures", x[:ROWS, 0], about=f"attended, of {LECTURES}"),
        number("hours", x[:ROWS, 1], unit="h", about="spent on the project"),
    )
    return _dataset(
        "pass", "Will I pass this class?", columns, x, y, target_column="result", labels=("failed", "passed")
    )


def grade() -> TableDataset:
    """The final grade of 600 students, drawn from a written rule; some hours are missing."""
    draw = _Draw(SEED + 1)
    n = ROWS + TEST_ROWS
    lectures, hours = draw.whole(n, LECTURES), _hours(draw, n)
    programme = draw.whole(n, len(PROGRAMMES) - 1)
    y = grade_mean(lectures, hours, programme) + grade_spread(lectures) * draw.normal(n)
    hours = np.where(draw.uniform(n) < FORGOTTEN, np.nan, hours)
    x = np.stack([lectures, hours, programme], axis=1).astype(np.float32)
    columns = (
        number("lectures", x[:ROWS, 0], about=f"attended, of {LECTURES}"),
        number("hours", x[:ROWS, 1], unit="h", about="spent on the project"),
        category("programme", x[:ROWS, 2], PROGRAMMES),
    )
    return _dataset("grade", "The final grade", columns, x, y.astype(np.float32), target_column="grade", unit="points")


def truth(name: str, x: NDArray[np.floating[Any]]) -> Array | None:
    """What the rule says of rows (N, F): for `pass` P(passed) (N,), for `grade` mean and standard deviation (N, 2),
    NaN where a value is missing; None for a table without a rule."""
    values = x.astype(np.float64)
    if name == "pass":
        return pass_probability(values[:, 0], values[:, 1])
    if name == "grade":
        mean = grade_mean(values[:, 0], values[:, 1], values[:, 2])
        return np.stack([mean, grade_spread(values[:, 0])], axis=1)
    return None


SOURCES: Final[dict[str, Callable[[], TableDataset]]] = {"pass": passing, "grade": grade}


class _Draw:
    """Random numbers that are the same for ever."""

    def __init__(self, seed: int) -> None:
        self.bits = np.random.PCG64(seed)

    def uniform(self, n: int) -> Array:
        """Within (0, 1), in steps of 2**-53."""
        return (np.asarray(self.bits.random_raw(n) >> np.uint64(11), np.float64) + 0.5) * 2.0**-53

    def whole(self, n: int, most: int) -> Array:
        """0 to `most`, each as likely."""
        return np.floor(self.uniform(n) * (most + 1))

    def normal(self, n: int) -> Array:
        return np.array([NormalDist().inv_cdf(u) for u in self.uniform(n).tolist()])


def _hours(draw: _Draw, n: int) -> Array:
    """To a tenth of an hour, up to 40; few have many: 40 u**2."""
    return np.round(MOST_HOURS * draw.uniform(n) ** 2, 1)


def _dataset(
    name: str,
    title: str,
    columns: tuple[Any, ...],
    x: NDArray[np.float32],
    y: NDArray[Any],
    *,
    target_column: str,
    labels: tuple[str, ...] = (),
    unit: str = "",
) -> TableDataset:
    return TableDataset(
        name=name,
        title=title,
        table=Table(columns=columns),
        target=None if labels else target(target_column, y[:ROWS], unit=unit),
        labels=labels,
        target_column=target_column,
        train_x=torch.from_numpy(x[:ROWS]),
        train_y=torch.from_numpy(y[:ROWS]),
        test_x=torch.from_numpy(x[ROWS:]),
        test_y=torch.from_numpy(y[ROWS:]),
        source="drawn from a written rule, training/data/synthetic_tables.py",
        licence="none needed",
        note="made up: the rule is written down, and no student stands behind a row",
    )
