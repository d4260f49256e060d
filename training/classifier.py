"""From trained candidates to a published classifier: selection, calibration, the one look at the test set."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from app.core.manifest import Calibration, Made, Manifest, Measure
from training import export
from training.data.base import ImageDataset
from training.evaluation import classification as measure
from training.evaluation import onnx_model
from training.report import ClassifierReport, write

HISTORY_FILE: Final = "report/history.json"
PARITY_ROWS: Final = 256
MAX_ROWS: Final = 64  # rows in one run: where this machine's images per second stop growing
# Reached or missed, QUALITY's goals for the data sets that have one: accuracy, NLL, ECE.
GOALS: Final = {
    "mnist": {"accuracy": 0.9975, "nll": 0.010, "ece": 0.001},
    "cifar10": {"accuracy": 0.955},
}


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
    candidates: list[Candidate], dataset: ImageDataset, *, options: argparse.Namespace, precision: str, title: str
) -> Path:
    """Publish the candidate with the lowest held-out NLL; the other seeds give the spread.

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

    models = Path(options.models)
    version = options.model_version or export.next_version(models, options.name)
    with export.staged(models, options.name, version) as folder:
        graph, golden, difference = export.write_graph(
            folder,
            export.Export(
                graph="classifier",
                module=Probabilities(chosen.network, temperature),
                input="image",
                output="probabilities",
                rows=_spread(test_x, test_y),
            ),
        )
        manifest = Manifest(
            schema_version=1,
            name=options.name,
            version=version,
            task="classify",
            modality="image",
            title=title,
            summary=_summary(dataset),
            graphs={"classifier": graph},
            labels=dataset.labels,
            picture=dataset.picture,
            max_rows=MAX_ROWS,
            calibration=Calibration(method="temperature", temperature=temperature, rows=len(held_y)),
            golden=golden,
            data=dataset.data_source.model_copy(update={"spec": options.data}),
            made=Made(
                command=command(),
                at=datetime.now(UTC).isoformat(timespec="seconds"),
                train_s=round(sum(row["seconds"] for row in chosen.history), 1),
                machine=f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores"
                + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
                precision=precision,
                parameters=sum(p.numel() for p in chosen.network.parameters()),
                parity_max_abs=difference,
                parity_rows=min(PARITY_ROWS, len(test_x)),
                packages={name: package_version(name) for name in ("torch", "onnx", "onnxruntime", "numpy")},
            ),
            report="report/index.html",
        )
        export.write_manifest(folder, manifest)
        probabilities = onnx_model.probabilities(folder, test_x.numpy())
        quality = measures(
            figures(probabilities, test_y),
            others,
            rows=len(test_y),
            seed=chosen.seed,
            seeds=tuple(c.seed for c in candidates),
            goals=GOALS.get(options.data, {}),
        )
        manifest = manifest.model_copy(update={"quality": quality})
        export.write_manifest(folder, manifest)
        (folder / "report").mkdir()
        (folder / HISTORY_FILE).write_text(json.dumps(chosen.history), encoding="utf-8")
        write_report(folder, test_x.numpy(), test_y)
    return Path(models, options.name, version)


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
            protocol=f"{PROTOCOLS[name]}; this model's ONNX graph in fp32, test set scored once",
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


def write_report(folder: Path, test_x: NDArray[np.uint8], test_y: NDArray[np.int64]) -> None:
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
        evaluate_command=f"python -m training evaluate {manifest.name} --version {manifest.version}",
        test_split="test",
    )
    write(report, folder)


def command() -> str:
    """The command line as a person would type it again."""
    return "python -m training " + shlex.join(sys.argv[1:])


def _spread(x: Tensor, y: NDArray[np.int64]) -> Tensor:
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
