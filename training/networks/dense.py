"""Dense nets for tables, many at once: E nets of one shape are one net whose weights have an axis more.

    row (F) -> coded (D) -> [linear, tanh] x depth -> linear -> (K)

Rows are coded inside the graph: numbers standardised, categories one-hot, what is missing at the mean with a one in a
column of its own. Each net has its own statistics and its own weights, and no arithmetic mixes two nets, so that all
folds and all settings of a cross-validation are learned in one batched matrix product per layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from app.core.manifest.table import CategoryColumn, Table


@dataclass(frozen=True)
class Layout:
    """Where in a row the numbers and the categories lie, and which of them may be missing."""

    numbers: tuple[int, ...]
    categories: tuple[tuple[int, int], ...]  # (place in the row, how many categories)
    missing: tuple[int, ...]

    @classmethod
    def of(cls, table: Table) -> Layout:
        columns = list(enumerate(table.columns))
        return cls(
            numbers=tuple(i for i, c in columns if not isinstance(c, CategoryColumn)),
            categories=tuple((i, len(c.categories)) for i, c in columns if isinstance(c, CategoryColumn)),
            missing=tuple(i for i, c in columns if c.missing),
        )

    @property
    def width(self) -> int:
        """D, the columns of a coded row."""
        return len(self.numbers) + sum(count for _, count in self.categories) + len(self.missing)


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
