"""A unit that learns a table: two labels through a sigmoid or tanh, or a number through ReLU or the identity.

A table without test rows of its own gives up a fifth of its rows for them. How strongly the weights are held small is
chosen by five-fold cross-validation over the rest.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from app.core.manifest import Manifest
from training.data import DataError
from training.data.table import TableDataset, folds
from training.export import Export
from training.families.perceptron import report_trained as page
from training.families.perceptron.network import (
    SQUASHING,
    Activation,
    NetInput,
    TrainedUnit,
    TwoClasses,
    Unit,
    train_unit,
)
from training.family import Family, Measured
from training.metrics import classification, onnx_model, regression
from training.networks.dense import Coding, Layout, date_parts
from training.publish import Draft, publish, read_json, write_json
from training.reporting.page import write

FOLDS: Final = 5
SPLIT_SEED: Final = 1958
PENALTIES: Final = (1e-4, 1e-3, 1e-2, 1e-1)
CHOOSING_STEPS: Final = 1000
MAX_ROWS: Final = 1024
PARITY_ROWS: Final = 256
EVIDENCE_FILE: Final = "report/unit.json"
PROTOCOLS: Final = {
    "accuracy": "share of test rows whose most probable label is the true one",
    "nll": "mean negative log-likelihood of the true label over the test rows, nats",
    "r2": "share of the target's variance over the test rows that is explained",
    "rmse": "root of the mean squared error over the test rows",
}


class Coded(nn.Module):
    """Rows of the table (N, F), NaN where a value is missing -> what `inside` makes of the coded rows (N, D)."""

    def __init__(self, coding: Coding, inside: nn.Module) -> None:
        super().__init__()
        self.coding = coding
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inside(self.coding(x)[0])
        return found


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows to learn from and rows to measure on; `own` where the table came with the latter."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    own: bool

    @classmethod
    def of(cls, dataset: TableDataset) -> Split:
        x, y = dataset.train_x, dataset.train_y
        if len(dataset.test_y):
            return cls(train_x=x, train_y=y, test_x=dataset.test_x, test_y=dataset.test_y, own=True)
        test = torch.from_numpy(folds(y, FOLDS, seed=SPLIT_SEED) == 0)
        return cls(train_x=x[~test], train_y=y[~test], test_x=x[test], test_y=y[test], own=False)


def publish_unit(dataset: TableDataset, options: argparse.Namespace, *, family: Family[TableDataset]) -> Path:
    """Learn, measure, publish. Raises: DataError, PublishError."""
    activation: Activation = options.activation
    _check(dataset, activation)
    started = time.perf_counter()
    split = Split.of(dataset)
    coding = Coding(Layout.of(dataset.table), nets=1)
    coding.standardise(split.train_x, torch.ones(1, len(split.train_x)))
    rows = coding(split.train_x)[0].double()  # (N, D)
    # Numbers are fitted in units of their spread, so that the penalties mean the same whatever the target's unit.
    spread = 1.0 if dataset.labels else float(split.train_y.double().std(correction=0)) or 1.0
    y = split.train_y.double() / spread
    penalty, held = choose(rows, y, activation)
    found = train_unit(rows, y, activation, l2=penalty)
    unit = Unit(found.weights * (1.0 if dataset.labels else spread), found.bias * spread, activation)
    evidence = page.Evidence(
        activation=activation,
        penalty=penalty,
        penalties=list(PENALTIES),
        held=held,
        losses=found.losses,
        names=coded_names(dataset),
        weights=unit.weights.tolist(),
        bias=float(unit.bias),
        mean=coding.mean.flatten().tolist(),
        scale=coding.scale.flatten().tolist(),
        own_test=split.own,
    )
    fields: dict[str, Any] = {"table": dataset.table}
    fields |= {"labels": dataset.labels} if dataset.labels else {"target": dataset.target}
    graph, output, head = (
        ("classifier", "probabilities", TwoClasses(unit)) if dataset.labels else ("regressor", "value", unit)
    )
    shown = dataset.everything()[0][:PARITY_ROWS]
    data = dataset.data_source.model_copy(
        update={"spec": options.data, "rows_train": len(split.train_y), "rows_test": len(split.test_y)}
    )

    return publish(
        family,
        dataset,
        Draft(
            task=dataset.task,
            modality="table",
            title=f"One unit, {dataset.title}",
            summary=f"Predicts {dataset.target_column} from one weighted sum of {len(dataset.table.columns)} columns, "
            f"through {activation}. The graph net_input gives the sum, which /v2 can ask for.",
            data=data,
            max_rows=MAX_ROWS,
            train_s=time.perf_counter() - started,
            parameters=len(unit.weights) + 1,
            precision="fp64",
            seeds=(0,),
            fields=fields,
        ),
        [
            Export(graph=graph, module=Coded(coding, head), inputs={"row": shown}, outputs=(output,)),
            Export(graph="net_input", module=Coded(coding, NetInput(unit)), inputs={"row": shown}, outputs=("z",)),
        ],
        options=options,
        keep=lambda folder, _: write_json(folder / EVIDENCE_FILE, asdict(evidence)),
    )


def choose(rows: Tensor, y: Tensor, activation: Activation) -> tuple[float, list[float]]:
    """The penalty with the lowest held-out loss of five folds, and the loss of each: rows (N, D), y (N,)."""
    fold = torch.from_numpy(folds(y.long() if activation in SQUASHING else y.float(), FOLDS, seed=SPLIT_SEED + 1))
    held = []
    for penalty in PENALTIES:
        losses = []
        for k in range(FOLDS):
            away, inside = fold == k, fold != k
            found = train_unit(rows[inside], y[inside], activation, l2=penalty, steps=CHOOSING_STEPS)
            losses.append(_loss(found, rows[away], y[away], activation))
        held.append(float(np.mean(losses)))
    return PENALTIES[int(np.argmin(held))], held


def measured(folder: Path, manifest: Manifest, dataset: TableDataset, rows: int | None) -> Measured:
    """The figures of the first test rows, or of all. Raises: LoadRefused."""
    split = Split.of(dataset)
    x, y = split.test_x[:rows], split.test_y[:rows]
    return Measured(
        rows=len(y),
        of=f"test rows of {dataset.title}",
        figures=_figures(folder, manifest, x, y),
        protocols=PROTOCOLS,
        how="; this model's ONNX graph in fp32" + ("" if split.own else "; a fifth of the rows was set aside for it"),
        units={"rmse": dataset.target.unit[:20]} if dataset.target is not None else {},
        claimed=len(y) == len(split.test_y),
    )


def write_report(folder: Path, manifest: Manifest, dataset: TableDataset) -> None:
    """(Re)make the report from what is kept beside it and the test rows."""
    evidence = page.Evidence(**read_json(folder / EVIDENCE_FILE))
    split = Split.of(dataset)
    write(page.page(manifest, evidence, dataset, split.test_x.numpy(), split.test_y.numpy()), folder)


def coded_names(dataset: TableDataset) -> list[str]:
    """What each of the D coded columns is, in `Coding`'s order."""
    columns = dataset.table.columns
    names = [column.name for column in columns if column.kind != "category"]
    names += [
        f"{column.name} = {word}" for column in columns if column.kind == "category" for word in column.categories
    ]
    missing = [f"{column.name} is missing" for column in columns if column.missing]
    dates = [column for column in columns if column.kind == "date"]
    return [*names, *missing, *(f"{column.name}: {part}" for column in dates for part in date_parts(column.clock))]


