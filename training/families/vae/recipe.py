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
from training.families.vae.publish import FAMILY, TrainedVae, publish_vae
from training.families.vae.trainer import Hyperparameters, Trainer, for_dataset
from training.loop import fit_seeds
from training.networks.pictures import pixels
from training.options import add_flags, add_picture_data, given
from training.publish import name_model
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
    add_picture_data(parser)
    add_flags(parser.add_argument_group("hyperparameters (these defaults are for digits)"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one network per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    grey = load(options.data, size=options.size)
    name_model(options, f"vae-{grey.name}")
    h = given(options, for_dataset(grey))
    dataset = binarised(grey) if h.binarise else grey
    rows = len(dataset.train_x)
    accelerator.print(
        f"{dataset.title}: {rows:,} rows to train, {len(dataset.held_x):,} held out, {len(dataset.test_x):,} to test"
        f"{', binarised once for all' if h.binarise else ''}; {h.latent} latents, {h.epochs} epochs of "
        f"{max(1, rows // h.batch_size)} steps on {accelerator.device.type}"
    )
    vaes = []

    def make(seed: int) -> Trainer:
        return Trainer(dataset, h, seed=seed, accelerator=accelerator, compiled=options.compile)

    settings = {"recipe": "vae", "data": dataset.name, **asdict(h)}
    for one in fit_seeds(make, dataset.train_x, dataset.train_y, h, settings, options, accelerator):
        served = one.recipe.best.to("cpu").eval()
        vaes.append(
            TrainedVae(
                seed=one.seed,
                held_loss=one.recipe.best_loss,
                encoder=ServedEncoder(served.encoder),
                decoder=ServedDecoder(served.decoder),
                history=one.history,
            )
        )
    if not accelerator.is_main_process:
        return None
    return publish_vae(vaes, dataset, grey, options=options, precision=accelerator.mixed_precision, latent=h.latent)


COMMANDS: Final = {
    "vae": Command(
        help="Variational autoencoders: pictures to a Gaussian code and back, and new ones from the prior.",
        add_options=add_options,
        train=train,
        family=FAMILY,
    )
}
