"""From trained generators to a published one: selection, the one look at the test set, its report."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.core.manifest import Manifest
from app.core.manifest.latent import Latent
from app.core.sampling import latents
from training.data.base import ImageDataset, shuffled
from training.export import Export
from training.families.gan import report as page
from training.families.gan.trainer import Hyperparameters
from training.family import Measured, PictureFamily
from training.metrics import onnx_model
from training.metrics.generated import PROTOCOLS, class_share, fidelity
from training.metrics.reference_classifiers import ReferenceClassifiers, reference_classifiers
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import kept_latency
from training.reporting.page import write

MAX_ROWS: Final = 64
PARITY_ROWS: Final = 256
ROWS: Final = 10_000  # pictures a resample
RESAMPLES: Final = 5
SCORED_SEED: Final = 0
FIGURES_FILE: Final = "report/figures.json"
GOALS_ON_MNIST: Final = {"gan": {"fd_ratio": 4.0, "recall": 0.5}, "cgan": {"fd_ratio": 4.0, "class_share": 0.99}}


class ServedGenerator(nn.Module):
    """What is exported: latents (B, Z) -> pictures (B, H, W, C) in [0, 1]."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latent: Tensor) -> Tensor:
        drawn: Tensor = self.generator(latent)
        return drawn.permute(0, 2, 3, 1)


class ServedConditionalGenerator(nn.Module):
    """The same with labels, int64 (B,), each an index into the data set's."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latent: Tensor, label: Tensor) -> Tensor:
        drawn: Tensor = self.generator(latent, label)
        return drawn.permute(0, 2, 3, 1)


@dataclass(frozen=True, kw_only=True)
class TrainedGenerator:
    """One trained generator, as it is exported, on the CPU in fp32."""

    seed: int
    module: nn.Module
    history: list[dict[str, float]]
    held_ratio: float
    stopped: str | None


class PublishedGenerator:
    """A published folder's generator in ONNX Runtime on the CPU.

    Raises `LoadRefused` where it is missing or is not the manifest's.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        assert manifest.latent is not None
        self.size, self.conditional = manifest.latent.size, bool(manifest.labels)
        self.session = onnx_model.open_graph(folder, manifest.graphs["generator"])

    def draw(self, latent: NDArray[np.float32], label: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        """(N, Z) and, where it takes one, labels (N,) -> (N, H, W, C) in [0, 1]."""
        feed: dict[str, NDArray[Any]] = {"latent": latent}
        if self.conditional:
            assert label is not None
            feed["label"] = label
        return onnx_model.run(self.session, feed, ["image"], rows=MAX_ROWS)[0]


def publish_generator(
    generators: list[TrainedGenerator],
    dataset: ImageDataset,
    *,
    recipe: str,
    h: Hyperparameters,
    options: argparse.Namespace,
    precision: str,
) -> Path:
    """Publish the generator with the lowest held-out FD ratio. Raises: PublishError."""
    chosen = min(generators, key=lambda generator: generator.held_ratio)
    conditional = recipe == "cgan"
    inputs = {"latent": torch.from_numpy(latents.sample_prior(PARITY_ROWS, h.latent, SCORED_SEED))}
    if conditional:
        inputs["label"] = torch.arange(PARITY_ROWS) % dataset.classes
    edge = NormalDist().inv_cdf(0.99)

    return publish(
        FAMILY,
        dataset,
        Draft(
            task="generate",
            modality="image",
            title=f"{'Conditional GAN' if conditional else 'GAN'}, {dataset.title}",
            summary=page.summary(dataset.title, h.latent, dataset.labels if conditional else ()),
            data=dataset.data_source.model_copy(update={"spec": options.data}),
            max_rows=MAX_ROWS,
            train_s=total_seconds(chosen.history),
            precision=precision,
            seeds=(chosen.seed,),
            goals=GOALS_ON_MNIST[recipe] if options.data == "mnist" else {},
            fields={
                "labels": dataset.labels if conditional else (),
                "picture": dataset.picture,
                "latent": Latent(size=h.latent, low=(-edge,) * h.latent, high=(edge,) * h.latent, prior="normal"),
            },
        ),
        [Export(graph="generator", module=chosen.module, inputs=inputs, outputs=("image",))],
        options=options,
        keep=lambda folder, _: write_json(
            folder / FIGURES_FILE, {"history": chosen.history, "stopped": chosen.stopped}
        ),
    )


def figures(model: PublishedGenerator, classifiers: ReferenceClassifiers) -> tuple[int, dict[str, float]]:
    """Rows in a resample, and all figures of the protocol by name; labels as frequent as in the training rows."""
    data = classifiers.data
    rows = min(ROWS, len(data.train_x), len(data.test_x))
    n = RESAMPLES * rows
    label = data.train_y.numpy()[np.resize(shuffled(len(data.train_y), seed=SCORED_SEED), n)]
    drawn = model.draw(latents.sample_prior(n, model.size, SCORED_SEED), label)
    pictures = np.rint(drawn * 255).astype(np.uint8)
    found = fidelity(pictures, classifiers, rows=rows, resamples=RESAMPLES).figures
    if model.conditional:
        found = {"class_share": class_share(pictures, label, classifiers), **found}
    return rows, found


class Gans(PictureFamily):
    """All figures are of the whole protocol: `rows` has no say."""

    def measure(
        self, folder: Path, manifest: Manifest, dataset: ImageDataset, *, data: str | None, rows: int | None
    ) -> Measured:
        used, found = figures(PublishedGenerator(folder, manifest), reference_classifiers(None, dataset))
        return Measured(
            rows=used,
            of=f"test rows of {dataset.title}",
            figures=found,
            protocols=PROTOCOLS,
            how=f"; drawn by the ONNX graph in fp32 from seed {SCORED_SEED}",
            claimed=data is None,
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: ImageDataset, measured: Measured | None = None
    ) -> None:
        kept = read_json(folder / FIGURES_FILE)
        report = page.GanReport(
            manifest=manifest,
            history=kept["history"],
            stopped=kept["stopped"],
            generate=PublishedGenerator(folder, manifest).draw,
            readers=reference_classifiers(None, dataset),
            latency=kept_latency(folder, "generator"),
        )
        write(report.page(), folder)


FAMILY: Final = Gans()
