"""From a trained ensemble to a published model of a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from app.core.manifest import Calibration, Manifest, Measure
from app.core.manifest.table import Conformal
from training.data.table import TableDataset
from training.export import Export
from training.families.tabular.evidence import Evidence
from training.families.tabular.metrics import GOALS, alone_measures, nested_figures, test_figures, truth_figures
from training.families.tabular.model import Classifier, Regressor, TrainedEnsemble
from training.families.tabular.nested import OUTER, Repetition
from training.families.tabular.tree_graph import Trees, check_trees
from training.family import Family, Measured
from training.image_classification import PARITY_ROWS, spread_rows
from training.publish import Draft, publish

MAX_ROWS: Final = 1024
MOST_SCORES: Final = 5000  # that a manifest holds; a random part of more promises the same coverage


def publish_table(
    dataset: TableDataset,
    learned: TrainedEnsemble,
    rounds: Sequence[Repetition],
    *,
    dropped: str = "",
    options: argparse.Namespace,
    seed: int,
    family: Family[TableDataset],
) -> Path:
    """Publish the ensemble; measured by the nested rounds where there are any, else on the test rows.

    Returns: the published folder. Raises: PublishError.
    """
    module = learned.module()
    calibrated, regression = learned.calibrated, dataset.task == "regress"
    graph = "regressor" if regression else "classifier"
    fields: dict[str, Any] = {"table": dataset.table}
    if regression:
        scores = calibrated.scores
        if len(scores) > MOST_SCORES:
            scores = np.sort(np.random.default_rng(seed).choice(scores, MOST_SCORES, replace=False))
        fields |= {"target": dataset.target, "conformal": Conformal(method="cross", scores=tuple(scores.tolist()))}
    else:
        rows = len(dataset.train_y)
        calibration = Calibration(method="temperature", temperature=calibrated.temperature, rows=rows)
        fields |= {"labels": dataset.labels, "calibration": calibration}

    def measured(folder: Path, manifest: Manifest) -> Measured:
        if module.trees is not None:
            path = folder / manifest.graphs[graph].file
            check_trees(path, module.trees, dataset.table, dataset.train_x.numpy(), seed=seed)
        if rounds:
            return nested_figures(rounds, dataset)
        return test_figures(folder, manifest, dataset, truth=truth_figures(dataset))

    return publish(
        family,
        dataset,
        Draft(
            task=dataset.task,
            modality="table",
            title=dataset.title,
            summary=summary(dataset, learned),
            data=dataset.data_source.model_copy(update={"spec": options.data}),
            max_rows=MAX_ROWS,
            train_s=learned.seconds,
            precision="fp32",
            seeds=range(len(rounds)) if rounds else (seed,),
            goals=GOALS.get(dataset.name, {}) if rounds else {},
            parameters=_parameters(module),
            more=_alone(dataset, learned, rounds),
            fields=fields,
        ),
        [
            Export(
                graph=graph,
                module=module,
                fill=None if module.trees is None else module.trees.fill,
                inputs={"row": _golden_rows(dataset)},
                outputs=("value", "scale") if regression else ("probabilities",),
            )
        ],
        options=options,
        measure=measured,
        keep=lambda folder, _: Evidence.of(dataset, learned, rounds, dropped=dropped).write(folder),
    )


def summary(dataset: TableDataset, learned: TrainedEnsemble) -> str:
    """One sentence on what it does, one on what it is."""
    names = [column.name for column in dataset.table.columns]
    some = ", ".join(names) if len(names) <= 6 else f"{len(names)} columns"
    unit = f" in {dataset.target.unit}" if dataset.target is not None and dataset.target.unit else ""
    labels = ", ".join(dataset.labels[:5]) + (", ..." if len(dataset.labels) > 5 else "")
    what = dataset.target_column + (f" ({labels})" if labels else unit)
    return f"Predicts {what} from {some}. {members(learned)}, each trained without one of {learned.folds_count} folds."


def members(learned: TrainedEnsemble) -> str:
    """What the ensemble is made of, and what nets and trees weigh in it."""
    weight = learned.calibrated.share.trees
    nets = f"{len(learned.folds) * len(learned.settings)} dense nets"
    if learned.boosted is None or weight == 0:
        return nets
    trees = f"{Trees(learned.boosted).count} boosted trees of up to {learned.boosted.setting.leaves} leaves"
    if weight == 1:
        return trees + (" for the value and " + nets + " for its spread" if not learned.fitted.task.classes else "")
    return f"{nets} (weight {1 - weight:.1f}) and {trees} ({weight:.1f})"


def _parameters(module: Classifier | Regressor) -> int:
    own = sum(one.numel() for one in module.parameters())
    return own + (0 if module.trees is None else module.trees.parameters_count)


def _alone(dataset: TableDataset, learned: TrainedEnsemble, rounds: Sequence[Repetition]) -> list[Measure]:
    """What nets and trees reach alone, beside the ensemble."""
    if learned.boosted is None:
        return []
    weight = learned.calibrated.share.trees
    if rounds:
        every = [(one.nets, one.trees) for one in rounds]
        how = f"{len(rounds)} x {OUTER} nested cross-validation."
        return alone_measures(every, dataset, y=dataset.train_y.numpy(), how=how, weight=weight)
    every = [learned.alone(dataset.test_x)]
    return alone_measures(every, dataset, y=dataset.test_y.numpy(), how="on the test rows.", weight=weight)


def _golden_rows(dataset: TableDataset) -> torch.Tensor:
    """Real rows: of every label in turn, or spread over the target."""
    x, y = dataset.everything() if len(dataset.train_y) < PARITY_ROWS else (dataset.train_x, dataset.train_y)
    if dataset.labels:
        return spread_rows(x, y.numpy())
    order = np.argsort(y.numpy(), kind="stable")
    spread = np.argsort(np.arange(len(y)) * 0.6180339887498949 % 1, kind="stable")  # far apart from the start
    return x[torch.from_numpy(order[spread][:PARITY_ROWS])]
