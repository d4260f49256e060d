"""Generative adversarial networks: new pictures in one evaluation, from noise alone, or of the class that is asked for.

The default settings are for MNIST, where one core of an AVX-512 processor with bf16 is free for it (nine steps a
second): `gan` 10 epochs, `cgan` 8, a quarter of an hour each. Without labels the slope's weight is larger, and stays
larger: at 0.003 the held-out FD ratio rose again at the end. The shipped `cgan-mnist` took 65 minutes of a core that
was shared with other work.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final

from accelerate import Accelerator
from torch import Tensor

from training.data import load
from training.data.base import DataError, ImageDataset
from training.families.gan.collapse import LEAST_STEPS
from training.families.gan.publish import (
    FAMILY,
    ServedConditionalGenerator,
    ServedGenerator,
    TrainedGenerator,
    publish_generator,
)
from training.families.gan.trainer import Compare, HeldOutFidelity, Hyperparameters, Trainer
from training.loop import fit_seeds
from training.metrics.generated import class_share, quick_fd
from training.metrics.reference_classifiers import reference_classifiers
from training.networks.adversarial import TOGETHER
from training.options import add_flags, add_picture_data, given
from training.publish import name_model
from training.recipe import Command

DEFAULTS: Final = {"gan": Hyperparameters(epochs=10, penalty=1.0, penalty_end=0.02), "cgan": Hyperparameters()}


def comparing(dataset: ImageDataset) -> Compare:
    """Compares generated pictures with held-out rows; the reference classifiers are trained first if need be."""
    classifiers = reference_classifiers(None, dataset)

    def compare(pictures: Tensor, asked: Tensor | None) -> HeldOutFidelity:
        seen = quick_fd(pictures, classifiers)
        return HeldOutFidelity(
            fd_ratio=seen.mean_fd_ratio,
            precision=seen.precision,
            recall=seen.recall,
            class_share=None if asked is None else class_share(pictures, asked, classifiers),
        )

    return compare


def too_short(rows: int, h: Hyperparameters) -> str | None:
    """What to say before a run of so few steps that hardly anything can be learned; often None."""
    each = max(1, rows // h.batch_size)
    if h.until or h.epochs * each >= LEAST_STEPS:
        return None
    return (
        f"{h.epochs * each:,} steps in all, and digits take thousands: little will be learned; "
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
        recipe: "gan", or "cgan" for one that takes a label.

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
    compare = comparing(dataset)
    generators = []

    def make(seed: int) -> Trainer:
        return Trainer(dataset, h, conditional=conditional, compare=compare, seed=seed, accelerator=accelerator)

    settings = {"recipe": recipe, "data": dataset.name, **asdict(h)}
    for one in fit_seeds(make, dataset.train_x, dataset.train_y, h, settings, options, accelerator):
        best = one.recipe.best.to("cpu").eval()
        generators.append(
            TrainedGenerator(
                seed=one.seed,
                module=ServedConditionalGenerator(best) if conditional else ServedGenerator(best),
                history=one.history,
                held_ratio=one.recipe.best_ratio,
                stopped=one.recipe.stopped,
            )
        )
    if not accelerator.is_main_process:
        return None
    return publish_generator(
        generators, dataset, recipe=recipe, h=h, options=options, precision=accelerator.mixed_precision
    )


def _options(defaults: Hyperparameters) -> Callable[[argparse.ArgumentParser], None]:
    def add_options(parser: argparse.ArgumentParser) -> None:
        add_picture_data(parser)
        add_flags(parser.add_argument_group("hyperparameters (these defaults are for digits)"), defaults)

    return add_options


def _command(name: str, text: str) -> Command:
    return Command(
        help=text,
        add_options=_options(DEFAULTS[name]),
        train=partial(train, name, defaults=DEFAULTS[name]),
        family=FAMILY,
    )


COMMANDS: Final = {
    "gan": _command("gan", "Generative adversarial networks: new pictures in one evaluation, from noise alone."),
    "cgan": _command(
        "cgan",
        "Conditional generative adversarial networks: new pictures of the class that is asked for, in one evaluation.",
    ),
}
