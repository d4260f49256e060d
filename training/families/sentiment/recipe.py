"""Negative or positive: an LSTM in both directions with pooling over time, on SST-2, rt-polarity or IMDB."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from tokenizers import Tokenizer

from app.codecs.text.words import list_of_words
from training.data import tokenizer as subwords
from training.data.sentiment import DATA, FOLDS, Reviews, rt_polarity
from training.families.sentiment import publish
from training.families.sentiment.network import SentimentNet
from training.families.sentiment.publish import Prepared, Trained
from training.families.sentiment.trainer import Hyperparameters, Trainer, logits_of
from training.loop import fit_seeds
from training.options import add_flags, given
from training.publish import name_model, total_seconds
from training.recipe import Command

Settings = dict[str, Any]

PIECE: Final = 40
PIECES: Final = 3
"""Tokens of a piece of a long review, and pieces of each: about as long as a sentence about a film."""


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
    settings = {"recipe": "sentiment", "data": options.data, **asdict(h)}
    first = None
    if h.first_epochs:
        first = _first(h, settings, options, accelerator)

    def trained(data: Prepared, fold: int) -> tuple[list[Trained], list[float]]:
        reviews = data.reviews
        ids, y = list(data.train), reviews.train.y
        if h.phrases and len(reviews.phrases):
            ids += cut(Tokenizer.from_str(data.file), reviews.phrases.texts, h)
            y = np.concatenate([y, reviews.phrases.y])
        name = f"{options.name}, fold {fold}" if options.folds else options.name
        models = _fitted(
            ids, y, (data.held, reviews.held.y), h, {**settings, "fold": fold}, options, accelerator,
            tokens=data.tokens, title=name, start=None if first is None else first.network,
        )  # fmt: skip
        return models, [_share(one, data) for one in models]

    data = prepared(DATA[options.data](), h, first)
    models, shares = trained(data, 0)
    if options.folds and options.data == "rt-polarity":
        for fold in range(1, FOLDS):
            shares += trained(prepared(rt_polarity(fold), h, first), fold)[1]
    if not accelerator.is_main_process:
        return None
    return publish.publish_sentiment(
        models, data, shares, max_tokens=h.max_tokens, options=options, precision=accelerator.mixed_precision
    )


@dataclass(frozen=True, kw_only=True)
class First:
    """What was learnt from long reviews before, in so many seconds: the tokenizer and the network to begin with, and
    the reviews."""

    tokenizer: Tokenizer
    network: SentimentNet
    reviews: Reviews
    seconds: float


def _first(h: Hyperparameters, settings: Settings, options: argparse.Namespace, accelerator: Accelerator) -> First:
    """Train once, for all seeds and folds, on pieces of the ends of IMDB's reviews, where their verdict is. Raises:
    DataError, Interrupted."""
    reviews = DATA["imdb"]()
    tokenizer = subwords.train(reviews.train.texts, vocabulary=h.vocabulary, lower=True)
    train, held = ((_pieces(tokenizer, part.texts), part.y) for part in (reviews.train, reviews.held))
    (ids, y), (held_ids, held_y) = (
        ([piece for some in pieces for piece in some], np.repeat(y, [len(some) for some in pieces]))
        for pieces, y in (train, held)
    )
    (one,) = _fitted(
        ids, y, (held_ids, held_y), replace(h, epochs=h.first_epochs), {**settings, "first": True}, options,
        accelerator, tokens=tokenizer.get_vocab_size(), title=f"{options.name}, long reviews first", seeds=[0],
    )  # fmt: skip
    return First(tokenizer=tokenizer, network=one.network, reviews=reviews, seconds=total_seconds(one.history))


def _pieces(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[NDArray[np.int64]]]:
    """Of each text its last `PIECES` pieces of `PIECE` tokens, the first of them shorter where there are no more."""
    found = []
    for ids in subwords.encode(tokenizer, texts):
        ends = range(len(ids), max(0, len(ids) - PIECES * PIECE), -PIECE)
        found.append([ids[max(0, end - PIECE) : end] for end in ends])
    return found


def _fitted(
    ids: Sequence[NDArray[np.int64]],
    y: NDArray[np.int64],
    held: tuple[Sequence[NDArray[np.int64]], NDArray[np.int64]],
    h: Hyperparameters,
    settings: Settings,
    options: argparse.Namespace,
    accelerator: Accelerator,
    *,
    tokens: int,
    title: str,
    start: SentimentNet | None = None,
    seeds: Sequence[int] | None = None,
) -> list[Trained]:
    """One network for each seed."""
    # A text of nothing that is left after normalising has no token to read.
    kept = [i for i, one in enumerate(ids) if len(one)]
    ids, y = [ids[i] for i in kept], y[kept]

    def make(seed: int) -> Trainer:
        return Trainer(ids, y, held, tokens, h, seed=seed, accelerator=accelerator, start=start)

    rows = torch.arange(len(ids))
    fitted = fit_seeds(make, rows, rows, h, settings, options, accelerator, seeds=seeds, title=title)
    return [Trained(one.seed, one.recipe.served(), one.history) for one in fitted]


def prepared(reviews: Reviews, h: Hyperparameters, first: First | None = None) -> Prepared:
    """With a tokenizer that is learnt on the training texts, or was before, without capitals: rt-polarity has none."""
    before = first.reviews.train.texts if first else ()
    tokenizer = first.tokenizer if first else subwords.train(reviews.train.texts, vocabulary=h.vocabulary, lower=True)
    parts = (reviews.train, reviews.held, reviews.test)
    train, held, test = (cut(tokenizer, part.texts, h) for part in parts)
    return Prepared(
        reviews=reviews,
        file=subwords.file_of(tokenizer, end=False),
        tokens=tokenizer.get_vocab_size(),
        words=list_of_words([*reviews.train.texts, *before]),
        first=first.reviews if first and first.reviews.name != reviews.name else None,
        first_s=first.seconds if first else 0.0,
        train=train,
        held=held,
        test=test,
    )


def cut(tokenizer: Tokenizer, texts: Sequence[str], h: Hyperparameters) -> list[NDArray[np.int64]]:
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
