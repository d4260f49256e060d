"""Speech recognition by CTC over GRID, FSDD and Speech Commands: 76 words, whole recordings or piece by piece."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator

from training.data.base import DataError
from training.data.sound import CORPORA, words_of
from training.data.sound_mixing import Mixer
from training.families.speech import publish
from training.families.speech.teacher import EXPECTED, load_teacher
from training.families.speech.trainer import ROWS_PER_EPOCH, Hyperparameters, Trainer
from training.loop import fit_seeds
from training.options import add_flags, given
from training.publish import name_model
from training.recipe import Command


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--teacher", metavar="FOLDER", help=f"of a streaming model: {EXPECTED}, to learn from it")
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one recogniser per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    h = given(options, Hyperparameters())
    name_model(options, "speech-streaming" if h.streaming else "speech")
    if options.teacher and not h.streaming:
        raise DataError("--teacher: only a streaming model has one; expected --streaming beside it")
    corpora = [load() for load in CORPORA.values()]
    words = words_of(corpora)
    teacher, digest = load_teacher(Path(options.teacher), words, h.width) if options.teacher else (None, "")
    sentences, *single = corpora
    mixer = Mixer(sentences.of("train"), [clip for corpus in single for clip in corpus.of("train")])
    held = {corpus.name: corpus.of("held") for corpus in corpora}

    def make(seed: int) -> Trainer:
        return Trainer(mixer, words, held, h, seed=seed, accelerator=accelerator, teacher=teacher)

    rows = torch.arange(ROWS_PER_EPOCH)
    settings = {"recipe": "speech", **asdict(h), **({"teacher": digest} if teacher else {})}
    trained = [
        publish.Trained(
            seed=one.seed, network=one.recipe.served(), error=publish.held_error(one.history), history=one.history
        )
        for one in fit_seeds(make, rows, rows, h, settings, options, accelerator)
    ]
    if not accelerator.is_main_process:
        return None
    return publish.publish_speech(trained, corpora, words, h, options=options, precision=accelerator.mixed_precision)


COMMANDS: Final = {
    "speech": Command(
        help="Speech to words by CTC over GRID, FSDD and Speech Commands; --streaming hears the past alone.",
        add_options=add_options,
        train=train,
        family=publish.FAMILY,
    )
}
