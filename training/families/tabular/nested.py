"""Nested cross-validation: the whole procedure, its choice of a setting and its calibration included, is measured on
rows that none of it has seen (Varma, Simon 2006)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.core.manifest.table import Conformal
from training.data.table import copies_of, folds
from training.families.tabular.crossfit import Folds, calibrate, fit_grid
from training.families.tabular.ensemble import Setting, Task
from training.families.tabular.regions import Gapped, Terms
from training.families.tabular.trees import Boosted, Boosting, boost

OUTER: Final = 5
REPETITIONS: Final = 10
COVERAGES: Final = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an ensemble is trained: the nets' grid and the trees', the folds and how often they are drawn.

    `effort` is the part of the usual steps and rounds that is made.
    """

    grid: tuple[Setting, ...]
    trees: tuple[Boosting, ...] = ()
    folds: int = 5
    repeats: int = 1
    effort: float = 1.0

    def rounds(self, setting: Boosting) -> Boosting:
        """A setting of the trees with the rounds that the effort leaves."""
        return replace(setting, rounds=max(10, round(self.effort * setting.rounds)))

    def grow(self, x: Tensor, y: Tensor, folds: Folds, task: Task, *, seed: int) -> tuple[Boosted, ...]:
        """The trees of every setting."""
        return tuple(boost(x, y, folds.learns, folds.judges, self.rounds(one), task, seed=seed) for one in self.trees)


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One round of outer folds: what every row was answered by nets and choices that had not seen it.

    `answers` is (N, K) probabilities or (N, 2) value and scale; `reach` (N, C) is how many scales the interval of each
    of COVERAGES reaches; `kept`, bool (OUTER, G), are the settings that each outer fold chose, of nets, then of trees;
    `weight` (OUTER,) is that of the trees. `nets` and `trees` are what either answers alone, shaped as `answers`.
    """

    answers: NDArray[np.float64]
    reach: NDArray[np.float64]
    kept: NDArray[np.bool_]
    weight: NDArray[np.float64]
    nets: NDArray[np.float64]
    trees: NDArray[np.float64]


def repeat(x: Tensor, y: Tensor, task: Task, plan: Plan, *, seed: int) -> Repetition:
    """One repetition; `seed` draws its outer folds, the inner ones and the nets' first weights."""
    copies = copies_of(x)
    outer = folds(y, OUTER, seed=seed, copies=copies)
    kept_rows = [torch.from_numpy(np.flatnonzero(outer != o)) for o in range(OUTER)]
    inner = [
        Folds.of(y, rows, count=plan.folds, repeats=plan.repeats, seed=OUTER * seed + o, copies=copies)
        for o, rows in enumerate(kept_rows)
    ]
    # A copy of a row goes where the row goes, so what is left out of a fold is left out with its copies.
    given = Gapped.of(x, y, task.layout, seed=seed)
    learns = torch.cat([one.learns for one in inner])[:, given.source]
    fitted = fit_grid(given.x, given.y, learns, plan.grid, task, seed=seed, effort=plan.effort)
    every = fitted.answers(given.x).reshape(len(plan.grid), OUTER, -1, len(given.y), task.classes or 2)
    answers = np.zeros((3, len(y), every.shape[-1]))
    reach = np.zeros((len(y), 0 if task.classes else len(COVERAGES)))
    kept = np.zeros((OUTER, len(plan.grid) + len(plan.trees)), np.bool_)
    weight = np.zeros(OUTER)
    for o, rows in enumerate(kept_rows):
        terms = Terms(task.layout, x[rows])(given.x)
        kept_copies = len(y) + torch.from_numpy(np.flatnonzero(outer[given.source[len(y) :].numpy()] != o))
        parts = inner[o].of_copies(given.source)
        grown = plan.grow(given.x, given.y, parts, task, seed=OUTER * seed + o)
        found = calibrate(
            every[:, o], given.y, parts, rows,
            classes=task.classes, terms=terms, copies=kept_copies, trees=[one.judged for one in grown],
        )  # fmt: skip
        out = np.flatnonzero(outer == o)
        of_trees = torch.from_numpy(grown[found.tree].raw(x[out])) if grown else None
        of_nets = every[:, o][:, :, out].double()
        for i, one in enumerate((found, found.nets_alone(), found.trees_alone())):
            answered = one(of_nets, terms[out], of_trees)
            answers[i, out] = (answered.exp() if task.classes else answered).numpy()
        weight[o] = found.share.trees
        if weight[o] < 1:
            kept[o, list(found.kept)] = True
        if weight[o] > 0:
            kept[o, len(plan.grid) + found.tree] = True
        if not task.classes:
            conformal = Conformal(method="cross", scores=tuple(found.scores.tolist()))
            reach[out] = [conformal.quantile(coverage) for coverage in COVERAGES]
    return Repetition(answers=answers[0], reach=reach, kept=kept, weight=weight, nets=answers[1], trees=answers[2])


def nested(
    x: Tensor,
    y: Tensor,
    task: Task,
    plan: Plan,
    *,
    folder: Path | None = None,
    repetitions: int = REPETITIONS,
    until: float | None = None,
) -> Iterator[Repetition]:
    """The repetitions, seeds 0 and on; those that lie finished in `folder` are not trained again. The first is always
    made, others while they can be expected to end before `until` (of `perf_counter`)."""
    longest = 0.0
    for seed in range(repetitions):
        path = None if folder is None else folder / f"repetition-{seed}.npz"
        done, started = None if path is None else _read(path), perf_counter()
        if done is None:
            if seed and until is not None and started + longest > until:
                return
            done = repeat(x, y, task, plan, seed=seed)
            longest = max(longest, perf_counter() - started)
            if path is not None:
                _write(path, done)
        yield done


def _read(path: Path) -> Repetition | None:
    if not path.exists():
        return None
    with np.load(path) as saved:
        return Repetition(**saved)


def _write(path: Path, done: Repetition) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, **vars(done))
    temporary.replace(path)
