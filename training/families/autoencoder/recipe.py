"""Autoencoders with squared error: pictures to a few numbers and back, any latent size."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from accelerate import Accelerator

from training.data import load
from training.data.base import ImageDataset
from training.families.autoencoder import publish as autoencoding
from training.families.autoencoder.publish import TrainedAutoencoder
from training.families.autoencoder.trainer import SIZES, Autoencoder, Hyperparameters, defaults_for, short
from training.loop import fit_seeds
from training.options import add_flags, add_picture_data, given, integers, positive
from training.publish import name_model
from training.recipe import Command


def add_options(parser: argparse.ArgumentParser) -> None:
    add_picture_data(parser)
    parser.add_argument(
        "--sizes", type=integers, default=(), metavar="N,N,...", help="latent sizes to try for the report"
    )
    parser.add_argument(
        "--sizes-epochs", type=positive, default=6, metavar="N", help="epochs of each of them (default 6)"
    )
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one autoencoder per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    dataset = load(options.data, size=options.size)
    h = given(options, defaults_for(dataset, options.latent or Hyperparameters.latent))
    name_model(options, f"autoencoder-{h.latent}d" + ("" if dataset.name == "mnist" else f"-{dataset.name}"))
    autoencoders = list(_trained(dataset, h, options.seeds, options.name, options, accelerator))
    by_size = {
        # Under a name of their own, so that the next model finds them trained.
        size: next(_trained(dataset, short(dataset, size, options.sizes_epochs), (0,), SIZES, options, accelerator))
        for size in options.sizes
    }
    if not accelerator.is_main_process:
        return None
    return autoencoding.publish_autoencoder(
        autoencoders, by_size, dataset, options=options, precision=accelerator.mixed_precision
    )


def _trained(
    dataset: ImageDataset,
    h: Hyperparameters,
    seeds: Sequence[int],
    name: str,
    options: argparse.Namespace,
    accelerator: Accelerator,
) -> Iterator[TrainedAutoencoder]:
    steps = autoencoding.STEPS if h.latent > 2 else autoencoding.STEPS_FROM_GRID

    def make(seed: int) -> Autoencoder:
        return Autoencoder(dataset, h, seed=seed, accelerator=accelerator)

    settings = {"recipe": "autoencoder", "data": dataset.name, **asdict(h)}
    for one in fit_seeds(
        make,
        dataset.train_x,
        dataset.train_y,
        h,
        settings,
        options,
        accelerator,
        seeds=seeds,
        name=name,
        title=f"{options.name}, {h.latent} numbers",
    ):
        yield TrainedAutoencoder(one.seed, one.recipe.served(steps=steps).cpu(), one.history)


COMMANDS: Final = {
    "autoencoder": Command(
        help="Autoencoders with squared error: pictures to a few numbers and back, any latent size.",
        add_options=add_options,
        train=train,
        family=autoencoding.FAMILY,
    )
}
