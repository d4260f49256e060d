"""From a table to an ensemble that can be published: trained, selected, calibrated; and what it makes of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.table import TableDataset, copies_of
from training.families.tabular.crossfit import Calibrated, Fitted, Folds, calibrate, fit_grid, mix, mix_moments, scaled
from training.families.tabular.ensemble import Nets, Setting, Task
from training.families.tabular.nested import Plan
from training.families.tabular.pooling import Share, pool_labels, pool_values
from training.families.tabular.regions import Gapped, Terms
from training.families.tabular.tree_graph import Trees
from training.families.tabular.trees import Boosted, Boosting
from training.networks.dense import Layout

GRID: Final = tuple(
    Setting(widths=widths, decay=decay) for widths in ((), (16,), (16, 16)) for decay in (1.0, 5.0, 20.0)
)
TREES: Final = (Boosting(leaves=4), Boosting(leaves=24))
PLAN: Final = Plan(grid=GRID, trees=TREES)


class Classifier(nn.Module):
    """Rows (B, F) float32, NaN where missing -> probabilities (B, K): the nets' mean pooled with the trees, sharpened
    by the temperature."""

    def __init__(
        self, members: Sequence[Nets], temperature: float, trees: Trees | None = None, weight: float = 0.0
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.temperature = temperature
        self.trees = trees
        self.weight = weight

    def forward(self, row: Tensor) -> Tensor:
        trees = None if self.trees is None else self.trees(row)
        nets = mix(torch.cat([nets(row) for nets in self.members])) if self.members else None
        return torch.softmax(pool_labels(nets, trees, self.weight) / self.temperature, dim=-1)


class Regressor(nn.Module):
    """Rows (B, F) float32, NaN where missing -> value (B,) and scale (B,), in the target's unit: the moments of the
    mixture of nets and trees, the scale as wide as rows that lie there have shown it to be."""

    gamma: Tensor

    def __init__(self, members: Sequence[Nets], terms: Terms, gamma: Tensor, trees: Trees | None, share: Share) -> None:
        super().__init__()
        self.members, self.terms = nn.ModuleList(members), terms
        self.register_buffer("gamma", gamma.float())
        self.trees = trees
        self.share = share

    def forward(self, row: Tensor) -> tuple[Tensor, Tensor]:
        trees = None if self.trees is None else self.trees(row)
        moments = mix_moments(torch.cat([nets(row) for nets in self.members]))
        answers = scaled(pool_values(moments, trees, self.share), self.terms(row), self.gamma)
        return answers[:, 0], answers[:, 1]


@dataclass(frozen=True, kw_only=True)
class TrainedEnsemble:
    """An ensemble and all that the choice of it rests on."""

    fitted: Fitted
    grown: tuple[Boosted, ...]  # the trees of each of their settings
    folds: Folds
    folds_count: int
    calibrated: Calibrated
    terms: Terms
    seconds: float

    @property
    def settings(self) -> list[Setting]:
        """The nets' that were kept."""
        return [self.fitted.grid[place] for place in self.calibrated.kept]

    @property
    def boosted(self) -> Boosted | None:
        """The best trees, whatever they weigh."""
        return self.grown[self.calibrated.tree] if self.grown else None

    def members(self) -> list[Nets]:
        """The nets of each kept setting, one for each fold."""
        members = []
        for setting in self.settings:
            settings, nets, _ = next(group for group in self.fitted.groups if setting in group[0])
            members.append(nets.take(settings.index(setting) * len(self.folds), len(self.folds)))
        return members

    def module(self) -> Classifier | Regressor:
        """What is exported."""
        found, share = self.calibrated, self.calibrated.share
        trees = Trees(self.boosted) if self.boosted is not None and share.trees > 0 else None
        if self.fitted.task.classes:
            return Classifier(self.members() if share.trees < 1 else [], found.temperature, trees, share.trees)
        return Regressor(self.members(), self.terms, torch.from_numpy(found.gamma), trees, share)

    def alone(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the nets alone make of rows (N, F), and the trees alone: (N, K) probabilities, or (N, 2)."""
        trees = torch.from_numpy(self.boosted.raw(x)) if self.boosted is not None else None
        every = self.fitted.answers(x).double()
        terms = self.terms(x)
        found = [one(every, terms, trees) for one in (self.calibrated.nets_alone(), self.calibrated.trees_alone())]
        nets, grown = ((one.exp() if self.fitted.task.classes else one).numpy() for one in found)
        return nets, grown

    @torch.no_grad()
    def unseen(self, x: Tensor, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the members that were not trained on the training rows `rows` (n,) make of them, or of `x` (n, F) in
        their place: (n, K) probabilities, or (n, 2)."""
        judges = self.folds.judges[:, rows]
        judged = judges.double().repeat(len(self.settings), 1)  # (E, n)
        weight = judged / judged.sum(0)
        answers = torch.cat([nets(x) for nets in self.members()]).double()
        share = self.calibrated.share
        trees = None
        if self.boosted is not None and share.trees > 0:
            trees = torch.from_numpy(self.boosted.judge(x, judges))
        if not self.fitted.task.classes:
            moments = pool_values(mix_moments(answers, weight), trees, share)
            return scaled(moments, self.terms(x), torch.from_numpy(self.calibrated.gamma)).numpy()
        z = pool_labels(mix(answers, weight), trees, share.trees)
        return torch.softmax(z / self.calibrated.temperature, dim=-1).numpy()


def task_of(dataset: TableDataset) -> Task:
    return Task(layout=Layout.of(dataset.table), classes=len(dataset.labels))


def train_table(dataset: TableDataset, plan: Plan, *, seed: int) -> TrainedEnsemble:
    """Learn the whole grid on folds of the training rows, choose, weigh and calibrate."""
    started = perf_counter()
    x, y, task = dataset.train_x, dataset.train_y, task_of(dataset)
    rows = torch.arange(len(y))
    folds = Folds.of(y, rows, count=plan.folds, repeats=plan.repeats, seed=seed, copies=copies_of(x))
    given = Gapped.of(x, y, task.layout, seed=seed)
    every = folds.of_copies(given.source)
    fitted = fit_grid(given.x, given.y, every.learns, plan.grid, task, seed=seed, effort=plan.effort)
    grown = plan.grow(given.x, given.y, every, task, seed=seed)
    terms = Terms(task.layout, x)
    calibrated = calibrate(
        fitted.answers(given.x), given.y, every, rows,
        classes=task.classes, terms=terms(given.x), copies=torch.arange(len(y), len(given.y)),
        trees=[one.judged for one in grown],
    )  # fmt: skip
    return TrainedEnsemble(
        fitted=fitted,
        grown=grown,
        folds=folds,
        folds_count=plan.folds,
        calibrated=calibrated,
        terms=terms,
        seconds=perf_counter() - started,
    )