def _check(dataset: TableDataset, activation: Activation) -> None:
    if dataset.labels and len(dataset.labels) != 2:
        raise DataError(
            f"{dataset.title}: one unit tells two labels apart, '{dataset.target_column}' has {len(dataset.labels)}; "
            "the recipe mlp takes more"
        )
    if dataset.labels and activation not in SQUASHING:
        raise DataError(
            f"{dataset.title}: labels take --activation {' or '.join(SQUASHING)}, whose output is a probability; "
            f"got {activation}"
        )
    if not dataset.labels and activation in SQUASHING:
        raise DataError(
            f"{dataset.title}: '{dataset.target_column}' is a number, which takes --activation identity or relu; "
            f"got {activation}, which cannot leave -1 to 1"
        )


def _loss(found: TrainedUnit, rows: Tensor, y: Tensor, activation: Activation) -> float:
    z = rows @ found.weights + found.bias
    if activation in SQUASHING:
        return float(F.binary_cross_entropy_with_logits(z * (2 if activation == "tanh" else 1), y))
    return float(((F.relu(z) if activation == "relu" else z) - y).square().mean())


def _figures(folder: Path, manifest: Manifest, x: Tensor, y: Tensor) -> dict[str, float]:
    if manifest.task == "classify":
        p, labels = onnx_model.probabilities(folder, x.numpy()), y.numpy()
        return {
            "accuracy": classification.accuracy(p, labels),
            "nll": classification.negative_log_likelihood(p, labels),
        }
    graph = manifest.graphs["regressor"]
    value: NDArray[np.float32] = onnx_model.open_graph(folder, graph).run(["value"], {"row": x.numpy()})[0]
    return {"r2": regression.r2(value, y.numpy()), "rmse": regression.rmse(value, y.numpy())}
