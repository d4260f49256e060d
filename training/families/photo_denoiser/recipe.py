"""Noise out of photos: one net that is given the noise level, one that estimates it; any size, grey or colour.

In 64 minutes of wall-clock on about a third of one core (some 17 minutes of its own time, bf16) BSD68 comes to 31.16,
28.74 and 25.84 dB at noise 15, 25 and 50, and to 0.01 dB less where the noise is estimated. Published: BM3D 31.07,
28.57 and 25.62 (level given), DnCNN-B 31.61, 29.16 and 26.23. The goals of 31.4, 28.9 and 26.0 are missed, not for want
of time: `--epochs 40`, 64 minutes of a core, comes to 31.16, 28.73 and 25.82. What is missing is greatest where the
noise is least, at edges and texture, and this net works at half the resolution and below; DnCNN-B has all its layers at
full.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import Accelerator

from training.data import photos
from training.families.photo_denoiser import publish as restoring
from training.families.photo_denoiser.network import NoiseEstimator, Restorer
from training.families.photo_denoiser.trainer import CROPS, EstimatorTrainer, Hyperparameters, RestorerTrainer, Trainer
from training.loop import Fitted, fit_seeds
from training.options import add_flags, given
from training.publish import name_model
from training.recipe import Command


def add_options(parser: argparse.ArgumentParser) -> None:
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train both nets and publish them. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    data = photos.load()
    h = given(options, Hyperparameters())
    name_model(options, "photo-denoiser")

    def fitted(part: str, h: Hyperparameters, make: Callable[[], Trainer]) -> Fitted[Trainer]:
        def seeded(seed: int) -> Trainer:
            torch.manual_seed(seed)
            return make()

        numbers, settings = torch.arange(len(data.train)).repeat(CROPS), _settings(part, h)
        title = f"{options.name}, {part}"
        found = fit_seeds(seeded, numbers, numbers, h, settings, options, accelerator, title=title)
        return next(found)

    restorer = fitted(
        "denoiser", h, lambda: RestorerTrainer(Restorer(h.widths, h.blocks), data, h, accelerator=accelerator)
    )
    short = replace(h, epochs=h.estimator_epochs)
    estimator = fitted("estimator", short, lambda: EstimatorTrainer(NoiseEstimator(), data, h, accelerator=accelerator))
    if not accelerator.is_main_process:
        return None
    nets = restoring.TrainedNets(
        restorer=restorer.recipe.average.cpu(),
        estimator=estimator.recipe.average.cpu(),
        history={"denoiser": restorer.history, "estimator": estimator.history},
        seed=restorer.seed,
    )
    return restoring.publish_photo_denoiser(nets, data, options=options, precision=accelerator.mixed_precision)


def _settings(part: str, h: Hyperparameters) -> dict[str, Any]:
    """Each net is kept under what matters to it, so that either can be trained again alone."""
    shared = ("batch_size", "crop", "ema_steps")
    own = {k: v for k, v in asdict(h).items() if k in shared or k.startswith("estimator") == (part != "denoiser")}
    return {"recipe": "photo-denoiser", "part": part, **own}


COMMANDS: Final = {
    "photo-denoiser": Command(
        help="Noise out of photos: one net that is given the noise level, one that estimates it; "
        "any size, grey or colour.",
        add_options=add_options,
        train=train,
        family=restoring.FAMILY,
    )
}
