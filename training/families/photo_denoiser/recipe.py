"""Noise out of photos: one net that is told how strong the noise is, one that finds out; any size, grey or colour.

In 64 minutes of wall-clock on about a third of one core (some 17 minutes of its own time, bf16) BSD68 comes to 31.16,
28.74 and 25.84 dB at noise 15, 25 and 50, and to 0.01 dB less where the noise is estimated. Published: BM3D 31.07,
28.57 and 25.62 (told), DnCNN-B 31.61, 29.16 and 26.23. The goals of 31.4, 28.9 and 26.0 are missed, and not for want of
time: `--epochs 40`, 64 minutes of a core, comes to 31.16, 28.73 and 25.82. What is missing is greatest where the noise
is least, at edges and texture, and this net works at half the resolution and below; DnCNN-B has all its layers at full.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator

from app.core.manifest import Manifest
from training.data import photos
from training.export import check_can_publish
from training.families.photo_denoiser import publish as restoring
from training.families.photo_denoiser.network import NoiseEstimator, Restorer
from training.families.photo_denoiser.trainer import CROPS, EstimatorTrainer, Hyperparameters, RestorerTrainer, Trainer
from training.loop import Run, fit, run_folder
from training.options import add_flags, given
from training.recipe import Command, Evaluation


def add_options(parser: argparse.ArgumentParser) -> None:
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train both nets and publish them. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    data = photos.load()
    h = given(options, Hyperparameters())
    options.name = options.name or "photo-denoiser"
    check_can_publish(Path(options.models), options.name, options.model_version)
    seed = options.seeds[0]
    torch.manual_seed(seed)
    restorer = RestorerTrainer(Restorer(h.widths, h.blocks), data, h, accelerator=accelerator)
    history = {"denoiser": _fitted(restorer, "denoiser", h.epochs, seed, options, accelerator)}
    torch.manual_seed(seed)
    estimator = EstimatorTrainer(NoiseEstimator(), data, h, accelerator=accelerator)
    history["estimator"] = _fitted(estimator, "estimator", h.estimator_epochs, seed, options, accelerator)
    if not accelerator.is_main_process:
        return None
    nets = restoring.Nets(
        restorer=restorer.average.cpu(),
        estimator=estimator.average.cpu(),
        history=history,
        seed=seed,
    )
    return restoring.finish(nets, data, options=options, precision=accelerator.mixed_precision)


def evaluate(folder: Path, manifest: Manifest, *, data: str | None, rows: int | None) -> Evaluation:
    return restoring.evaluate(folder, manifest, data=data, rows=rows)


def report(folder: Path, manifest: Manifest, *, data: str | None) -> None:
    restoring.report(folder, manifest, data=data)


def _fitted(
    trainer: Trainer, part: str, epochs: int, seed: int, options: argparse.Namespace, accelerator: Accelerator
) -> list[dict[str, float]]:
    # Each net is kept under what matters to it, so that either can be trained again alone.
    shared = ("batch_size", "crop", "ema_steps")
    own = {
        k: v for k, v in asdict(trainer.h).items() if k in shared or k.startswith("estimator") == (part != "denoiser")
    }
    settings = {"recipe": "photo-denoiser", "part": part, "seed": seed, **own}
    run = Run(
        folder=run_folder(options, settings, accelerator),
        epochs=epochs,
        batch_size=trainer.h.batch_size,
        seed=seed,
        title=f"{options.name}, {part}, seed {seed}",
    )
    numbers = torch.arange(len(trainer.photos), device=accelerator.device).repeat(CROPS)
    return fit(trainer, numbers, numbers, run=run, accelerator=accelerator)


COMMANDS: Final = {
    "photo-denoiser": Command(
        help="Noise out of photos: one net that is told how strong the noise is, one that finds out; "
        "any size, grey or colour.",
        add_options=add_options,
        train=train,
        evaluate=evaluate,
        report=report,
    )
}
