"""What a report shows and the manifest does not hold: kept beside the page, so that it can be written again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.table import TableDataset
from training.families.tabular.metrics import figures
from training.families.tabular.model import TrainedEnsemble
from training.families.tabular.nested import Repetition

EVIDENCE_FILE: Final = "report/evidence.json"
ANSWERS_FILE: Final = "report/answers.npz"
SHUFFLES: Final = 10
MOST_ROWS: Final = 2000  # that importances are worked out on


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Facts of one training.

    `grid` has one entry per setting: widths and decay, or leaves and rounds; loss of rows not trained on, whether it is
    in the ensemble, and how often the nested rounds chose it. `weight` is that of the trees, `weights` those of the
    nested rounds, and `dropped` says what was left out to keep a budget.

    `curve` is the mean one of the kept shape's nets. `importances` are by column: mean and standard deviation of what a
    figure loses when the column is shuffled. `answers` (N, K or 2) and `reach`
    (N, C) are the first nested round's for all rows, empty where there is a test part.
    """

    grid: list[dict[str, Any]]
    curve: dict[str, list[float]]
    importances: list[tuple[float, float]]
    importance_of: str  # the figure: nll or r2
    folds: int
    nets: int
    rounds: int
    answers: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    reach: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    weight: float = 0.0
    weights: list[float] = field(default_factory=list)
    dropped: str = ""

    @classmethod
    def of(
        cls, dataset: TableDataset, learned: TrainedEnsemble, rounds: Sequence[Repetition], *, dropped: str = ""
    ) -> Evidence:
        found = learned.calibrated
        settings: list[dict[str, Any]] = [
            {"widths": list(one.widths), "decay": one.decay, "kept": found.share.trees < 1 and i in found.kept}
            for i, one in enumerate(learned.fitted.grid)
        ] + [
            {"leaves": one.setting.leaves, "rounds": one.rounds, "kept": found.share.trees > 0 and i == found.tree}
            for i, one in enumerate(learned.grown)
        ]
        chosen = sum((one.kept.sum(0) for one in rounds), np.zeros(len(settings), np.int64))
        grid = [{**one, "loss": found.losses[i], "chosen": int(chosen[i])} for i, one in enumerate(settings)]
        curve = next(c for settings, _, c in learned.fitted.groups if learned.settings[0] in settings)
        first = rounds[0] if rounds else None
        return cls(
            grid=grid,
            curve={"step": [float(s) for s in curve.step], "train": curve.train, "held": curve.held},
            importances=importances(dataset, learned),
            importance_of="nll" if dataset.labels else "r2",
            folds=learned.folds_count,
            nets=len(learned.folds) * len(learned.settings),
            rounds=len(rounds),
            weight=found.share.trees,
            weights=[float(weight) for one in rounds for weight in one.weight],
            dropped=dropped,
            **(
                {}
                if first is None
                else {"answers": first.answers.astype(np.float32), "reach": first.reach.astype(np.float32)}
            ),
        )

    def write(self, folder: Path) -> None:
        facts = asdict(self)
        arrays = {name: facts.pop(name) for name in ("answers", "reach")}
        (folder / EVIDENCE_FILE).write_text(json.dumps(facts), encoding="utf-8")
        np.savez_compressed(folder / ANSWERS_FILE, **arrays)

    @classmethod
    def read(cls, folder: Path) -> Evidence:
        facts = json.loads((folder / EVIDENCE_FILE).read_text(encoding="utf-8"))
        facts["importances"] = [(mean, spread) for mean, spread in facts["importances"]]
        with np.load(folder / ANSWERS_FILE) as arrays:
            return cls(**facts, answers=arrays["answers"], reach=arrays["reach"])


def importances(dataset: TableDataset, learned: TrainedEnsemble, *, seed: int = 0) -> list[tuple[float, float]]:
    """By column: mean and standard deviation, over SHUFFLES shuffles of the column among the rows, of how much worse
    the nets that have not seen a row then answer it (Breiman 2001, section 10): NLL gained, or R2 lost."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(dataset.train_y))[:MOST_ROWS])
    x, y = dataset.train_x[rows], dataset.train_y[rows].numpy()

    def figure(x: torch.Tensor) -> float:
        answers = learned.unseen(x, rows)
        if dataset.labels:
            return figures(answers, y, np.zeros((len(y), 0)))["nll"]
        return float(np.square(answers[:, 0] - y).sum() / np.square(y - y.mean()).sum())

    base, found = figure(x), []
    for j in range(x.shape[1]):
        worse = []
        for _ in range(SHUFFLES):
            shuffled = x.clone()
            shuffled[:, j] = x[rng.permutation(len(x)), j]
            worse.append(figure(shuffled) - base)
        found.append((float(np.mean(worse)), float(np.std(worse, ddof=1))))
    return found
