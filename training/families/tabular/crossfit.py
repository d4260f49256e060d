"""Cross-fitting: what nets make of rows that they did not learn from chooses the setting and calibrates the ensemble.

The nets of all folds together are the ensemble; none is trained again on all rows. So every row has been answered by
nets that did not see it, and those answers are the validation score, the temperature and the conformal scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.table import folds
from training.families.tabular.ensemble import Curve, Nets, Setting, Task, learn
from training.families.tabular.regions import scaled_scores
from training.metrics.classification import fit_temperature


@dataclass(frozen=True, kw_only=True)
class Folds:
    """Which rows each net learns from and which it is judged on: bool (S, N) both; a row may be in neither."""

    learns: Tensor
    judges: Tensor

    @classmethod
    def of(
        cls, y: Tensor, rows: Tensor, *, count: int, repeats: int, seed: int, copies: NDArray[np.int64] | None = None
    ) -> Folds:
        """`repeats` partitions of the row numbers `rows` (n,) into `count` folds, one net for each fold left out; rows
        of one number in `copies` (N,) are in one fold."""
        alike = None if copies is None else copies[rows.numpy()]
        learns: list[Tensor] = []
        judges: list[Tensor] = []
        for repeat in range(repeats):
            fold = folds(y[rows], count, seed=seed * 1000 + repeat, copies=alike)
            for k in range(count):
                for kept, masks in ((fold != k, learns), (fold == k, judges)):
                    mask = torch.zeros(len(y), dtype=torch.bool)
                    mask[rows[torch.from_numpy(kept)]] = True
                    masks.append(mask)
        return cls(learns=torch.stack(learns), judges=torch.stack(judges))

    def __len__(self) -> int:
        return len(self.learns)

    def of_copies(self, source: Tensor) -> Folds:
        """The same of rows that are copies: row i one of row `source[i]`."""
        return Folds(learns=self.learns[:, source], judges=self.judges[:, source])


def mix(answers: Tensor, weight: Tensor | None = None) -> Tensor:
    """One answer from those of E nets (E, N, K): log-probabilities' mean probability, or the mixture's moments.

    Args:
        answers: log-probabilities, or where `weight` is of a regression (value, standard deviation).
        weight: (E, N), summing to one over the nets that are asked; None for all alike.
    """
    if weight is None:
        return torch.logsumexp(answers, 0) - torch.log(torch.tensor(float(len(answers))))
    return torch.logsumexp(answers + torch.log(weight)[..., None], 0)


def mix_moments(answers: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean and standard deviation (N, 2) of the mixture of normals (E, N, 2) (Lakshminarayanan et al. 2017, 2.4)."""
    value, scale = answers[..., 0], answers[..., 1]
    if weight is None:
        mean = value.mean(0)
        return torch.stack([mean, (scale.square() + (value - mean).square()).mean(0).sqrt()], dim=-1)
    mean = (weight * value).sum(0)
    return torch.stack([mean, (weight * (scale.square() + (value - mean).square())).sum(0).sqrt()], dim=-1)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """All nets of a grid: one group for each shape, with the settings in it."""

    task: Task
    grid: tuple[Setting, ...]
    groups: tuple[tuple[tuple[Setting, ...], Nets, Curve], ...]
    folds: int  # S, nets of one setting

    @torch.no_grad()
    def answers(self, x: Tensor) -> Tensor:
        """(G, S, N, K), the settings in the grid's order."""
        found: dict[Setting, Tensor] = {}
        for settings, nets, _ in self.groups:
            parts = nets(x).reshape(len(settings), self.folds, len(x), -1)
            found |= dict(zip(settings, parts, strict=True))
        return torch.stack([found[setting] for setting in self.grid])


