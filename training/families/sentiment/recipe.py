"""Negative or positive: an LSTM in both directions with pooling over time, on SST-2, rt-polarity or IMDB."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from tokenizers import Tokenizer

from training.data import tokenizer as subwords
from training.data.sentiment import DATA, FOLDS, Reviews, rt_polarity
from training.families.sentiment import publish
from training.families.sentiment.publish import Prepared, Trained
from training.families.sentiment.trainer import Hyperparameters, Trainer, logits_of
from training.loop import fit_seeds
from training.options import add_flags, given
from training.publish import name_model
from training.recipe import Command


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, choices=sorted(DATA), help="sentences, or long reviews (imdb)")
    parser.add_argument(
        "--folds",
        action="store_true",
        help=f"of rt-polarity train on all {FOLDS} folds, for the mean; the first one's model is published",
    )
    add_flags(parser.add_argument_group("hyperparameters"), Hyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Train one classifier per seed, and per fold where asked, and publish the first fold's best. None in the processes
    that only helped.

    Raises: DataError, PublishError, Interrupted.
    """
    h = given(options, Hyperparameters())
    name_model(options, f"sentiment-{options.data}")

    def trained(data: Prepared, fold: int) -> tuple[list[Trained], list[float]]:
        reviews = data.reviews
        ids, y = list(data.train), reviews.train.y
        tokenizer = Tokenizer.from_str(data.file)
        if h.phrases and len(reviews.phrases):
            ids, y = ids + cut(tokenizer, reviews.phrases.texts, h), np.concatenate([y, reviews.phrases.y])
        # A text of nothing that is left after normalising has no token to read.
        kept = [i for i, one in enumerate(ids) if len(one)]
        ids, y = [ids[i] for i in kept], y[kept]

        def make(seed: int) -> Trainer:
            held = data.held, reviews.held.y
            return Trainer(ids, y, held, tokenizer.get_vocab_size(), h, seed=seed, accelerator=accelerator)

        rows = torch.arange(len(ids))
        settings = {"recipe": "sentiment", "data": options.data, "fold": fold, **asdict(h)}
        name = f"{options.name}, fold {fold}" if options.folds else options.name
        models = [
            Trained(one.seed, one.recipe.served(), one.history)
            for one in fit_seeds(make, rows, rows, h, settings, options, accelerator, title=name)
        ]
        return models, [_share(one, data) for one in models]

    first = prepared(DATA[options.data](), h)
    models, shares = trained(first, 0)
    if options.folds and options.data == "rt-polarity":
        for fold in range(1, FOLDS):
            shares += trained(prepared(rt_polarity(fold), h), fold)[1]
    if not accelerator.is_main_process:
        return None
    return publish.publish_sentiment(
        models, first, shares, max_tokens=h.max_tokens, options=options, precision=accelerator.mixed_precision
    )


def prepared(reviews: Reviews, h: Hyperparameters) -> Prepared:
    """With a tokenizer that is learnt on the training texts, without capitals: rt-polarity has none."""
    tokenizer = subwords.train(reviews.train.texts, vocabulary=h.vocabulary, lower=True)
    parts = (reviews.train, reviews.held, reviews.test)
    train, held, test = (cut(tokenizer, part.texts, h) for part in parts)
    file = subwords.file_of(tokenizer, end=False)
    return Prepared(reviews=reviews, file=file, train=train, held=held, test=test)


def cut(
    tokenizer: Tokenizer, texts: Sequence[str], h: Hyperparameters
) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    return [ids[: h.max_tokens] for ids in subwords.encode(tokenizer, texts)]


def _share(one: Trained, data: Prepared) -> float:
    right = logits_of(one.network, data.test).argmax(1) == torch.from_numpy(data.reviews.test.y)
    return float(right.float().mean())


COMMANDS: Final = {
    "sentiment": Command(
        help="Negative or positive: an LSTM in both directions with pooling, on SST-2, rt-polarity or IMDB.",
        add_options=add_options,
        train=train,
        family=publish.FAMILY,
    )
}
