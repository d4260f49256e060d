"""What captioners are trained on: photographs with five sentences each, or scenes with one in each language, as ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Generator, Tensor

from training.data import scenes
from training.data import tokenizer as subwords
from training.data.augment import reframe
from training.data.flickr8k import Captioned, Flickr8k
from training.data.scenes import LANGUAGES, NUMBERS, DigitScenes, Scene, Scenes
from training.families.captioner.network import SIDE
from training.networks.encoder_decoder import END, PADDING, START, UNKNOWN
from training.networks.pictures import pixels
from training.recipe import Batch

Ids = NDArray[np.int64]

MAX_TOKENS: Final = 24
"""Of a sentence, the end left out. Longer ones, one in fifty of photographs, are not trained on."""
RARE: Final = 0.01
USUAL: Final = 0.5
"""Shares of the pictures: tokens of fewer or more of them are not asked of the cells."""
TOKENIZER_SCENES: Final = 4000


@dataclass(frozen=True, kw_only=True)
class Lot:
    """One step's pictures and sentences, those of one picture following one another, equally many of each.

    x float32 (B, 3, SIDE, SIDE) in [0, 1]; `language` (N,) of N sentences; `before` and `after` (N, T), see `shifted`;
    `said` (B, words), 1 where one of the picture's sentences has the token of `Corpus.words`; `told` (B, words), if
    its sentences tell whether it should have.
    """

    x: Tensor
    language: Tensor
    before: Tensor
    after: Tensor
    said: Tensor
    told: Tensor


@dataclass(frozen=True, kw_only=True)
class Held:
    """Pictures uint8 (N, SIDE, SIDE, 3) to be measured on; of each its sentences' ids, and the languages of these."""

    pictures: Tensor
    sentences: Sequence[Sequence[Ids]]
    language: Tensor


class Corpus(Protocol):
    """What a trainer learns from.

    Attributes:
        words: ids of the tokens that the cells are asked for, (words,).
        languages: how many.
        held: by name.
        rows: of an epoch.
    """

    tokenizer: Tokenizer
    words: Tensor
    languages: int
    held: dict[str, Held]
    rows: int

    def lot(self, batch: Batch) -> Lot:
        """The pictures of a step, all randomness from the batch's generator."""
        ...


class Photos:
    """Photographs, each reframed anew.

    Args:
        reframing: the least share of a photograph's side that is seen.
        each: how many of a photograph's sentences are learnt from at a step, chosen anew.
    """

    languages = 1

    def __init__(self, data: Flickr8k, *, vocabulary: int, reframing: float, each: int) -> None:
        self.data, self.reframing, self.each = data, reframing, each
        texts = [text for own in data.train.sentences for text in own]
        self.tokenizer = subwords.train(texts, vocabulary=vocabulary)
        self.ids = ids_of(self.tokenizer, data.train.sentences)
        self.words = telling(self.ids)
        self.held = {"held": self.shown(data.held)}
        self.rows = len(data.train)

    def shown(self, part: Captioned) -> Held:
        sentences = ids_of(self.tokenizer, part.sentences)
        return Held(pictures=part.resized(SIDE), sentences=sentences, language=torch.zeros(1, dtype=torch.int64))

    def lot(self, batch: Batch) -> Lot:
        chosen = batch.index[batch.share]
        generator = _cpu(batch)
        x = reframe(pixels(self.data.train.pictures[chosen.cpu()]), generator, side=SIDE, least=self.reframing)
        sentences = [_some(self.ids[i], self.each, generator) for i in chosen.tolist()]
        return lot_of(x, sentences, torch.zeros(self.each, dtype=torch.int64), self.words)


