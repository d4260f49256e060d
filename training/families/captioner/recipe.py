"""Captions of photographs and of scenes of digits: a net from scratch that looks at a cell for each word."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from accelerate import Accelerator

from training.data import flickr8k, mnist, scenes
from training.data.scenes import LANGUAGES
from training.families.captioner import publish
from training.families.captioner.corpus import Corpus, DigitCorpus, Photos
from training.families.captioner.metrics import BLANK, Model
from training.families.captioner.network import Captioner
from training.families.captioner.publish import Trained
from training.families.captioner.trainer import SCENES, Hyperparameters, Judge, Trainer
from training.loop import fit_seeds
from training.metrics.captions import bleu_4, cider_d
from training.options import add_flags, given
from training.publish import name_model
from training.recipe import Command

PHOTOS: Final = Hyperparameters()
LEAST_SHARE: Final = 0.4
"""Of the sides of a photograph that is left out at `strength` 1."""


def add_photo_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--twin",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="train the same net on a blank picture as well, for the report (default: yes)",
    )
    add_flags(parser.add_argument_group("hyperparameters"), PHOTOS)


def add_scene_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--language",
        choices=tuple(LANGUAGES),
        default="en",
        help="that the published model writes in; one training serves all (default: en)",
    )
    add_flags(parser.add_argument_group("hyperparameters"), SCENES)


def train_photos(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one captioner per seed and publish the best. None in the processes that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    h = given(options, PHOTOS)
    name_model(options, "captions")
    data = flickr8k.load()
    corpus = Photos(data, vocabulary=h.vocabulary, reframing=1 - LEAST_SHARE * h.strength, each=h.each)
    held = corpus.held["held"].pictures.numpy()

    def judge(network: Captioner) -> dict[str, float]:
        model = Model.trained(network, corpus)
        texts = [model.text(one) for one in model.captions(held)]
        return {
            "held_cider": cider_d(texts, data.held.sentences),
            "held_bleu_4": bleu_4(texts, data.held.sentences),
            "distinct": len(set(texts)) / len(texts),
        }

    models = _trained(options.seeds, corpus, h, judge, options, accelerator)
    twins = []
    if options.twin:
        twins = _trained(options.seeds[:1], corpus, h, lambda _: {}, options, accelerator, blank=BLANK["photos"])
    if not accelerator.is_main_process:
        return None
    twin = twins[0] if twins else None
    return publish.publish_photos(models, twin, corpus, options=options, precision=accelerator.mixed_precision)


def train_scenes(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one captioner per seed, in all languages at once, and publish the best one of a language.

    The run is kept by what was trained, not by the language: the command for another one finds it done.

    Raises: DataError, PublishError, Interrupted.
    """
    h = given(options, SCENES)
    name_model(options, "scene-captions" if options.language == "en" else f"scene-captions-{options.language}")
    data = scenes.of(mnist.load())
    corpus = DigitCorpus(data, vocabulary=h.vocabulary, rows=h.rows, strength=h.strength, unnamed=h.unnamed)

    def judge(network: Captioner) -> dict[str, float]:
        found = {}
        for number, language in enumerate(LANGUAGES):
            model = Model.trained(network, corpus, language=number)
            for name, part in (("exact", data.held), ("unseen", data.held_unseen)):
                texts = [model.text(one) for one in model.captions(part.pictures.numpy())]
                right = [one == other for one, other in zip(texts, part.sentences(language), strict=True)]
                found[f"held_{name}_{language}"] = sum(right) / len(right)
        return found

    models = _trained(options.seeds, corpus, h, judge, options, accelerator, name="scene-captions")
    if not accelerator.is_main_process:
        return None
    return publish.publish_scenes(
        models, corpus, language=options.language, options=options, precision=accelerator.mixed_precision
    )


def _trained(
    seeds: Sequence[int],
    corpus: Corpus,
    h: Hyperparameters,
    judge: Judge,
    options: argparse.Namespace,
    accelerator: Accelerator,
    *,
    blank: int | None = None,
    name: str | None = None,
) -> list[Trained]:
    def make(seed: int) -> Trainer:
        return Trainer(corpus, h, seed=seed, accelerator=accelerator, blank=blank, judge=judge)

    settings = {"recipe": "captioner", "corpus": type(corpus).__name__, "blank": blank, **asdict(h)}
    title = f"{options.name}, blind" if blank is not None else options.name
    numbers = torch.arange(corpus.rows)
    fitted = fit_seeds(make, numbers, numbers, h, settings, options, accelerator, seeds=seeds, name=name, title=title)
    return [Trained(seed=one.seed, network=one.recipe.served(), history=one.history) for one in fitted]


COMMANDS: Final = {
    "captions": Command(
        help="Photographs (Flickr8k) to English sentences, attention over 7x7 cells; its blind twin beside it.",
        add_options=add_photo_options,
        train=train_photos,
        family=publish.PHOTOS,
    ),
    "scene-captions": Command(
        help="Scenes of coloured digits to exact sentences in English or Portuguese, attention over 7x7 cells.",
        add_options=add_scene_options,
        train=train_scenes,
        family=publish.DIGITS,
    ),
}
