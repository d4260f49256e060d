"""From trained generators to a published one: selection, the one look at the test set, its report."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from app.core.manifest import Manifest, Measure
from app.core.manifest.latent import Latent
from app.core.sampling import latents
from training.data import dataset_of, load
from training.data.base import DataError, ImageDataset, shuffled
from training.export import Export
from training.families.gan import report as page
from training.families.gan.collapse import LEAST_STEPS
from training.families.gan.trainer import Hyperparameters, Judged, Seen, Trainer
from training.loop import fit_seeds
from training.metrics import onnx_model
from training.metrics.generated import PROTOCOLS, class_share, fidelity, quick_fd
from training.metrics.reference_classifiers import Judges, judges
from training.networks.adversarial import TOGETHER
from training.options import given
from training.publish import Draft, name_model, publish
from training.recipe import Evaluation
from training.reporting.page import write

MAX_ROWS: Final = 64
PARITY_ROWS: Final = 256
ROWS: Final = 10_000  # pictures a resample
RESAMPLES: Final = 5
SCORED_SEED: Final = 0
FIGURES_FILE: Final = "report/figures.json"
GOALS_ON_MNIST: Final = {"gan": {"fd_ratio": 4.0, "recall": 0.5}, "cgan": {"fd_ratio": 4.0, "class_share": 0.99}}


class Served(nn.Module):
    """What is exported: latents (B, Z) -> pictures (B, H, W, C) in [0, 1]."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latent: Tensor) -> Tensor:
        drawn: Tensor = self.generator(latent)
        return drawn.permute(0, 2, 3, 1)


