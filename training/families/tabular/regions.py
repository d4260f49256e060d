"""Intervals that hold in every part of the data: where values are missing, in each category, along each number.

Conformal scores promise their coverage over all rows together, and can break it wherever the predicted scale is wrong.
Two things mend that. Rows are given twice, the second time with the gaps that few rows have, so that nets learn what
to make of them and there are scores to judge them by (Zaffran et al. 2023, missing data augmentation). And the scale
is multiplied by exp(terms @ gamma), where gamma is the quantile regression of the scores on where a row lies (after
Gibbs et al. 2023): within each group the 90 % interval then holds nine of ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import QuantileRegressor
from torch import Tensor, nn

from training.families.tabular.groups import ENOUGH
from training.networks.dense import Layout

COVERAGE: Final = 0.9  # the one that is made to hold in every group
LEAST_ROWS: Final = 500  # that a scaling is fitted to
MOST_ROWS: Final = 2000  # and the most: a quantile of more is not worth the time
CURVED_FROM: Final = 1500  # rows, for a bend along each number besides the slope
PATTERNS: Final = 8  # of missing values that rows are copied for, the commonest
STRICTNESS: Final = 0.5  # standard errors that a group's coverage has to be off by, before it is mended
TELLS: Final = 2.0  # standard errors between the targets of rows with and without a value: being missing says something


@dataclass(frozen=True, kw_only=True)
class Gapped:
    """Rows and behind them copies with further gaps: `x` (N + M, F), `y` (N + M,), `source` (N + M,), whose copy it is
    (its own number for the first N)."""

    x: Tensor
    y: Tensor
    source: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, layout: Layout, *, seed: int) -> Gapped:
        """Of rows (N, F), NaN where missing, and numbers (N,); rows with labels have no copies.

        Copies have the gaps of the commonest patterns of missing values, as many of each as make ENOUGH rows or a tenth
        of all, and half of the rows at most. A pattern is left alone where being missing tells of the target: there a
        copy would be another thing than the row that it stands for.
        """
        if not y.is_floating_point():
            return cls(x=x, y=y, source=torch.arange(len(y)))
        missing = torch.isnan(x)
        told = _told(missing, y, layout)
        patterns, counts = torch.unique(missing, dim=0, return_counts=True)
        draw = np.random.default_rng(seed)
        sources: list[Tensor] = []
        gaps: list[Tensor] = []
        for i in torch.argsort(counts, descending=True, stable=True).tolist():
            pattern = patterns[i]
            if not pattern.any() or (pattern & told).any() or len(gaps) == PATTERNS:
                continue
            fuller = torch.nonzero((missing <= pattern).all(1) & (missing != pattern).any(1))[:, 0]
            more = min(max(ENOUGH, len(y) // 10) - int(counts[i]), len(y) // 2, len(fuller))
            if more > 0:
                sources.append(fuller[torch.from_numpy(draw.permutation(len(fuller))[:more])])
                gaps.append(pattern.expand(more, -1))
        source = torch.cat([torch.arange(len(y)), *sources])
        whole = x[source].clone()
        if gaps:
            whole[len(y) :][torch.cat(gaps)] = torch.nan
        return cls(x=whole, y=y[source], source=source)


def _told(missing: Tensor, y: Tensor, layout: Layout) -> Tensor:
    """Bool (F,): columns whose being missing tells of the target: the two means are apart (Welch 1947)."""
    found = torch.zeros(missing.shape[1], dtype=torch.bool)
    values = y.double()
    for j in layout.missing:
        gone, there = values[missing[:, j]], values[~missing[:, j]]
        if len(gone) > 1 and len(there) > 1:
            error = (gone.var() / len(gone) + there.var() / len(there)).sqrt()
            found[j] = (gone.mean() - there.mean()).abs() > TELLS * error
    return found


class Terms(nn.Module):
    """Where rows (B, F) lie, float32 (B, T): each number between -1 and 1, two standard deviations to each side of its
    mean, with its square for larger tables; a one for each category and for each value that is missing."""

    mean: Tensor
    reach: Tensor

    def __init__(self, layout: Layout, x: Tensor) -> None:
        super().__init__()
        self.layout, self.curved = layout, len(x) >= CURVED_FROM
        self.register_buffer("numbers", torch.tensor(layout.numbers, dtype=torch.int64))
        self.register_buffer("missing", torch.tensor(layout.missing, dtype=torch.int64))
        values = x[:, self.get_buffer("numbers")].double().numpy()
        some = ~np.isnan(values).all(axis=0)
        mean, reach = np.zeros(values.shape[1]), np.ones(values.shape[1])
        mean[some], reach[some] = np.nanmean(values[:, some], axis=0), 2 * np.nanstd(values[:, some], axis=0)
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("reach", torch.from_numpy(np.where(reach > 0, reach, 1.0)).float())

    def forward(self, x: Tensor) -> Tensor:
        z = (x[:, self.get_buffer("numbers")] - self.mean) / self.reach
        z = torch.where(torch.isnan(z), 0.0, z).clamp(-1.0, 1.0)
        parts = [z, z.square()] if self.curved else [z]
        parts += [(x[:, i : i + 1] == torch.arange(count)).float() for i, count in self.layout.categories]
        if self.layout.missing:
            parts.append(torch.isnan(x[:, self.get_buffer("missing")]).float())
        return torch.cat(parts, dim=-1)


def fit_scaling(terms: NDArray[Any], scores: NDArray[Any], *, seed: int = 0) -> NDArray[np.float64]:
    """gamma (T,), by which exp(terms @ gamma) times the scale holds COVERAGE along every term.

    The quantile regression of log scores (n,) on terms (n, T) (Koenker, Bassett 1978), where a term costs as much as a
    coverage STRICTNESS standard errors off would gain: what can be chance is left at 0.
    """
    if len(scores) < LEAST_ROWS:
        return np.zeros(terms.shape[1])
    if len(scores) > MOST_ROWS:
        some = np.sort(np.random.default_rng(seed).permutation(len(scores))[:MOST_ROWS])
        terms, scores = terms[some], scores[some]
    size = np.sqrt(COVERAGE * (1 - COVERAGE) * np.square(terms, dtype=np.float64).sum(axis=0)) / len(scores)
    used = (size > 0) & (np.ptp(terms, axis=0) > 0)
    found = np.zeros(terms.shape[1])
    if used.any():
        cost = STRICTNESS * size[used]
        least = max(float(scores.max()) * 1e-9, 1e-30)
        model = QuantileRegressor(quantile=COVERAGE, alpha=1.0, solver="highs")
        model.fit(terms[:, used] / cost, np.log(np.maximum(scores, least)))
        found[used] = model.coef_ / cost
    return found


def scaled_scores(
    terms: NDArray[Any], scores: NDArray[Any], fold: NDArray[np.int64], real: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """gamma of all rows, and the real rows' scores once scaled, each by a gamma of the other folds, rising."""
    found = np.zeros(len(scores))
    for k in np.unique(fold):
        out = fold == k
        found[out] = scores[out] / np.exp(terms[out] @ fit_scaling(terms[~out], scores[~out]))
    return fit_scaling(terms, scores), np.sort(found[real])
