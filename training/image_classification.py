"""From trained candidates to a published classifier: selection, calibration, the one look at the test set."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from app.core.manifest import Calibration, Manifest, Measure
from training.data import dataset_of
from training.data.base import DataError, ImageDataset
from training.export import Export
from training.metrics import classification as measure
from training.metrics import onnx_model
from training.publish import Draft, publish
from training.recipe import Evaluation
from training.reporting.image_classifier import ClassifierReport
from training.reporting.page import Section, write

HISTORY_FILE: Final = "report/history.json"
PARITY_ROWS: Final = 256
Extra = Callable[[Path], Sequence[Section]]
MAX_ROWS: Final = 64  # rows in one run: where this machine's images per second stop growing


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One trained network: `network` takes (N, H, W, C) uint8 and gives logits (N, K), on the CPU in fp32."""

    seed: int
    network: nn.Module
    history: list[dict[str, float]]

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        self.network.eval()
        return torch.cat([self.network(x[i : i + 500]) for i in range(0, len(x), 500)])


class Probabilities(nn.Module):
    """What is exported: uint8 pixels in, probabilities out, temperature inside."""

    def __init__(self, logits: nn.Module, temperature: float) -> None:
        super().__init__()
        self.logits = logits
        self.temperature = temperature

    def forward(self, image: Tensor) -> Tensor:
        return torch.softmax(self.logits(image) / self.temperature, dim=1)


def finish(
    candidates: list[Candidate],
    dataset: ImageDataset,
    *,
    options: argparse.Namespace,
    precision: str,
    title: str,
    goals: dict[str, float],
    extra: Extra | None = None,
) -> Path:
    """Publish the candidate with the lowest held-out NLL; the other seeds give the spread.

    `goals` are by name of the figure: accuracy, nll, ece; `extra` makes sections of the report that only some have.

    Returns: the published folder. Raises: PublishError.
    """
    held_x, held_y = dataset.held_x.cpu(), dataset.held_y.cpu()
    held = [c.logits(held_x).double() for c in candidates]
    temperatures = [measure.fit_temperature(z.numpy(), held_y.numpy()) for z in held]
    losses = [float(F.cross_entropy(z / t, held_y)) for z, t in zip(held, temperatures, strict=True)]
    best = int(np.argmin(losses))
    chosen, temperature = candidates[best], temperatures[best]

    # A folder without a test part of its own has had one set aside, so there is always a test.
    test_x, test_y = dataset.test_x.cpu(), dataset.test_y.numpy()
    others = [
        figures(torch.softmax(c.logits(test_x).double() / t, 1).numpy(), test_y)
        for c, t in zip(candidates, temperatures, strict=True)
    ]

    def measured(folder: Path, _: Manifest) -> tuple[Measure, ...]:
        return measures(
            figures(onnx_model.probabilities(folder, test_x.numpy()), test_y),
            others,
            rows=len(test_y),
            seed=chosen.seed,
            seeds=tuple(c.seed for c in candidates),
            goals=goals,
        )

    def reported(folder: Path, _: Manifest) -> None:
        (folder / HISTORY_FILE).write_text(json.dumps(chosen.history), encoding="utf-8")
        write_report(folder, test_x.numpy(), test_y, extra)

    return publish(
        Draft(
            task="classify",
            modality="image",
            title=title,
            summary=_summary(dataset),
            data=dataset.data_source.model_copy(update={"spec": options.data}),
            max_rows=MAX_ROWS,
            train_s=sum(row["seconds"] for row in chosen.history),
            parameters=sum(p.numel() for p in chosen.network.parameters()),
            precision=precision,
            fields={
                "labels": dataset.labels,
                "picture": dataset.picture,
                "calibration": Calibration(method="temperature", temperature=temperature, rows=len(held_y)),
            },
        ),
        [
            Export(
                graph="classifier",
                module=Probabilities(chosen.network, temperature),
                inputs={"image": spread_rows(test_x, test_y)},
                outputs=("probabilities",),
            )
        ],
        options=options,
        measure=measured,
        report=reported,
    )


def figures(probabilities: NDArray[np.floating], y: NDArray[np.int64]) -> dict[str, float]:
    return {
        "accuracy": measure.accuracy(probabilities, y),
        "nll": measure.negative_log_likelihood(probabilities, y),
        "ece": measure.expected_calibration_error(probabilities, y),
    }