class ServedByLabel(nn.Module):
    """The same with labels, int64 (B,), each an index into the data set's."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        drawn: Tensor = self.generator(latent, label)
        return drawn.permute(0, 2, 3, 1)


@dataclass(frozen=True, kw_only=True)
class Drawer:
    """One trained generator, as it is exported, on the CPU in fp32."""

    seed: int
    module: nn.Module
    history: list[dict[str, float]]
    held_ratio: float
    stopped: str | None


class Published:
    """A published folder's generator in ONNX Runtime on the CPU.

    Raises `LoadRefused` where it is missing or is not the manifest's.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        assert manifest.latent is not None
        self.size, self.conditional = manifest.latent.size, bool(manifest.labels)
        self.session = onnx_model.open_graph(folder, manifest.graphs["generator"])

    def draw(self, latent: NDArray[np.float32], label: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """(N, Z) and, where it takes one, labels (N,) -> (N, H, W, C) in [0, 1]."""
        parts = []
        for i in range(0, len(latent), MAX_ROWS):
            feed: dict[str, NDArray[Any]] = {"latent": latent[i : i + MAX_ROWS]}
            if self.conditional:
                assert label is not None
                feed["label"] = label[i : i + MAX_ROWS]
            parts.append(self.session.run(["image"], feed)[0])
        return np.concatenate(parts)


def watching(dataset: ImageDataset) -> Judged:
    """What tells a training how its pictures compare with held-out rows; the judges are trained first if need be."""
    judge = judges(None, dataset)

    def judged(pictures: Tensor, asked: Tensor | None) -> Seen:
        seen = quick_fd(pictures, judge)
        return Seen(
            fd_ratio=seen.mean_fd_ratio,
            precision=seen.precision,
            recall=seen.recall,
            class_share=None if asked is None else class_share(pictures, asked, judge),
        )

    return judged


def too_short(rows: int, h: Hyperparameters) -> str | None:
    """What to say before a run of so few steps that hardly anything will be learnt; often None."""
    each = max(1, rows // h.batch_size)
    if h.until or h.epochs * each >= LEAST_STEPS:
        return None
    return (
        f"{h.epochs * each:,} steps in all, and digits take thousands: little will be learnt; "
        f"--epochs {-(-LEAST_STEPS // each)} would make them {LEAST_STEPS:,}"
    )


def train(
    recipe: str,
    options: argparse.Namespace,
    accelerator: Accelerator,
    *,
    defaults: Hyperparameters,
) -> Path | None:
    """Train one generator per seed and publish the best. None in the processes that only helped.

    Args:
        recipe: "gan", or "cgan" for one that is told what to draw.

    Raises: DataError, PublishError, Interrupted.
    """
    conditional = recipe == "cgan"
    dataset = load(options.data, size=options.size)
    name_model(options, f"{recipe}-{dataset.name}")
    h = given(options, defaults)
    if h.batch_size % TOGETHER or len(dataset.train_x) < h.batch_size or len(dataset.held_x) < TOGETHER:
        raise DataError(
            f"{dataset.title}: expected a batch size that is a multiple of {TOGETHER}, at least as many rows to train "
            f"and {TOGETHER} held out; got {h.batch_size}, {len(dataset.train_x):,} and {len(dataset.held_x):,}"
        )
    rows = len(dataset.train_x)
    accelerator.print(
        f"{dataset.title}: {rows:,} rows to learn from, {len(dataset.held_x):,} held out, "
        f"{len(dataset.test_x):,} to test; {h.latent} latents, {h.epochs} epochs of "
        f"{max(1, rows // h.batch_size)} steps on {accelerator.device.type}"
    )
    if words := too_short(rows, h):
        accelerator.print(f"warning: {words}")
    judged = watching(dataset)
    drawers = []

    def make(seed: int) -> Trainer:
        return Trainer(dataset, h, conditional=conditional, judged=judged, seed=seed, accelerator=accelerator)

    settings = {"recipe": recipe, "data": dataset.name, **asdict(h)}
    for one in fit_seeds(make, dataset.train_x, dataset.train_y, h, settings, options=options, accelerator=accelerator):
        best = one.recipe.best.to("cpu").eval()
        drawers.append(
            Drawer(
                seed=one.seed,
                module=ServedByLabel(best) if conditional else Served(best),
                history=one.history,
                held_ratio=one.recipe.best_ratio,
                stopped=one.recipe.stopped,
            )
        )
    if not accelerator.is_main_process:
        return None
    return finish(drawers, dataset, recipe=recipe, h=h, options=options, precision=accelerator.mixed_precision)


def finish(
    drawers: list[Drawer],
    dataset: ImageDataset,
    *,
    recipe: str,
    h: Hyperparameters,
    options: argparse.Namespace,
    precision: str,
) -> Path:
    """Publish the generator with the lowest held-out FD ratio. Raises: PublishError."""
    chosen = min(drawers, key=lambda drawer: drawer.held_ratio)
    conditional = recipe == "cgan"
    inputs = {"latent": torch.from_numpy(latents.draw(PARITY_ROWS, h.latent, SCORED_SEED))}
    if conditional:
        inputs["label"] = torch.arange(PARITY_ROWS) % dataset.classes
    edge = NormalDist().inv_cdf(0.99)
    goals = GOALS_ON_MNIST[recipe] if options.data == "mnist" else {}

    def measured(folder: Path, manifest: Manifest) -> tuple[Measure, ...]:
        rows, found = figures(Published(folder, manifest), judges(None, dataset))
        return tuple(
            Measure(
                name=name,
                value=value,
                protocol=f"{PROTOCOLS[name]}; drawn by the ONNX graph in fp32 from seed {SCORED_SEED}",
                rows=rows,
                seeds=(chosen.seed,),
                goal=goals.get(name),
            )
            for name, value in found.items()
        )

    def reported(folder: Path, manifest: Manifest) -> None:
        kept = {"history": chosen.history, "stopped": chosen.stopped}
        (folder / FIGURES_FILE).write_text(json.dumps(kept), encoding="utf-8")
        write_report(folder, manifest, dataset)

    return publish(
        Draft(
            task="generate",
            modality="image",
            title=f"{'Conditional GAN' if conditional else 'GAN'}, {dataset.title}",
            summary=page.summary(dataset.title, h.latent, dataset.labels if conditional else ()),
            data=dataset.data_source.model_copy(update={"spec": options.data}),
            max_rows=MAX_ROWS,
            train_s=sum(row["seconds"] for row in chosen.history),
            parameters=sum(p.numel() for p in chosen.module.parameters()),
            precision=precision,
            fields={
                "labels": dataset.labels if conditional else (),
                "picture": dataset.picture,
                "latent": Latent(size=h.latent, low=(-edge,) * h.latent, high=(edge,) * h.latent, prior="normal"),
            },
        ),
        [Export(graph="generator", module=chosen.module, inputs=inputs, outputs=("image",))],
        options=options,
        measure=measured,
        report=reported,
    )


def figures(model: Published, judge: Judges) -> tuple[int, dict[str, float]]:
    """Rows in a resample, and all figures of the protocol by name; labels as frequent as in the training rows."""
    data = judge.data
    rows = min(ROWS, len(data.train_x), len(data.test_x))
    n = RESAMPLES * rows
    label = data.train_y.numpy()[np.resize(shuffled(len(data.train_y), seed=SCORED_SEED), n)]
    drawn = model.draw(latents.draw(n, model.size, SCORED_SEED), label)
    pictures = np.rint(drawn * 255).astype(np.uint8)
    found = fidelity(pictures, judge, rows=rows, resamples=RESAMPLES).figures
    if model.conditional:
        found = {"class_share": class_share(pictures, label, judge), **found}
    return rows, found


def evaluate(folder: Path, manifest: Manifest, *, data: str | None, rows: int | None) -> Evaluation:
    """`Family.evaluate` of generators. Raises: DataError, LoadRefused."""
    dataset = dataset_of(manifest, data)
    used, found = figures(Published(folder, manifest), judges(None, dataset))
    return Evaluation(
        rows=used, of=f"test rows of {dataset.title}", figures=found, protocols=PROTOCOLS, claimed=data is None
    )


def report(folder: Path, manifest: Manifest, *, data: str | None) -> None:
    """`Family.report` of generators."""
    write_report(folder, manifest, dataset_of(manifest, data))


def write_report(folder: Path, manifest: Manifest, dataset: ImageDataset) -> None:
    """(Re)make the report of the model in `folder` from its ONNX graph, its kept history and its data set."""
    kept = json.loads((folder / FIGURES_FILE).read_text(encoding="utf-8"))
    made = page.GanReport(
        manifest=manifest,
        history=kept["history"],
        stopped=kept["stopped"],
        draw=Published(folder, manifest).draw,
        judge=judges(None, dataset),
        latency=onnx_model.latency_ms(folder, "generator"),
    )
    write(made.page(), folder)
