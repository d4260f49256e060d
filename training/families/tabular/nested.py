"""Nested cross-validation: the whole procedure, its choice of a setting and its calibration included, is measured on
rows that none of it has seen (Varma, Simon 2006)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
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

OUTER: Final = 5
REPETITIONS: Final = 10
COVERAGES: Final = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an ensemble is trained: the grid, the folds and how often they are drawn."""

    grid: tuple[Setting, ...]
    folds: int = 5
    repeats: int = 1


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """One round of outer folds: what every row was answered by nets and choices that had not seen it.

    `answers` is (N, K) probabilities or (N, 2) value and scale; `reach` (N, C) is how many scales the interval of each
    of COVERAGES reaches; `kept`, bool (OUTER, G), are the settings that each outer fold chose.
    """

    answers: NDArray[np.float64]
    reach: NDArray[np.float64]
    kept: NDArray[np.bool_]


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
    fitted = fit_grid(given.x, given.y, learns, plan.grid, task, seed=seed)
    every = fitted.answers(given.x).reshape(len(plan.grid), OUTER, -1, len(given.y), task.classes or 2)
    answers = np.zeros((len(y), every.shape[-1]))
    reach = np.zeros((len(y), 0 if task.classes else len(COVERAGES)))
    kept = np.zeros((OUTER, len(plan.grid)), np.bool_)
    for o, rows in enumerate(kept_rows):
        terms = Terms(task.layout, x[rows])(given.x)
        kept_copies = len(y) + torch.from_numpy(np.flatnonzero(outer[given.source[len(y) :].numpy()] != o))
        parts = inner[o].of_copies(given.source)
        found = calibrate(every[:, o], given.y, parts, rows, classes=task.classes, terms=terms, copies=kept_copies)
        out = np.flatnonzero(outer == o)
        answered = found(every[:, o][:, :, out].double(), terms[out])
        answers[out] = (answered.exp() if task.classes else answered).numpy()
        kept[o, list(found.kept)] = True
        if not task.classes:
            conformal = Conformal(method="cross", scores=tuple(found.scores.tolist()))
            reach[out] = [conformal.quantile(coverage) for coverage in COVERAGES]
    return Repetition(answers=answers, reach=reach, kept=kept)


def nested(
    x: Tensor, y: Tensor, task: Task, plan: Plan, *, folder: Path | None = None, repetitions: int = REPETITIONS
) -> Iterator[Repetition]:
    """The repetitions, seeds 0 and on; those that lie finished in `folder` are not trained again."""
    for seed in range(repetitions):
        path = None if folder is None else folder / f"repetition-{seed}.npz"
        done = None if path is None else _read(path)
        if done is None:
            done = repeat(x, y, task, plan, seed=seed)
            if path is not None:
                _write(path, done)
        yield done


def _read(path: Path) -> Repetition | None:
    if not path.exists():
        return None
    with np.load(path) as saved:
        return Repetition(answers=saved["answers"], reach=saved["reach"], kept=saved["kept"])


def _write(path: Path, done: Repetition) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, answers=done.answers, reach=done.reach, kept=done.kept)
    temporary.replace(path)
