"""Spoken digits and commands by convolutions and a GRU: a recording in, one label out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator

from training.data.sound import DIGITS, Clip, fsdd, speech_commands
from training.families.spoken import publish
from training.families.spoken.publish import LABELS, Trained
from training.families.spoken.trainer import Hyperparameters, Trainer, logits_of
from training.loop import fit_seeds
from training.options import add_flags, given
from training.publish import name_model
from training.recipe import Command

FOREIGN_TIMES: Final = 3  # each epoch hears a digit of Speech Commands so often


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", required=True, choices=sorted(LABELS), help="digits of six speakers, or twelve commands"
    )
    parser.add_argument(
        "--leave-out",
        action="store_true",
        help="of fsdd also train one model without each speaker, for half the epochs, and measure it on that one",
    )
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one classifier per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    h = given(options, Hyperparameters())
    name_model(options, "spoken-digits" if options.data == "fsdd" else "spoken-commands")
    corpus = publish.load(options.data)
    # Digits are among the other words of Speech Commands' "unknown"; FSDD has many more of them.
    others = fsdd().of("train") if options.data == "speech-commands" else []
    foreign = foreign_digits() * FOREIGN_TIMES if options.data == "fsdd" else []

    def trained(seeds: Sequence[int], name: str, clips: Sequence[Clip], epochs: int) -> list[Trained]:
        own, clips = Hyperparameters(**{**asdict(h), "epochs": epochs}), [*clips, *foreign]

        def make(seed: int) -> Trainer:
            labels = LABELS[options.data]
            other = labels.index("unknown") if others else 0
            return Trainer(
                clips, labels, corpus.of("held"), own, seed=seed, accelerator=accelerator, others=others, other=other
            )

        rows = torch.arange(len(clips))
        settings = {"recipe": "spoken", "data": options.data, "clips": len(clips), **asdict(own)}
        fitted = fit_seeds(make, rows, rows, own, settings, options, accelerator, seeds=seeds, name=name, title=name)
        return [Trained(one.seed, one.recipe.served(), one.history) for one in fitted]

    models = trained(options.seeds, options.name, corpus.of("train"), h.epochs)
    unseen: dict[str, float] = {}
    if options.leave_out and options.data == "fsdd":
        for speaker in sorted({clip.speaker for clip in corpus.clips}):
            clips = [clip for clip in corpus.of("train") if clip.speaker != speaker]
            (one,) = trained((0,), f"{options.name}-without-{speaker}", clips, max(1, h.epochs // 2))
            tested = [clip for clip in corpus.clips if clip.speaker == speaker]
            y = torch.tensor([DIGITS.index(clip.label) for clip in tested])
            unseen[speaker] = float((logits_of(one.network, tested).argmax(1) == y).float().mean())
    if not accelerator.is_main_process:
        return None
    return publish.publish_spoken(models, corpus, unseen, options=options, precision=accelerator.mixed_precision)


def foreign_digits() -> list[Clip]:
    """Digits of Speech Commands' training part, labelled as such: few, but of many voices. Raises: DataError."""
    found = [(clip, clip.words[0][0]) for clip in speech_commands().of("train") if clip.words]
    return [replace(clip, label=word) for clip, word in found if word in DIGITS]


COMMANDS: Final = {
    "spoken": Command(
        help="Spoken digits and commands by convolutions and a GRU: a recording in, one label out.",
        add_options=add_options,
        train=train,
        family=publish.FAMILY,
    )
}