def fit_grid(x: Tensor, y: Tensor, learns: Tensor, grid: Sequence[Setting], task: Task, *, seed: int) -> Fitted:
    """Learn every setting of the grid on every fold; settings of one shape at once."""
    by_shape = sorted(grid, key=lambda setting: setting.widths)
    groups = []
    for _, members in groupby(by_shape, key=lambda setting: setting.widths):
        settings = tuple(members)
        groups.append((settings, *learn(x, y, learns, settings, task, seed=seed)))
    return Fitted(task=task, grid=tuple(grid), groups=tuple(groups), folds=len(learns))


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What the rows that were not trained on say: which settings are kept, and how sure the ensemble may be.

    `held` are the ensemble's answers for those rows: (n, K) calibrated log-probabilities, or (n, 2).
    """

    kept: tuple[int, ...]  # places in the grid
    losses: tuple[float, ...]  # of each setting: calibrated NLL in nats, or mean squared error
    temperature: float  # 1 for a regression
    held: Tensor
    scores: NDArray[np.float64]  # (n,) rising: |y - value| / scale; empty for a classification
    gamma: NDArray[np.float64]  # (T,), `regions.fit_scaling`; empty for a classification

    def __call__(self, answers: Tensor, terms: Tensor) -> Tensor:
        """The ensemble's answer (N, K) from all nets' answers (G, S, N, K), and where the rows lie: `Terms`, (N, T)."""
        of_kept = answers[list(self.kept)].flatten(0, 1)
        if len(self.scores):
            return scaled(mix_moments(of_kept), terms, torch.from_numpy(self.gamma))
        return torch.log_softmax(mix(of_kept) / self.temperature, dim=-1)


def scaled(moments: Tensor, terms: Tensor, gamma: Tensor) -> Tensor:
    """Value and scale (N, 2), the scale times exp(terms @ gamma)."""
    factor = torch.exp(terms.to(moments.dtype) @ gamma.to(moments.dtype))
    return torch.stack([moments[:, 0], moments[:, 1] * factor], dim=-1)


def calibrate(
    answers: Tensor, y: Tensor, folds: Folds, rows: Tensor, *, classes: int, terms: Tensor, copies: Tensor | None = None
) -> Calibrated:
    """Choose by the answers (G, S, N, K) for rows that the nets did not learn from: the setting with the least loss,
    and all that are within one standard error of it (Breiman et al. 1984, 3.4.3, here of the rows' differences).

    `rows` (n,) are the row numbers that `folds` parts; `copies` those of their copies with gaps, which only the scales
    of a regression are fitted to. `terms` (N, T) say where rows lie.
    """
    judged = folds.judges[:, rows].double()  # (S, n)
    weight = judged / judged.sum(0)
    seen, target = answers[:, :, rows].double(), y[rows]
    mixture = mix if classes else mix_moments
    losses = torch.stack([_losses(mixture(one, weight), target, classes) for one in seen])  # (G, n)
    kept = _as_good_as_the_best(losses)
    means = tuple(losses.mean(1).tolist())
    if not classes:
        return _calibrate_scales(answers, y, folds, rows, copies, kept=kept, losses=means, terms=terms)
    held = mix(seen[list(kept)].flatten(0, 1), weight.repeat(len(kept), 1) / len(kept))
    temperature = fit_temperature(held.numpy(), target.numpy())
    held = torch.log_softmax(held / temperature, dim=-1)
    none = np.zeros(0)
    return Calibrated(kept=kept, losses=means, temperature=temperature, held=held, scores=none, gamma=none)


def _calibrate_scales(
    answers: Tensor,
    y: Tensor,
    folds: Folds,
    rows: Tensor,
    copies: Tensor | None,
    *,
    kept: tuple[int, ...],
    losses: tuple[float, ...],
    terms: Tensor,
) -> Calibrated:
    """Of a regression: the scores of what is kept, once the scale fits everywhere."""
    both = rows if copies is None else torch.cat([rows, copies])
    judged = folds.judges[:, both]
    weight = judged.double().repeat(len(kept), 1)
    held = mix_moments(answers[list(kept)][:, :, both].double().flatten(0, 1), weight / weight.sum(0))
    scores = ((y[both] - held[:, 0]).abs() / held[:, 1]).numpy()
    where = terms[both].double()
    fold = judged.int().argmax(0).numpy()
    gamma, rising = scaled_scores(where.numpy(), scores, fold, np.arange(len(both)) < len(rows))
    held = scaled(held, where, torch.from_numpy(gamma))[: len(rows)]
    return Calibrated(kept=kept, losses=losses, temperature=1.0, held=held, scores=rising, gamma=gamma)


def _losses(held: Tensor, y: Tensor, classes: int) -> Tensor:
    """(n,): of one setting's answers for rows that were not trained on; log-loss once calibrated, or squared error."""
    if not classes:
        return (held[:, 0] - y).square()
    z = held / fit_temperature(held.numpy(), y.numpy())
    return nn.functional.cross_entropy(z, y, reduction="none")


def _as_good_as_the_best(losses: Tensor) -> tuple[int, ...]:
    """Of settings' losses (G, n): which cannot be distinguished from the best, the best first."""
    order = np.argsort(losses.mean(1).numpy(), kind="stable").tolist()
    apart = losses - losses[order[0]]
    error = apart.std(1) / math.sqrt(losses.shape[1])
    return tuple(i for i in order if i == order[0] or apart[i].mean() <= error[i])
