"""Diffusion models: pictures out of noise, step by step, and noisy pictures made clean.

On MNIST, 50 epochs in 114 minutes, most of them on one core that was not quite free: FD ratio 1.47 in 16 evaluations,
1.61 in 8; 99.2 % of the pictures show what was asked for; as a denoiser at sigma 0.5, 5.0 dB over BM3D. In 4
evaluations it is no good (4.1): that is what `consistency` is for. Guidance begins at 70 % of the run; without it
some 97 % of the pictures showed what was asked for.

`consistency`, from noise to a picture in one evaluation, better in two or four: on MNIST, 10 epochs in 22 minutes of
one core: FD ratio 3.7 in one evaluation, 2.3 in two, 2.6 in four; 99.1 % of the pictures show what was asked for. It
needs a teacher: `python -m training diffusion --data mnist` leaves one in runs/diffusion-mnist-seed0-*/checkpoint.pt.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

from accelerate import Accelerator

from training.data import load
from training.families.diffusion import consistency_trainer
from training.families.diffusion.publish import FAMILY, MADE_BY, TrainedDenoiser, load_teacher, publish_denoiser
from training.families.diffusion.trainer import Hyperparameters, Trainer
from training.families.diffusion.trajectories import trajectories
from training.loop import fit_seeds
from training.metrics.reference_classifiers import reference_classifiers
from training.options import add_flags, add_picture_data, given, positive
from training.publish import name_model
from training.recipe import Command


def add_options(parser: argparse.ArgumentParser) -> None:
    add_picture_data(parser)
    add_flags(parser.add_argument_group("hyperparameters (these defaults are for digits)"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one denoiser, then its estimator of the noise level, and publish both. None in processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    dataset = load(options.data, size=options.size)
    name_model(options, f"diffusion-{dataset.name}")
    h = given(options, Hyperparameters())

    def make(seed: int) -> Trainer:
        recipe = Trainer(dataset, h, seed=seed, accelerator=accelerator, compiled=options.compile)
        rows, parameters = len(dataset.train_x), sum(p.numel() for p in recipe.bare.parameters())
        accelerator.print(
            f"{dataset.title}: {rows:,} rows to train; {parameters:,} parameters, "
            f"{h.epochs} epochs of {max(1, rows // h.batch_size)} steps on {accelerator.device.type}"
        )
        return recipe

    settings = {"recipe": "diffusion", "data": dataset.name, **asdict(h)}
    fitted = fit_seeds(make, dataset.train_x, dataset.train_y, h, settings, options, accelerator)
    trained = next(fitted)
    if not accelerator.is_main_process:
        return None
    return publish_denoiser(
        TrainedDenoiser(seed=trained.seed, denoiser=trained.recipe.best.to("cpu").eval(), history=trained.history),
        dataset,
        options=options,
        precision=accelerator.mixed_precision,
    )


def add_consistency_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="the data set that the teacher was trained on")
    parser.add_argument("--size", type=positive, help="side in pixels that a folder's pictures are brought to")
    parser.add_argument("--teacher", required=True, metavar="FILE", help=MADE_BY)
    group = parser.add_argument_group("hyperparameters (these defaults are for digits)")
    add_flags(group, consistency_trainer.Hyperparameters)


def train_consistency(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Draw the teacher's trajectories, train the student on them and publish it.

    Raises: DataError, PublishError, Interrupted.
    """
    dataset = load(options.data, size=options.size)
    name_model(options, f"consistency-{dataset.name}")
    h = given(options, consistency_trainer.Hyperparameters())
    seed = options.seeds[0]
    teacher, digest = load_teacher(Path(options.teacher), dataset)
    settings = {"recipe": "consistency", "data": dataset.name, "teacher": digest, **asdict(h)}
    drawn = trajectories(
        teacher,
        dataset,
        rows=h.rows,
        steps=h.steps,
        unlabelled=h.unlabelled,
        seed=seed,
        kept=Path(options.runs),
        accelerator=accelerator,
        digest=digest,
    )
    classifiers = reference_classifiers(None, dataset)

    def make(seed: int) -> consistency_trainer.Trainer:
        return consistency_trainer.Trainer(
            dataset, h, teacher=teacher, drawn=drawn, classifiers=classifiers, seed=seed, accelerator=accelerator
        )

    fitted = fit_seeds(make, dataset.train_x, dataset.train_y, h, settings, options, accelerator)
    trained = next(fitted)
    if not accelerator.is_main_process:
        return None
    return publish_denoiser(
        TrainedDenoiser(seed=seed, denoiser=trained.recipe.best.to("cpu").eval(), history=trained.history, few=True),
        dataset,
        options=options,
        precision=accelerator.mixed_precision,
    )


COMMANDS: Final = {
    "diffusion": Command(
        help="Diffusion models: pictures out of noise, step by step, and noisy pictures made clean.",
        add_options=add_options,
        train=train,
        family=FAMILY,
    ),
    "consistency": Command(
        help="Few-step diffusion: from noise to a picture in one evaluation, better in two or four.",
        add_options=add_consistency_options,
        train=train_consistency,
        family=FAMILY,
    ),
}