class DigitCorpus:
    """Scenes that are made anew at every step, with a sentence in each language.

    Args:
        rows: scenes of an epoch.
        strength: of another handwriting; `unnamed`: share with colours that have no name: see `scenes.scenes`.
    """

    languages = len(LANGUAGES)

    def __init__(self, data: DigitScenes, *, vocabulary: int, rows: int, strength: float, unnamed: float) -> None:
        self.data, self.rows, self.strength, self.unnamed = data, rows, strength, unnamed
        x, y = data.digits.train_x, data.digits.train_y
        some = scenes.scenes(x, y, TOKENIZER_SCENES, Generator().manual_seed(4))
        said = _in_both(some)
        self.tokenizer = subwords.train([text for own in said for text in own], vocabulary=vocabulary)
        self.words = telling(ids_of(self.tokenizer, said))
        self.colours, self.numbers = (
            torch.isin(self.words, _pieces(self.tokenizer, names)) for names in (scenes.COLOUR_NAMES, NUMBERS)
        )
        self.space = self.tokenizer.token_to_id(subwords.SPACE) or PADDING
        self.held = {"held": self.shown(data.held)}

    def shown(self, part: Scenes) -> Held:
        sentences = ids_of(self.tokenizer, _in_both(part))
        return Held(pictures=part.pictures, sentences=sentences, language=torch.arange(self.languages))

    def lot(self, batch: Batch) -> Lot:
        digits = self.data.digits
        made = scenes.scenes(
            digits.train_x, digits.train_y, len(batch.x), _cpu(batch), strength=self.strength, unnamed=self.unnamed
        )
        x, said = pixels(made.pictures[batch.share]), _in_both(made)[batch.share]
        sentences = [[without_lone_spaces(ids, self.space) for ids in own] for own in ids_of(self.tokenizer, said)]
        told = ~torch.stack([self.open_words(scene) for scene in made.scenes[batch.share]])
        return lot_of(x, sentences, torch.arange(self.languages), self.words, told=told)

    def open_words(self, scene: Scene) -> Tensor:
        """(words,): names of colours, or of numbers, where things have none."""
        colours = any(one.colour is None for one in scene)
        numbers = any(one.digit is None for one in scene)
        return (self.colours & colours) | (self.numbers & numbers)


def lot_of(
    x: Tensor, sentences: Sequence[Sequence[Ids]], language: Tensor, words: Tensor, *, told: Tensor | None = None
) -> Lot:
    """Equally many sentences of each picture, in `language`'s order. What is unknown in them is not learnt."""
    flat = [ids for own in sentences for ids in own]
    before, after = shifted(flat)
    present = after.reshape(len(sentences), -1)
    said = (present[:, :, None] == words).any(1)
    told = torch.ones_like(said) if told is None else told
    learnt = after.where(after != UNKNOWN, PADDING)
    return Lot(x=x, language=language.repeat(len(sentences)), before=before, after=learnt, said=said.float(), told=told)


def shifted(sentences: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    """The start and what is written, and what is written and the end: (N, T) both, zeros behind."""
    size = 1 + max(map(len, sentences))
    before, after = np.full((2, len(sentences), size), PADDING, np.int64)
    for one, other, ids in zip(before, after, sentences, strict=True):
        one[0], one[1 : len(ids) + 1] = START, ids
        other[: len(ids)], other[len(ids)] = ids, END
    return torch.from_numpy(before), torch.from_numpy(after)


def without_lone_spaces(ids: Ids, space: int) -> Ids:
    """A word that is unknown is one token, as most of those are that are known, and not a space and what follows it."""
    behind = np.append(ids[1:], PADDING)
    kept: Ids = ids[(ids != space) | (behind != UNKNOWN)]
    return kept


def ids_of(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> list[list[Ids]]:
    """Of each picture; what is too long is left out, unless it is all that there is, which is cut."""
    flat = iter(subwords.encode(tokenizer, [text for own in sentences for text in own]))
    found = [[next(flat) for _ in own] for own in sentences]
    return [[ids for ids in own if len(ids) <= MAX_TOKENS] or [own[0][:MAX_TOKENS]] for own in found]


def telling(sentences: Sequence[Sequence[Ids]]) -> Tensor:
    """Ids of the tokens that neither nearly all nor nearly no pictures have, ascending."""
    often = Counter(token for own in sentences for token in {int(i) for ids in own for i in ids})
    low, high = RARE * len(sentences), USUAL * len(sentences)
    return torch.tensor(sorted(token for token, count in often.items() if low <= count <= high), dtype=torch.int64)


def _some(own: Sequence[Ids], count: int, generator: Generator) -> list[Ids]:
    """So many different sentences, at random; from the first again where there are fewer."""
    order = torch.randperm(len(own), generator=generator).tolist()
    return [own[order[i % len(own)]] for i in range(count)]


def _pieces(tokenizer: Tokenizer, names: Mapping[str, Sequence[str]]) -> Tensor:
    """Ids of the tokens that words inside a sentence are made of."""
    inside = [f"a {name}" for own in names.values() for name in own]
    return torch.tensor([int(i) for ids in subwords.encode(tokenizer, inside) for i in ids[1:]])


def _in_both(some: Scenes) -> list[tuple[str, ...]]:
    return list(zip(*(some.sentences(language) for language in LANGUAGES), strict=True))


def _cpu(batch: Batch) -> Generator:
    """Pictures are made on the CPU, whatever the device."""
    return Generator().manual_seed(batch.generator.initial_seed())
