"""From trained candidates to a published classifier: selection, calibration, the one look at the test set."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from app.core.manifest import Calibration, Manifest, Measure
from training.data.base import DataError, ImageDataset
from training.export import Export
from training.family import Measured, PictureFamily
from training.loop import Length, fit_seeds
from training.metrics import classification as measure
from training.metrics import onnx_model
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.recipe import Recipe
from training.reporting.html import Section
from training.reporting.image_classifier import ClassifierReport
from training.reporting.latency import kept_latency
from training.reporting.page import write

HISTORY_FILE: Final = "report/history.json"
PARITY_ROWS: Final = 256
MAX_ROWS: Final = 64  # rows in one run: where this machine's images per second stop growing


@dataclass(frozen=True, kw_only=True)
class TrainedClassifier:
    """One trained network: `network` takes (N, H, W, C) uint8 and gives logits (N, K), on the CPU in fp32."""

    seed: int
    network: nn.Module
    history: list[dict[str, float]]

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        self.network.eval()
        return torch.cat([self.network(x[i : i + 500]) for i in range(0, len(x), 500)])


class ClassifierRecipe(Recipe, Protocol):
    def served(self) -> nn.Module:
        """Of the weights now: (N, H, W, C) uint8 -> logits (N, K), on the CPU in fp32."""
        ...


class Probabilities(nn.Module):
    """What is exported: uint8 pixels in, probabilities out, temperature inside."""

    def __init__(self, logits: nn.Module, temperature: float) -> None:
        super().__init__()
        self.logits = logits
        self.temperature = temperature

    def forward(self, image: Tensor) -> Tensor:
        return torch.softmax(self.logits(image) / self.temperature, dim=1)


def train_classifier(
    make: Callable[[int], ClassifierRecipe],
    dataset: ImageDataset,
    h: Length,
    settings: dict[str, Any],
    options: argparse.Namespace,
    accelerator: Accelerator,
    *,
    title: str,
    goals: Mapping[str, dict[str, float]],
    family: ImageClassifiers,
) -> Path | None:
    """Train one classifier per seed and publish the best. None in the processes that only helped.

    `goals` are by data set and name of the figure: accuracy, nll, ece. Raises: PublishError, Interrupted.
    """
    fitted = fit_seeds(make, dataset.train_x, dataset.train_y, h, settings, options, accelerator)
    candidates = [TrainedClassifier(seed=f.seed, network=f.recipe.served(), history=f.history) for f in fitted]
    if not accelerator.is_main_process:
        return None
    return publish_classifier(
        candidates,
        dataset,
        options=options,
        precision=accelerator.mixed_precision,
        title=f"{title}, {dataset.title}",
        goals=goals.get(options.data, {}),
        family=family,
    )


@torch.no_grad()
def logits_of(served: nn.Module, x: Tensor, accelerator: Accelerator, *, rows: int = 500) -> Tensor:
    """Logits (N, K), on x's device, of pictures (N, H, W, C) uint8."""
    parts = [x[i : i + rows].to(accelerator.device) for i in range(0, len(x), rows)]
    with accelerator.autocast():
        return torch.cat([served(part).float() for part in parts]).to(x.device)


def held_figures(logits: Tensor, y: Tensor, optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """What a classifier's `Recipe.measure` gives."""
    return {
        "held_loss": float(F.cross_entropy(logits, y)),
        "held_accuracy": float((logits.argmax(1) == y).float().mean()),
        "lr": float(optimiser.param_groups[0]["lr"]),
    }


def publish_classifier(
    candidates: list[TrainedClassifier],
    dataset: ImageDataset,
    *,
    options: argparse.Namespace,
    precision: str,
    title: str,
    goals: dict[str, float],
    family: ImageClassifiers,
) -> Path:
    """Publish the candidate with the lowest held-out NLL; the other seeds give the spread.

    `goals` are by name of the figure: accuracy, nll, ece.

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

    seeds = tuple(c.seed for c in candidates)
    return publish(
        family,
        dataset,
        Draft(
            task="classify",
            modality="image",
            title=title,
            summary=_summary(dataset),
            data=dataset.data_source.model_copy(update={"spec": options.data}),
            max_rows=MAX_ROWS,
            train_s=total_seconds(chosen.history),
            precision=precision,
            seeds=(chosen.seed,),
            goals=goals if len(seeds) == 1 else {},
            more=spread_measures(others, rows=len(test_y), seeds=seeds, goals=goals),
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
        keep=lambda folder, _: write_json(folder / HISTORY_FILE, chosen.history),
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


def spread_measures(
    by_seed: list[dict[str, float]], *, rows: int, seeds: tuple[int, ...], goals: dict[str, float]
) -> tuple[Measure, ...]:
    """Means and spread of the figures of one model per seed; none where there is one seed."""
    if len(seeds) == 1:
        return ()
    return tuple(
        Measure(
            name=f"{name}_mean",
            value=float(np.mean([f[name] for f in by_seed])),
            spread=float(np.std([f[name] for f in by_seed], ddof=1)),
            protocol=f"{PROTOCOLS[name]}; mean of one model per seed, in torch; spread: standard deviation",
            rows=rows,
            seeds=seeds,
            goal=goals.get(name),
        )
        for name in PROTOCOLS
    )


class ImageClassifiers(PictureFamily):
    """`sections` makes those of the report that only some have."""

    def __init__(self, sections: Callable[[Path], Sequence[Section]] | None = None) -> None:
        self.sections = sections

    def measure(
        self, folder: Path, manifest: Manifest, dataset: ImageDataset, *, data: str | None, rows: int | None
    ) -> Measured:
        if dataset.labels != manifest.labels:
            raise DataError(f"{dataset.title}: labels are {dataset.labels}, the model's are {manifest.labels}")
        x, y = dataset.everything() if data else (dataset.test_x, dataset.test_y)
        x, y = x[:rows], y[:rows]
        return Measured(
            rows=len(y),
            of=f"rows of {dataset.title}",
            figures=figures(onnx_model.probabilities(folder, x.numpy()), y.numpy()),
            protocols=PROTOCOLS,
            how="; this model's ONNX graph in fp32, on the test rows",
            claimed=data is None and len(y) == len(dataset.test_y),
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: ImageDataset, measured: Measured | None = None
    ) -> None:
        test_x = dataset.test_x.numpy()
        probabilities = onnx_model.probabilities(folder, test_x)
        uncalibrated = None
        if manifest.calibration is not None:
            # softmax(z / T) ** T is softmax(z) up to its sum: temperature 1 without another graph.
            raised = probabilities.astype(np.float64) ** manifest.calibration.temperature
            uncalibrated = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
        report = ClassifierReport(
            manifest=manifest,
            history=read_json(folder / HISTORY_FILE),
            test_x=test_x,
            test_y=dataset.test_y.numpy(),
            probabilities=probabilities,
            uncalibrated=uncalibrated,
            latency=kept_latency(folder, "classifier"),
            test_split="test",
        )
        page = report.page()
        if self.sections is not None:
            page = replace(page, sections=[*page.sections[:1], *self.sections(folder), *page.sections[1:]])
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
