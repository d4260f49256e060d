"""Conditional generative adversarial networks: new pictures of the class that is asked for, in one evaluation.

The default settings are for MNIST: 8 epochs, a quarter of an hour where one core of an AVX-512 processor with bf16 is
free for it (nine steps a second). The shipped model took 65 minutes of a core that was shared with other work.
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

DEFAULTS: Final = Hyperparameters()


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="a data set of `python -m training list`, or a folder")
    parser.add_argument("--size", type=positive, help="side in pixels that a folder's pictures are brought to")
    add_flags(parser.add_argument_group("hyperparameters (these defaults are for digits)"), DEFAULTS)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one generator per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    return generating.train("cgan", options, accelerator, defaults=DEFAULTS)
