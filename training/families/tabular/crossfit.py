"""Cross-fitting: what members make of rows that they did not learn from chooses the setting, weighs nets and trees, and
calibrates the ensemble.

The nets and trees of all folds together are the ensemble; none is trained again on all rows. So every row has been
answered by members that did not see it, and those answers are the validation score, the weight, the temperature and the
conformal scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.table import folds
from training.families.tabular.ensemble import Curve, Nets, Schedule, Setting, Task, learn
from training.families.tabular.pooling import LEVELS, Share, log_probabilities, pool_labels, pool_values
from training.families.tabular.regions import scaled_scores
from training.metrics.classification import fit_temperature

DOUBT: Final = 2.0  # standard errors that trees have to better the nets by


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


def fit_grid(
    x: Tensor, y: Tensor, learns: Tensor, grid: Sequence[Setting], task: Task, *, seed: int, effort: float = 1.0
) -> Fitted:
    """Learn every setting of the grid on every fold; settings of one shape at once. `effort` is the part of the usual
    steps that is made."""
    schedule = Schedule.for_rows(len(y))
    schedule = replace(schedule, steps=max(1, round(effort * schedule.steps)))
    by_shape = sorted(grid, key=lambda setting: setting.widths)
    groups = []
    for _, members in groupby(by_shape, key=lambda setting: setting.widths):
        settings = tuple(members)
        groups.append((settings, *learn(x, y, learns, settings, task, seed=seed, schedule=schedule)))
    return Fitted(task=task, grid=tuple(grid), groups=tuple(groups), folds=len(learns))


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What the rows that were not trained on say: which settings are kept, and how sure the ensemble may be.

    `held` are the ensemble's answers for those rows: (n, K) calibrated log-probabilities, or (n, 2).
    """

    kept: tuple[int, ...]  # places in the nets' grid
    losses: tuple[float, ...]  # of each setting, nets' then trees': calibrated NLL in nats, or mean squared error
    share: Share
    tree: int  # the place in the trees' grid, whose first answer soonest
    temperature: float  # 1 for a regression
    held: Tensor
    scores: NDArray[np.float64]  # (n,) rising: |y - value| / scale; empty for a classification
    gamma: NDArray[np.float64]  # (T,), `regions.fit_scaling`; empty for a classification
    alone: tuple[float, float] = (1.0, 1.0)  # temperatures of the nets alone, and of the trees alone

    def __call__(self, answers: Tensor, terms: Tensor, trees: Tensor | None = None) -> Tensor:
        """The ensemble's answer (N, K or 2) from all nets' answers (G, S, N, K) and the chosen trees' (N, O), and where
        the rows lie: `Terms`, (N, T)."""
        of_kept = answers[list(self.kept)].flatten(0, 1)
        if len(self.scores):
            return scaled(pool_values(mix_moments(of_kept), trees, self.share), terms, torch.from_numpy(self.gamma))
        return torch.log_softmax(pool_labels(mix(of_kept), trees, self.share.trees) / self.temperature, dim=-1)

    def nets_alone(self) -> Calibrated:
        """The same nets without trees."""
        return replace(self, share=replace(self.share, trees=0.0), temperature=self.alone[0])

    def trees_alone(self) -> Calibrated:
        return replace(self, share=replace(self.share, trees=1.0), temperature=self.alone[1])


def scaled(moments: Tensor, terms: Tensor, gamma: Tensor) -> Tensor:
    """Value and scale (N, 2), the scale times exp(terms @ gamma)."""
    factor = torch.exp(terms.to(moments.dtype) @ gamma.to(moments.dtype))
    return torch.stack([moments[:, 0], moments[:, 1] * factor], dim=-1)


