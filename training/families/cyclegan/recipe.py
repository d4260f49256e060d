"""CycleGANs: pictures of one domain to those of another and back, trained on examples that are not paired."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

from accelerate import Accelerator
from torch import Tensor, nn

from training.data.domains import PAIRS, load
from training.families.cyclegan.publish import FAMILY, TrainedTranslators, publish_translators
from training.families.cyclegan.trainer import Hyperparameters, Trainer, for_pair
from training.loop import fit_seeds
from training.networks.pictures import pixels
from training.options import add_flags, given
from training.publish import name_model
from training.recipe import Command


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pair", required=True, choices=sorted(PAIRS), help="of domains to translate between")
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


class ServedTranslator(nn.Module):
    """What is exported: (B, H, W, C) uint8 -> (B, H, W, D) in [0, 1]."""

    def __init__(self, translator: nn.Module) -> None:
        super().__init__()
        self.translator = translator

    def forward(self, image: Tensor) -> Tensor:
        translated: Tensor = self.translator(pixels(image)).permute(0, 2, 3, 1)
        return translated


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one pair of translators per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    name_model(options, f"cyclegan-{options.pair}")
    pair = load(options.pair)
    h = given(options, for_pair(pair))
    a, b = pair.train
    accelerator.print(
        f"{pair.title}: {len(a):,} and {len(b):,} pictures of different digits, {len(pair.held[0]):,} digits held out, "
        f"{h.epochs} epochs of {max(1, len(a) // h.batch_size)} steps on {accelerator.device.type}"
    )
    trained = []
    precision = accelerator.mixed_precision

    def make(seed: int) -> Trainer:
        return Trainer(pair, h, seed=seed, accelerator=accelerator)

    settings = {"recipe": "cyclegan", "pair": options.pair, "precision": precision, **asdict(h)}
    for one in fit_seeds(make, a, b, h, settings, options, accelerator):
        there, back = (ServedTranslator(net).cpu().eval() for net in one.recipe.average)
        last = one.history[-1]
        trained.append(
            TrainedTranslators(
                seed=one.seed,
                there=there,
                back=back,
                history=one.recipe.watched or one.history,
                held_cycle=(last["held_cycle_there"] + last["held_cycle_back"]) / 2,
                seconds=sum(row["seconds"] for row in one.history),
            )
        )
    if not accelerator.is_main_process:
        return None
    return publish_translators(trained, pair, options=options, precision=precision)


COMMANDS: Final = {
    "cyclegan": Command(
        help="CycleGANs: pictures of one domain to those of another and back, trained on examples that are not paired.",
        add_options=add_options,
        train=train,
        family=FAMILY,
    )
}
