"""Translation by LSTMs and attention, English to Portuguese or German to English; beside it its twin without it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator

from training.families.translator import publish
from training.families.translator.corpus import PAIRS, learn, rows_of, train_pairs
from training.families.translator.publish import Trained
from training.families.translator.trainer import Hyperparameters, Trainer
from training.loop import fit_seeds
from training.options import add_flags, given
from training.publish import name_model
from training.recipe import Command


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pair", required=True, choices=sorted(PAIRS), help="from which language to which")
    parser.add_argument(
        "--twin",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="train the same net without attention as well, for the report (default: yes; it doubles the time)",
    )
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one translator per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    h = given(options, Hyperparameters())
    name_model(options, f"translator-{options.pair}")
    collections = PAIRS[options.pair]()
    tokenizers = learn(collections, h.vocabulary)
    rows = rows_of(train_pairs(collections, h.everyday_times), tokenizers)
    held = {one.name: rows_of(one.held, tokenizers) for one in collections}
    numbers = torch.arange(len(rows))

    def trained(seeds: Sequence[int], *, attention: bool) -> list[Trained]:
        def make(seed: int) -> Trainer:
            read, written = (one.get_vocab_size() for one in (tokenizers.read, tokenizers.written))
            return Trainer(rows, held, read, written, h, attention=attention, seed=seed, accelerator=accelerator)

        settings = {"recipe": "translator", "pair": options.pair, "attention": attention, **asdict(h)}
        title = options.name if attention else f"{options.name}, without attention"
        fitted = fit_seeds(make, numbers, numbers, h, settings, options, accelerator, seeds=seeds, title=title)
        return [Trained(seed=one.seed, network=one.recipe.served(), history=one.history) for one in fitted]

    models = trained(options.seeds, attention=True)
    twins = trained(options.seeds[:1], attention=False) if options.twin else []
    if not accelerator.is_main_process:
        return None
    twin = twins[0] if twins else None
    return publish.publish_translator(
        models, twin, collections, tokenizers, options=options, precision=accelerator.mixed_precision
    )


COMMANDS: Final = {
    "translator": Command(
        help="Translation by LSTMs and attention: English to Portuguese, German to English.",
        add_options=add_options,
        train=train,
        family=publish.FAMILY,
    )
}
