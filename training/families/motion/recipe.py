"""Moving digits: a label for each frame, the direction of motion; the same net without recurrence beside it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator

from training.data import mnist, moving_digits
from training.families.motion import publish as moving
from training.families.motion.trainer import CLIPS, Hyperparameters, MotionTrainer
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
    data = moving_digits.of(mnist.load())
    h = given(options, Hyperparameters())
    name_model(options, "motion")
    numbers = torch.arange(CLIPS)

    def fitted(*, recurrent: bool) -> Fitted[MotionTrainer]:
        def make(seed: int) -> MotionTrainer:
            return MotionTrainer(data, h, seed=seed, accelerator=accelerator, recurrent=recurrent)

        settings = {"recipe": "motion", "recurrent": recurrent, **asdict(h)}
        title = f"{options.name}, {'recurrent' if recurrent else 'without recurrence'}"
        return next(fit_seeds(make, numbers, numbers, h, settings, options, accelerator, title=title))

    recurrent, without = fitted(recurrent=True), fitted(recurrent=False)
    if not accelerator.is_main_process:
        return None
    return moving.publish_motion(recurrent, without, data, options=options, precision=accelerator.mixed_precision)


COMMANDS: Final = {
    "motion": Command(
        help="Moving digits: the direction of motion of each frame, with recurrence and without.",
        add_options=add_options,
        train=train,
        family=moving.FAMILY,
    )
}
