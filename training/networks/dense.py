"""Dense nets for tables, many at once: E nets of one shape are one net whose weights have an axis more.

    row (F) -> coded (D) -> [linear, tanh] x depth -> linear -> (K)

Rows are coded inside the graph: numbers and the days of dates standardised, categories one-hot, what is missing at the
mean with a one in a column of its own; dates have their parts besides, weekday, season and time of day. Each net has
its own statistics and its own weights, and no arithmetic mixes two nets, so that all folds and all settings of a
cross-validation are learned in one batched matrix product per layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from app.core.manifest.table import CategoryColumn, DateColumn, Table


@dataclass(frozen=True)
class Layout:
    """Where in a row the numbers and the categories lie, and which of them may be missing. Dates are numbers of days,
    and have parts besides."""

    numbers: tuple[int, ...]
    categories: tuple[tuple[int, int], ...]  # (place in the row, how many categories)
    missing: tuple[int, ...]
    dates: tuple[tuple[int, float, bool], ...] = ()  # (place in the row, days from 1970-01-01 to 0, has a time of day)

    @classmethod
    def of(cls, table: Table) -> Layout:
        columns = list(enumerate(table.columns))
        return cls(
            numbers=tuple(i for i, c in columns if not isinstance(c, CategoryColumn)),
            categories=tuple((i, len(c.categories)) for i, c in columns if isinstance(c, CategoryColumn)),
            missing=tuple(i for i, c in columns if c.missing),
            dates=tuple((i, c.offset, c.clock) for i, c in columns if isinstance(c, DateColumn)),
        )

    @property
    def width(self) -> int:
        """D, the columns of a coded row."""
        parts = sum(len(date_parts(clock)) for _, _, clock in self.dates)
        return len(self.numbers) + sum(count for _, count in self.categories) + len(self.missing) + parts


WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
YEAR: Final = 365.2425  # days
FIRST_WEEKDAY: Final = 3  # of 1970-01-01, a Thursday


def date_parts(clock: bool) -> tuple[str, ...]:
    """What the parts of a date are, in `date_coding`'s order."""
    circles = ("season, sine", "season, cosine") + (("hour, sine", "hour, cosine") if clock else ())
    return (*WEEKDAYS, *circles)


def date_coding(days: Tensor, offset: float, clock: bool) -> Tensor:
    """Days (..., 1) less `offset` as their parts (..., P): a one for the weekday, and the place in the year, and with
    `clock` in the day, on a circle; all 0 where the date is missing."""
    whole = torch.floor(days) + (math.floor(offset) + FIRST_WEEKDAY) % 7
    weekday = whole - 7 * torch.floor(whole / 7)
    parts = [(weekday == torch.arange(7)).float()]
    turns = [(days + offset % YEAR) / YEAR] + ([days + offset % 1] if clock else [])
    for turn in turns:
        angle = 2 * math.pi * (turn - torch.floor(turn))
        parts += [torch.sin(angle), torch.cos(angle)]
    return torch.where(torch.isnan(days), 0.0, torch.cat(parts, dim=-1))


class Coding(nn.Module):
    """Rows (B, F) float32, NaN where missing, or (E, B, F) -> (E, B, D): each net's own view of them."""

    mean: Tensor  # (E, 1, numbers)
    scale: Tensor  # (E, 1, numbers)

    def __init__(self, layout: Layout, *, nets: int) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("mean", torch.zeros(nets, 1, len(layout.numbers)))
        self.register_buffer("scale", torch.ones(nets, 1, len(layout.numbers)))
        self.register_buffer("numbers", torch.tensor(layout.numbers, dtype=torch.int64))
        self.register_buffer("missing", torch.tensor(layout.missing, dtype=torch.int64))

    @torch.no_grad()
    def standardise(self, x: Tensor, weight: Tensor) -> None:
        """Take mean and standard deviation from the rows `x` (N, F) that each net learns from: weight (E, N) above 0.

        A column without spread there gets scale 1, one without a value mean 0.
        """
        values = x[:, self.get_buffer("numbers")].double()  # (N, numbers)
        known = ~torch.isnan(values)
        values = torch.where(known, values, 0.0)
        seen = (weight > 0).double()  # (E, N)
        count = (seen @ known.double()).clamp(min=1.0)  # (E, numbers)
        mean = seen @ values / count
        middle = values.sum(0) / known.double().sum(0).clamp(min=1.0)  # of all rows: keeps the squares small
        centred = torch.where(known, values - middle, 0.0)
        variance = seen @ centred.square() / count - (mean - middle).square()
        scale = torch.where(variance > 1e-12 * (seen @ centred.square() / count), variance.clamp(min=0).sqrt(), 1.0)
        scale = torch.where(scale > 0, scale, 1.0)
        self.mean.copy_(mean[:, None].float())
        self.scale.copy_(scale[:, None].float())

    def forward(self, x: Tensor) -> Tensor:
        numbers = x[..., self.get_buffer("numbers")]
        z = (numbers - self.mean) / self.scale  # (E, B, numbers)
        parts = [torch.where(torch.isnan(z), 0.0, z)]
        # NaN equals nothing: a missing category is all zeros.
        fixed = [(x[..., i : i + 1] == torch.arange(count)).float() for i, count in self.layout.categories]
        if self.layout.missing:
            fixed.append(torch.isnan(x[..., self.get_buffer("missing")]).float())
        fixed += [date_coding(x[..., i : i + 1], offset, clock) for i, offset, clock in self.layout.dates]
        parts += [part.expand(*z.shape[:2], part.shape[-1]) for part in fixed]
        return torch.cat(parts, dim=-1)


class Dense(nn.Module):
    """E nets at once: rows (B, F) -> (E, B, K), no activation after the last layer."""

    def __init__(
        self, layout: Layout, *, nets: int, widths: Sequence[int], outputs: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.coding = Coding(layout, nets=nets)
        sizes = (layout.width, *widths, outputs)
        self.weights = nn.ParameterList(
            torch.randn(nets, a, b, generator=generator) / math.sqrt(a) for a, b in pairwise(sizes)
        )
        self.biases = nn.ParameterList(torch.zeros(nets, 1, b) for b in sizes[1:])
        with torch.no_grad():
            self.weights[-1].zero_()  # every answer begins at the bias

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.coding(x))

    def layers(self, z: Tensor) -> Tensor:
        """Coded rows (E, B, D) -> (E, B, K)."""
        for weight, bias in zip(list(self.weights)[:-1], list(self.biases)[:-1], strict=True):
            z = torch.tanh(torch.baddbmm(bias, z, weight))
        return torch.baddbmm(self.biases[-1], z, self.weights[-1])

    def squares(self) -> Tensor:
        """(E,): each net's sum of squared weights, biases left out."""
        return torch.stack([w.square().sum((1, 2)) for w in self.weights]).sum(0)
