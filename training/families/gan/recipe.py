"""Generative adversarial networks: new pictures in one evaluation, from noise alone, or of the class that is asked for.

The default settings are for MNIST, where one core of an AVX-512 processor with bf16 is free for it (nine steps a
second): `gan` 10 epochs, `cgan` 8, a quarter of an hour each. Without labels the slope's weight is larger, and stays
larger: at 0.003 the held-out FD ratio rose again at the end. The shipped `cgan-mnist` took 65 minutes of a core that
was shared with other work.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Final

from training.families.gan.publish import evaluate, report, train
from training.families.gan.trainer import Hyperparameters
from training.options import add_flags, add_picture_data
from training.recipe import Command

DEFAULTS: Final = {"gan": Hyperparameters(epochs=10, penalty=1.0, penalty_end=0.02), "cgan": Hyperparameters()}


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
        evaluate=evaluate,
        report=report,
    )


COMMANDS: Final = {
    "gan": _command("gan", "Generative adversarial networks: new pictures in one evaluation, from noise alone."),
    "cgan": _command(
        "cgan",
        "Conditional generative adversarial networks: new pictures of the class that is asked for, in one evaluation.",
    ),
}