PROTOCOLS: Final = {
    "accuracy": "share of test rows whose most probable label is the true one",
    "nll": "mean negative log-likelihood of the true label over the test rows, nats",
    "ece": "expected calibration error over the test rows, 15 equal-mass bins",
}


def measures(
    own: dict[str, float],
    by_seed: list[dict[str, float]],
    *,
    rows: int,
    seed: int,
    seeds: tuple[int, ...],
    goals: dict[str, float],
) -> tuple[Measure, ...]:
    """The figures of this very model, from its ONNX file; and where there are more seeds, their means and spread."""
    found = [
        Measure(
            name=name,
            value=value,
            protocol=f"{PROTOCOLS[name]}; this model's ONNX graph in fp32, on the test rows",
            rows=rows,
            seeds=(seed,),
            goal=goals.get(name) if len(seeds) == 1 else None,
        )
        for name, value in own.items()
    ]
    if len(seeds) > 1:
        found += [
            Measure(
                name=f"{name}_mean",
                value=float(np.mean([f[name] for f in by_seed])),
                spread=float(np.std([f[name] for f in by_seed], ddof=1)),
                protocol=f"{PROTOCOLS[name]}; mean of one model per seed, in torch; spread: standard deviation",
                rows=rows,
                seeds=seeds,
                goal=goals.get(name),
            )
            for name in own
        ]
    return tuple(found)


def evaluate(folder: Path, manifest: Manifest, *, data: str | None, rows: int | None) -> Evaluation:
    """`Family.evaluate` of classifiers of pictures.

    Raises: DataError, LoadRefused.
    """
    dataset = dataset_of(manifest, data)
    if dataset.labels != manifest.labels:
        raise DataError(f"{dataset.title}: labels are {dataset.labels}, the model's are {manifest.labels}")
    x, y = dataset.everything() if data else (dataset.test_x, dataset.test_y)
    x, y = x[:rows], y[:rows]
    return Evaluation(
        rows=len(y),
        of=f"rows of {dataset.title}",
        figures=figures(onnx_model.probabilities(folder, x.numpy()), y.numpy()),
        protocols=PROTOCOLS,
        claimed=data is None and len(y) == len(dataset.test_y),
    )


def report(folder: Path, manifest: Manifest, *, data: str | None, extra: Extra | None = None) -> None:
    """`Family.report` of classifiers of pictures."""
    dataset = dataset_of(manifest, data)
    write_report(folder, dataset.test_x.numpy(), dataset.test_y.numpy(), extra)


def write_report(
    folder: Path, test_x: NDArray[np.uint8], test_y: NDArray[np.int64], extra: Extra | None = None
) -> None:
    """(Re)make the report of the model in `folder` from its ONNX graph, its history and its test rows."""
    manifest = onnx_model.load_manifest(folder)
    probabilities = onnx_model.probabilities(folder, test_x)
    uncalibrated = None
    if manifest.calibration is not None:
        # softmax(z / T) ** T is softmax(z) up to its sum: temperature 1 without another graph.
        raised = probabilities.astype(np.float64) ** manifest.calibration.temperature
        uncalibrated = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    history = json.loads((folder / HISTORY_FILE).read_text(encoding="utf-8"))
    report = ClassifierReport(
        manifest=manifest,
        history=history,
        test_x=test_x,
        test_y=test_y,
        probabilities=probabilities,
        uncalibrated=uncalibrated,
        latency=onnx_model.latency_ms(folder, "classifier"),
        test_split="test",
    )
    page = report.page()
    if extra is not None:
        page = replace(page, sections=[*page.sections[:1], *extra(folder), *page.sections[1:]])
    write(page, folder)


def spread_rows(x: Tensor, y: NDArray[np.int64]) -> Tensor:
    """256 real rows, classes in turn, so that the first ones (the golden rows) show many labels."""
    seen: dict[int, int] = {}
    turn = np.empty(len(y), np.int64)
    for i, label in enumerate(y.tolist()):
        turn[i] = seen.get(label, 0)
        seen[label] = turn[i] + 1
    return x[np.lexsort((y, turn))[:PARITY_ROWS]]


def _summary(dataset: ImageDataset) -> str:
    p = dataset.picture
    what = "handwritten characters" if p.kind == "digit" else "pictures"
    return (
        f"Sorts {what} into {len(dataset.labels)} classes. Trained on {dataset.title}; "
        f"takes {p.height}x{p.width} pixels in {'grey' if p.channels == 1 else 'colour'}, made from any picture sent."
    )
