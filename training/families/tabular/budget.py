"""How long a training will take, told by a small piece of it on this machine, and what is dropped to keep a budget."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from time import perf_counter
from typing import Final

import torch

from training.data.table import TableDataset
from training.families.tabular.crossfit import Folds
from training.families.tabular.ensemble import Schedule, Setting, Task, learn
from training.families.tabular.nested import OUTER, Plan
from training.families.tabular.regions import Gapped
from training.families.tabular.trees import Boosting, boost

STEPS: Final = (2, 8)  # of the nets, that tell what one costs and what the start does
ROUNDS: Final = (4, 16)  # of the trees
USUAL_ROUNDS: Final = 60  # until the trees stop by themselves
PUBLISH_S: Final = 20.0  # exporting, importances of the columns, the report
MARGIN: Final = 1.2
EFFORTS: Final = (1.0, 0.5, 0.25, 0.1)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """`90s`, `5m` or `1.5h` -> seconds, for `--budget`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smh])", text.strip())
    if found is None or float(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"expected a time as 90s, 5m or 1h, got {text!r}")
    return float(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What is trained, how often it can be expected to be measured, what that takes, and what was dropped of the
    members, in words."""

    plan: Plan
    repetitions: int
    seconds: float
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds on this machine: of each setting (to begin, and a step or round), and how many steps the nets make."""

    of: Mapping[Setting | Boosting, tuple[float, float]]
    steps: int
    tested: bool  # on a test part, and not by nested cross-validation

    @classmethod
    def measured(cls, dataset: TableDataset, task: Task, plan: Plan) -> Cost:
        """By a few steps and rounds of each."""
        x, y = dataset.train_x, dataset.train_y
        folds = Folds.of(y, torch.arange(len(y)), count=plan.folds, repeats=plan.repeats, seed=0)
        given = Gapped.of(x, y, task.layout, seed=0)
        x, y, folds = given.x, given.y, folds.of_copies(given.source)
        schedule = Schedule.for_rows(len(y))
        of: dict[Setting | Boosting, tuple[float, float]] = {}

        def nets(settings: tuple[Setting, ...], steps: int) -> None:
            learn(x, y, folds.learns, settings, task, seed=0, schedule=replace(schedule, steps=steps))

        def trees(setting: Boosting, rounds: int) -> None:
            boost(x, y, folds.learns[:1], folds.judges[:1], replace(setting, rounds=rounds), task, seed=0)

        for _, members in groupby(sorted(plan.grid, key=_widths), key=_widths):
            settings = tuple(members)
            begin, each = _pace(partial(nets, settings), STEPS)
            of |= dict.fromkeys(settings, (begin / len(settings), each / len(settings)))
        for setting in plan.trees:
            begin, each = _pace(partial(trees, setting), ROUNDS)
            of[setting] = (len(folds) * begin, len(folds) * each)
        return cls(of=of, steps=schedule.steps, tested=len(dataset.test_y) > 0)

    def training(self, plan: Plan) -> float:
        """Of one training."""
        nets = [self.of[one][0] + plan.effort * self.steps * self.of[one][1] for one in plan.grid]
        rounds = {one: min(plan.rounds(one).rounds, USUAL_ROUNDS) for one in plan.trees}
        return sum(nets) + sum(self.of[one][0] + count * self.of[one][1] for one, count in rounds.items())

    def total(self, plan: Plan, repetitions: int) -> float:
        """Until the model is published."""
        return PUBLISH_S + self.training(plan) * (1 if self.tested else 1 + OUTER * repetitions)


def decide(cost: Cost, plan: Plan, repetitions: int, budget: float | None, *, used: float = 0.0) -> Decided:
    """All of it where it fits in; else fewer repetitions, then fewer members, then shorter trainings.

    Args:
        budget: seconds, of which `used` are gone; None for no limit.
    """
    for smaller, words in _smaller(plan):
        for count in range(repetitions, 0, -1):
            total = cost.total(smaller, count)
            decided = Decided(plan=smaller, repetitions=count, seconds=total, dropped=words)
            if budget is None or MARGIN * total <= budget - used:
                return decided
    return decided


def in_words(duration: float) -> str:
    """`about 40 seconds`, `about 3 minutes`."""
    return (
        f"about {max(1, round(duration / 10)) * 10} seconds" if duration < 90 else f"about {duration / 60:.0f} minutes"
    )


def _smaller(plan: Plan) -> Iterator[tuple[Plan, tuple[str, ...]]]:
    yield plan, ()
    few = replace(plan, grid=plan.grid[len(plan.grid) // 2 :][:1], trees=plan.trees[-1:])
    said = [f"{len(few.grid)} of {len(plan.grid)} settings of nets"]
    if plan.trees:
        said.append(f"{len(few.trees)} of {len(plan.trees)} of trees")
    for effort in EFFORTS:
        shorter = [f"trainings of {100 * effort:.0f} % of the length"] if effort < 1 else []
        yield replace(few, effort=effort), (*said, *shorter)


def _widths(setting: Setting) -> tuple[int, ...]:
    return setting.widths


def _pace(run: Callable[[int], None], pieces: tuple[int, int]) -> tuple[float, float]:
    """Seconds to begin, and of a step, by those of two small numbers of steps."""
    took = []
    for piece in pieces:
        started = perf_counter()
        run(piece)
        took.append(perf_counter() - started)
    each = max(0.0, took[1] - took[0]) / (pieces[1] - pieces[0])
    return max(0.0, took[0] - pieces[0] * each), each
