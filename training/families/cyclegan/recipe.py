"""CycleGANs: pictures of one domain to those of another and back, learnt from examples that are not paired."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

from accelerate import Accelerator
from torch import Tensor, nn

from training.data.domains import PAIRS, load
from training.export import check_can_publish
from training.families.cyclegan.publish import Translators, evaluate, finish, report
from training.families.cyclegan.trainer import Hyperparameters, Trainer, for_pair
from training.loop import Run, fit, run_folder
from training.networks.pictures import pixels
from training.options import add_flags, given
from training.recipe import Command


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pair", required=True, choices=sorted(PAIRS), help="of domains to translate between")
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


class Served(nn.Module):
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
    options.name = options.name or f"cyclegan-{options.pair}"
    check_can_publish(Path(options.models), options.name, options.model_version)
    pair = load(options.pair)
    h = given(options, for_pair(pair))
    a, b = (x.to(accelerator.device) for x in pair.train)
    accelerator.print(
        f"{pair.title}: {len(a):,} and {len(b):,} pictures of different digits, {len(pair.held[0]):,} digits held out, "
        f"{h.epochs} epochs of {max(1, len(a) // h.batch_size)} steps on {accelerator.device.type}"
    )
    trained = []
    for seed in options.seeds:
        recipe = Trainer(pair, h, seed=seed, accelerator=accelerator)
        title = options.name if len(options.seeds) == 1 else f"{options.name} seed {seed}"
        settings = {
            "recipe": "cyclegan",
            "pair": options.pair,
            "seed": seed,
            "precision": accelerator.mixed_precision,
            **asdict(h),
        }
        run = Run(
            folder=run_folder(options, settings, accelerator),
            epochs=h.epochs,
            batch_size=h.batch_size,
            seed=seed,
            title=title,
        )
        history = fit(recipe, a, b, run=run, accelerator=accelerator)
        there, back = (Served(net).cpu().eval() for net in recipe.average)
        held_cycle = (history[-1]["held_cycle_there"] + history[-1]["held_cycle_back"]) / 2
        trained.append(
            Translators(
                seed=seed,
                there=there,
                back=back,
                history=recipe.watched or history,
                held_cycle=held_cycle,
                seconds=sum(row["seconds"] for row in history),
            )
        )
    if not accelerator.is_main_process:
        return None
    return finish(trained, pair, options=options, precision=accelerator.mixed_precision)


COMMANDS: Final = {
    "cyclegan": Command(
        help="CycleGANs: pictures of one domain to those of another and back, learnt from examples that "
        "are not paired.",
        add_options=add_options,
        train=train,
        evaluate=evaluate,
        report=report,
    )
}
