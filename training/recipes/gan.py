"""Generative adversarial networks: new pictures in one evaluation, from noise alone.

The default settings are for MNIST: 10 epochs, a quarter of an hour where one core of an AVX-512 processor with bf16 is
free for it (nine steps a second). The slope's weight is larger than with labels, and stays larger: at 0.003 the
held-out FD ratio rose again at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from accelerate import Accelerator

from training import generating
from training.adversarial import Hyperparameters
from training.generating import evaluate, report
from training.options import add_flags, positive

__all__ = ["add_options", "evaluate", "report", "train"]

DEFAULTS: Final = Hyperparameters(epochs=10, penalty=1.0, penalty_end=0.02)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="a data set of `python -m training list`, or a folder")
    parser.add_argument("--size", type=positive, help="side in pixels that a folder's pictures are brought to")
    add_flags(parser.add_argument_group("hyperparameters (these defaults are for digits)"), DEFAULTS)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one generator per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    return generating.train("gan", options, accelerator, defaults=DEFAULTS)
