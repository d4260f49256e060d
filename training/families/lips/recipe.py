"""Lip reading: moving pictures of a mouth in, a word for each frame out, and the sentence that its grammar allows.

One man's face (GRID, talker s1) and the 51 words of his sentences; no other face is read.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator

from training.data import grid
from training.families.lips import publish as reading
from training.families.lips.trainer import Hyperparameters, LipTrainer
from training.loop import fit_seeds
from training.options import add_flags, given
from training.publish import name_model
from training.recipe import Command


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--causal", action="store_true", help="from the frames up to now alone, so that the model can stream"
    )
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one reader and publish it. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    data = grid.load()
    h = given(options, Hyperparameters())
    name_model(options, reading.STREAMING if options.causal else reading.WHOLE)
    numbers = torch.arange(len(data.rows("train")))

    def make(seed: int) -> LipTrainer:
        return LipTrainer(data, h, seed=seed, accelerator=accelerator, causal=options.causal)

    settings = {"recipe": "lips", "causal": options.causal, **asdict(h)}
    fitted = next(fit_seeds(make, numbers, numbers, h, settings, options, accelerator))
    if not accelerator.is_main_process:
        return None
    return reading.publish_lips(fitted, data, options=options, precision=accelerator.mixed_precision)


COMMANDS: Final = {
    "lips": Command(
        help="Lip reading: moving pictures of a mouth in, a word for each frame out (GRID, one man).",
        add_options=add_options,
        train=train,
        family=reading.FAMILY,
    )
}
