"""Nearest centroid: a picture is of the class whose typical picture is nearest. All of a family, in one folder."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from app.core.manifest import Manifest
from training.data import load
from training.data.base import ImageDataset
from training.export import Export
from training.family import Measured, PictureFamily
from training.loop import fit_seeds
from training.metrics import onnx_model
from training.metrics.classification import accuracy
from training.networks.pictures import pixels
from training.options import add_flags, add_picture_data, described, given
from training.publish import Draft, name_model, publish, read_json, total_seconds, write_json
from training.recipe import Batch, Command, Parts, Resumable


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    epochs: int = described(4, "times that every row is seen")
    batch_size: int = described(8, "rows per optimisation step")
    lr: float = described(0.1, "learning rate (SGD)")


class Centroids(nn.Module):
    """(B, H, W, C) uint8 -> probabilities (B, K), the nearer the likelier."""

    def __init__(self, classes: int, values: int) -> None:
        super().__init__()
        self.centroids = nn.Parameter(torch.full((classes, values), 0.5))

    def forward(self, image: Tensor) -> Tensor:
        apart = pixels(image).flatten(1).unsqueeze(1) - self.centroids
        return torch.softmax(-apart.square().sum(2), 1)


class Trainer(Resumable):
    def __init__(self, dataset: ImageDataset, h: Hyperparameters) -> None:
        self.held = dataset.held_x, dataset.held_y
        self.network = Centroids(dataset.classes, dataset.train_x[0].numel())
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=h.lr)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self.optimiser.zero_grad()
        loss = F.nll_loss(self.network(batch.x).clamp_min(1e-6).log(), batch.y)
        loss.backward()
        self.optimiser.step()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        x, y = self.held
        return {"held_accuracy": float((self.network(x).argmax(1) == y).float().mean())}

    def parts(self) -> dict[str, Parts]:
        return {"network": self.network, "optimiser": self.optimiser}


class Family(PictureFamily):
    def measure(
        self, folder: Path, manifest: Manifest, dataset: ImageDataset, *, data: str | None, rows: int | None
    ) -> Measured:
        x, y = dataset.test_x[:rows].numpy(), dataset.test_y[:rows].numpy()
        return Measured(
            rows=len(y),
            of=f"rows of {dataset.title}",
            figures={"accuracy": accuracy(onnx_model.probabilities(folder, x), y)},
            protocols={"accuracy": "share of test rows whose most probable label is the true one"},
            claimed=data is None and len(y) == len(dataset.test_y),
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: ImageDataset, measured: Measured | None = None
    ) -> None:
        epochs = len(read_json(folder / "report" / "history.json"))
        page = f"<h1>{manifest.title}</h1><p>{epochs} epochs</p>"
        (folder / "report" / "index.html").write_text(page, encoding="utf-8")


FAMILY: Final = Family()


def add_options(parser: argparse.ArgumentParser) -> None:
    add_picture_data(parser)
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    dataset = load(options.data, size=options.size)
    name_model(options, f"centroids-{dataset.name}")
    h = given(options, Hyperparameters())

    def make(seed: int) -> Trainer:
        return Trainer(dataset, h)

    settings = {"recipe": "centroids", "data": dataset.name, **asdict(h)}
    fitted = fit_seeds(make, dataset.train_x, dataset.train_y, h, settings, options, accelerator)
    best = max(fitted, key=lambda one: one.history[-1]["held_accuracy"])
    draft = Draft(
        task="classify",
        modality="image",
        title=f"Nearest centroid, {dataset.title}",
        summary="Says whose typical picture is nearest.",
        data=dataset.data_source.model_copy(update={"spec": options.data}),
        max_rows=64,
        train_s=total_seconds(best.history),
        precision=accelerator.mixed_precision,
        seeds=(best.seed,),
        fields={"labels": dataset.labels, "picture": dataset.picture},
    )
    graph = Export(
        graph="classifier",
        module=best.recipe.network.eval(),
        inputs={"image": dataset.test_x},
        outputs=("probabilities",),
    )

    def keep(folder: Path, _: Measured) -> None:
        write_json(folder / "report" / "history.json", best.history)

    return publish(FAMILY, dataset, draft, [graph], options=options, keep=keep)


COMMANDS: Final = {
    "centroids": Command(
        help="Nearest centroids: pictures by their distance to each class's typical one.",
        add_options=add_options,
        train=train,
        family=FAMILY,
    )
}
