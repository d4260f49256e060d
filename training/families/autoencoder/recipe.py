"""Autoencoders with squared error: pictures to a few numbers and back, any latent size."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

from accelerate import Accelerator

from app.core.manifest import Manifest
from training.data import load
from training.data.base import ImageDataset
from training.export import check_can_publish
from training.families.autoencoder import publish as autoencoding
from training.families.autoencoder.publish import Coder
from training.families.autoencoder.trainer import SIZES, Autoencoder, Hyperparameters, defaults_for, short
from training.loop import Run, fit, run_folder
from training.options import add_flags, given, integers, positive
from training.recipe import Command, Evaluation


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="a data set of `python -m training list`, or a folder")
    parser.add_argument("--size", type=positive, help="side in pixels that a folder's pictures are brought to")
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
    options.name = options.name or f"autoencoder-{h.latent}d" + ("" if dataset.name == "mnist" else f"-{dataset.name}")
    check_can_publish(Path(options.models), options.name, options.model_version)
    coders = [_fitted(dataset, h, seed, options.name, options, accelerator) for seed in options.seeds]
    by_size = {
        # Under a name of their own, so that the next model finds them trained.
        size: _fitted(dataset, short(dataset, size, options.sizes_epochs), 0, SIZES, options, accelerator)
        for size in options.sizes
    }
    if not accelerator.is_main_process:
        return None
    return autoencoding.finish(coders, by_size, dataset, options=options, precision=accelerator.mixed_precision)


def evaluate(folder: Path, manifest: Manifest, *, data: str | None, rows: int | None) -> Evaluation:
    return autoencoding.evaluate(folder, manifest, data=data, rows=rows)


def report(folder: Path, manifest: Manifest, *, data: str | None) -> None:
    autoencoding.report(folder, manifest, data=data)


def _fitted(
    dataset: ImageDataset,
    h: Hyperparameters,
    seed: int,
    name: str,
    options: argparse.Namespace,
    accelerator: Accelerator,
) -> Coder:
    recipe = Autoencoder(dataset, h, seed=seed, accelerator=accelerator)
    settings = {"recipe": "autoencoder", "data": dataset.name, "seed": seed, **asdict(h)}
    kept = argparse.Namespace(**{**vars(options), "name": name})
    run = Run(
        folder=run_folder(kept, settings, accelerator),
        epochs=h.epochs,
        batch_size=h.batch_size,
        seed=seed,
        title=f"{options.name}, {h.latent} numbers, seed {seed}",
    )
    x, y = (t.to(accelerator.device) for t in (dataset.train_x, dataset.train_y))
    history = fit(recipe, x, y, run=run, accelerator=accelerator)
    steps = autoencoding.STEPS if h.latent > 2 else autoencoding.STEPS_FROM_GRID
    return Coder(seed, recipe.served(steps=steps).cpu(), history)


COMMANDS: Final = {
    "autoencoder": Command(
        help="Autoencoders with squared error: pictures to a few numbers and back, any latent size.",
        add_options=add_options,
        train=train,
        evaluate=evaluate,
        report=report,
    )
}
