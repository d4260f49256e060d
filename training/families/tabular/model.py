"""From a table to an ensemble that can be published: trained, selected, calibrated; and what it makes of rows."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Final

import torch
from torch import Tensor, nn

from training.data.table import TableDataset, copies_of
from training.families.tabular.crossfit import Calibrated, Fitted, Folds, calibrate, fit_grid, mix, mix_moments, scaled
from training.families.tabular.ensemble import Nets, Setting, Task
from training.families.tabular.nested import Plan
from training.families.tabular.regions import Gapped, Terms
from training.networks.dense import Layout

GRID: Final = tuple(
    Setting(widths=widths, decay=decay) for widths in ((), (16,), (16, 16)) for decay in (1.0, 5.0, 20.0)
)
PLAN: Final = Plan(grid=GRID)


class Classifier(nn.Module):
    """Rows (B, F) float32, NaN where missing -> probabilities (B, K): the nets' mean, sharpened by the temperature."""

    def __init__(self, members: list[Nets], temperature: float) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.temperature = temperature

    def forward(self, row: Tensor) -> Tensor:
        answers = torch.cat([nets(row) for nets in self.members])
        return torch.softmax(mix(answers) / self.temperature, dim=-1)


class Regressor(nn.Module):
    """Rows (B, F) float32, NaN where missing -> value (B,) and scale (B,), in the target's unit: the moments of the
    nets' mixture, the scale as wide as rows that lie there have shown it to be."""

    gamma: Tensor

    def __init__(self, members: list[Nets], terms: Terms, gamma: Tensor) -> None:
        super().__init__()
        self.members, self.terms = nn.ModuleList(members), terms
        self.register_buffer("gamma", gamma.float())

    def forward(self, row: Tensor) -> tuple[Tensor, Tensor]:
        moments = mix_moments(torch.cat([nets(row) for nets in self.members]))
        answers = scaled(moments, self.terms(row), self.gamma)
        return answers[:, 0], answers[:, 1]


@dataclass(frozen=True, kw_only=True)
class TrainedEnsemble:
    """An ensemble and all that the choice of it rests on."""

    fitted: Fitted
    folds: Folds
    folds_count: int
    calibrated: Calibrated
    terms: Terms
    seconds: float

    @property
    def settings(self) -> list[Setting]:
        """Those that were kept."""
        return [self.fitted.grid[place] for place in self.calibrated.kept]

    def members(self) -> list[Nets]:
        """The nets of each kept setting, one for each fold."""
        members = []
        for setting in self.settings:
            settings, nets, _ = next(group for group in self.fitted.groups if setting in group[0])
            members.append(nets.take(settings.index(setting) * len(self.folds), len(self.folds)))
        return members

    def module(self) -> Classifier | Regressor:
        """What is exported."""
        if self.fitted.task.classes:
            return Classifier(self.members(), self.calibrated.temperature)
        return Regressor(self.members(), self.terms, torch.from_numpy(self.calibrated.gamma))


def task_of(dataset: TableDataset) -> Task:
    return Task(layout=Layout.of(dataset.table), classes=len(dataset.labels))


def train_table(dataset: TableDataset, plan: Plan, *, seed: int) -> TrainedEnsemble:
    """Learn the whole grid on folds of the training rows, choose and calibrate."""
    started = perf_counter()
    x, y, task = dataset.train_x, dataset.train_y, task_of(dataset)
    rows = torch.arange(len(y))
    folds = Folds.of(y, rows, count=plan.folds, repeats=plan.repeats, seed=seed, copies=copies_of(x))
    given = Gapped.of(x, y, task.layout, seed=seed)
    every = folds.of_copies(given.source)
    fitted = fit_grid(given.x, given.y, every.learns, plan.grid, task, seed=seed)
    terms = Terms(task.layout, x)
    calibrated = calibrate(
        fitted.answers(given.x), given.y, every, rows,
        classes=task.classes, terms=terms(given.x), copies=torch.arange(len(y), len(given.y)),
    )  # fmt: skip
    return TrainedEnsemble(
        fitted=fitted,
        folds=folds,
        folds_count=plan.folds,
        calibrated=calibrated,
        terms=terms,
        seconds=perf_counter() - started,
    )