def calibrate(
    answers: Tensor,
    y: Tensor,
    folds: Folds,
    rows: Tensor,
    *,
    classes: int,
    terms: Tensor,
    copies: Tensor | None = None,
    trees: Sequence[NDArray[np.float64]] = (),
) -> Calibrated:
    """Choose by the answers (G, S, N, K) for rows that the nets did not learn from: the setting with the least loss,
    and all that are within one standard error of it (Breiman et al. 1984, 3.4.3, here of the rows' differences).
    The first of the trees' settings that is as good as their best is weighed against them by the same rows (Wolpert
    1992).

    `rows` (n,) are the row numbers that `folds` parts; `copies` those of their copies with gaps, which only the scales
    of a regression are fitted to. `terms` (N, T) say where rows lie. `trees` are the answers (N, O) of each of their
    settings, by models that did not learn from a row.
    """
    target = y[rows]
    seen = _seen(answers, folds, rows)
    mixture = mix if classes else mix_moments
    losses = torch.stack([_losses(mixture(one, weight), target, classes) for one, weight in seen])  # (G, n)
    kept = _as_good_as_the_best(losses)
    grown = [torch.from_numpy(one)[rows] for one in trees]
    of_trees = [_losses(log_probabilities(one) if classes else one, target, classes) for one in grown]
    means = (*losses.mean(1).tolist(), *(float(one.mean()) for one in of_trees))
    tree = min(_as_good_as_the_best(torch.stack(of_trees))) if grown else 0
    nets = mixture(*_together(answers, folds, rows, kept))
    chosen = Calibrated(
        kept=kept,
        losses=means,
        share=Share(),
        tree=tree,
        temperature=1.0,
        held=nets,
        scores=np.zeros(0),
        gamma=np.zeros(0),
    )
    best = grown[tree] if grown else None
    if classes:
        return _with_labels(chosen, nets, best, target)
    if best is not None:
        chosen = replace(chosen, share=_share(nets, best, target))
    both = rows if copies is None else torch.cat([rows, copies])
    held = mix_moments(*_together(answers, folds, both, kept))
    held = pool_values(held, torch.from_numpy(trees[tree])[both] if trees else None, chosen.share)
    return _with_scales(chosen, held, y[both], folds.judges[:, both], terms[both].double(), rows=len(rows))


def _seen(answers: Tensor, folds: Folds, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Of each setting the nets' answers (S, n, K) and their weights (S, n): those that did not learn from a row."""
    judged = folds.judges[:, rows].double()
    return [(one, judged / judged.sum(0)) for one in answers[:, :, rows].double()]


def _together(answers: Tensor, folds: Folds, rows: Tensor, kept: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The same of all settings that are kept: (E, n, K) and (E, n)."""
    judged = folds.judges[:, rows].double().repeat(len(kept), 1)
    return answers[list(kept)][:, :, rows].double().flatten(0, 1), judged / judged.sum(0)


def _share(nets: Tensor, trees: Tensor, y: Tensor) -> Share:
    """The weight by the squared errors."""
    of_nets, of_trees = nets[:, 0] - y, trees[:, 0] - y
    ratio = float((of_trees.square().mean() / of_nets.square().mean().clamp(min=1e-30)).sqrt())
    losses = torch.stack([(level * of_trees + (1 - level) * of_nets).square() for level in LEVELS])
    return Share(trees=LEVELS[_weight(losses)], ratio=ratio)


def _weight(losses: Tensor) -> int:
    """Of the weights in LEVELS by their losses (11, n): none where no other is better by more than DOUBT standard
    errors, for a few rows that trees happen to have right make them too sure; else the one that parts nets and trees
    most evenly among those that cannot be told from the best."""
    good = _as_good_as_the_best(losses)
    gain = losses[0] - losses[good[0]]
    if gain.mean() <= DOUBT * gain.std() / math.sqrt(len(gain)):
        return 0
    return min(good, key=lambda i: abs(LEVELS[i] - 0.5))


def _with_scales(
    chosen: Calibrated, held: Tensor, y: Tensor, judged: Tensor, terms: Tensor, *, rows: int
) -> Calibrated:
    """Of a regression: the conformal scores of the first `rows` rows, once the scale fits everywhere."""
    scores = ((y - held[:, 0]).abs() / held[:, 1]).numpy()
    fold = judged.int().argmax(0).numpy()
    gamma, rising = scaled_scores(terms.numpy(), scores, fold, np.arange(len(scores)) < rows)
    held = scaled(held, terms, torch.from_numpy(gamma))[:rows]
    return replace(chosen, held=held, scores=rising, gamma=gamma)


def _with_labels(chosen: Calibrated, nets: Tensor, trees: Tensor | None, y: Tensor) -> Calibrated:
    """The weight by the log-losses, and the temperature with the least."""
    levels = (0.0,) if trees is None else LEVELS
    pooled = [pool_labels(nets, trees, level) for level in levels]
    temperatures = [fit_temperature(z.numpy(), y.numpy()) for z in pooled]
    scaled_down = [z / temperature for z, temperature in zip(pooled, temperatures, strict=True)]
    losses = torch.stack([nn.functional.cross_entropy(z, y, reduction="none") for z in scaled_down])
    i = 0 if trees is None else _weight(losses)
    return replace(
        chosen,
        share=Share(trees=levels[i]),
        temperature=temperatures[i],
        held=torch.log_softmax(scaled_down[i], dim=-1),
        alone=(temperatures[0], temperatures[-1]),
    )


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
