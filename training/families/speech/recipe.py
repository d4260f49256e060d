"""Speech recognition by CTC over GRID, FSDD and Speech Commands: 76 words, whole recordings or piece by piece."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import torch
from accelerate import Accelerator

from training.data.base import DataError
from training.data.sound import CORPORA, words_of
from training.data.sound_mixing import Mixer
from training.families.speech import publish
from training.families.speech.network import SpeechNet
from training.families.speech.trainer import ROWS_PER_EPOCH, Hyperparameters, Trainer
from training.loop import fit_seeds
from training.options import add_flags, given
from training.publish import name_model
from training.recipe import Command

MADE_BY: Final = "the checkpoint.pt of a run of `python -m training speech`"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--teacher", metavar="FILE", help=f"of a streaming model: {MADE_BY}, to learn from it")
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
    teacher, digest = load_teacher(Path(options.teacher), len(words), h.width) if options.teacher else (None, "")
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


def load_teacher(checkpoint: Path, words: int, width: int) -> tuple[SpeechNet, str]:
    """The average of a run that hears whole recordings, and 12 letters that stand for it.

    Raises: DataError where there is no such file, or it is another net.
    """
    if not checkpoint.is_file():
        raise DataError(f"--teacher {checkpoint}: no such file; expected {MADE_BY}")
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)["recipe"]["average"]
        weights = {name.removeprefix("module."): value for name, value in saved.items() if name != "n_averaged"}
        hidden = weights["layers.0.backwards.weight_hh_l0"].shape[1]
        layers = sum(name.endswith("backwards.weight_hh_l0") for name in weights)
        network = SpeechNet(words, width=width, hidden=hidden, layers=layers, bidirectional=True, dropout=0.0)
        network.load_state_dict(weights)
    except (OSError, EOFError, UnpicklingError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"--teacher {checkpoint}: is no net of {words} words and --width {width} that hears whole recordings; "
            f"expected {MADE_BY}"
        ) from error
    return network.requires_grad_(False).eval(), hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]


COMMANDS: Final = {
    "speech": Command(
        help="Speech to words by CTC over GRID, FSDD and Speech Commands; --streaming hears the past alone.",
        add_options=add_options,
        train=train,
        family=publish.FAMILY,
    )
}
