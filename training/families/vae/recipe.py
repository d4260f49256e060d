"""Variational autoencoders: pictures to a Gaussian code and back, and new ones from the prior."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training.data import load
from training.data.binarise import binarised
from training.export import check_can_publish
from training.families.vae.publish import Coder, evaluate, finish, report
from training.families.vae.trainer import Hyperparameters, Trainer, for_dataset
from training.loop import Run, fit, run_folder
from training.networks.pictures import pixels
from training.options import add_flags, given, positive
from training.recipe import Command


class ServedEncoder(nn.Module):
    """What is exported: (B, H, W, C) uint8 -> mu, logvar (B, Z)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = self.encoder(pixels(image))
        return mu, logvar


class ServedDecoder(nn.Module):
    """What is exported: (B, Z) -> the probability of ink at each pixel, (B, H, W, C) in [0, 1]."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor) -> Tensor:
        probability: Tensor = torch.sigmoid(self.decoder(latent)).permute(0, 2, 3, 1)
        return probability


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="a data set of `python -m training list`, or a folder")
    parser.add_argument("--size", type=positive, help="side in pixels that a folder's pictures are brought to")
    add_flags(parser.add_argument_group("hyperparameters (these defaults are for digits)"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one network per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    grey = load(options.data, size=options.size)
    options.name = options.name or f"vae-{grey.name}"
    check_can_publish(Path(options.models), options.name, options.model_version)
    h = given(options, for_dataset(grey))
    dataset = binarised(grey) if h.binarise else grey
    x, y = dataset.train_x.to(accelerator.device), dataset.train_y.to(accelerator.device)
    accelerator.print(
        f"{dataset.title}: {len(x):,} rows to train, {len(dataset.held_x):,} held out, {len(dataset.test_x):,} to test"
        f"{', binarised once for all' if h.binarise else ''}; {h.latent} latents, {h.epochs} epochs of "
        f"{max(1, len(x) // h.batch_size)} steps on {accelerator.device.type}"
    )
    coders = []
    for seed in options.seeds:
        recipe = Trainer(dataset, h, seed=seed, accelerator=accelerator, compiled=options.compile)
        run = Run(
            folder=run_folder(options, {"recipe": "vae", "data": dataset.name, "seed": seed, **asdict(h)}, accelerator),
            epochs=h.epochs,
            batch_size=h.batch_size,
            seed=seed,
            title=f"{options.name}, seed {seed}",
        )
        history = fit(recipe, x, y, run=run, accelerator=accelerator)
        served = recipe.best.to("cpu").eval()
        coders.append(
            Coder(
                seed=seed,
                held_loss=recipe.best_loss,
                encoder=ServedEncoder(served.encoder),
                decoder=ServedDecoder(served.decoder),
                history=history,
            )
        )
    if not accelerator.is_main_process:
        return None
    return finish(coders, dataset, grey, options=options, precision=accelerator.mixed_precision, latent=h.latent)


COMMANDS: Final = {
    "vae": Command(
        help="Variational autoencoders: pictures to a Gaussian code and back, and new ones from the prior.",
        add_options=add_options,
        train=train,
        evaluate=evaluate,
        report=report,
    )
}
