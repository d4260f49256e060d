"""What a translator is trained on: sentence pairs of one or two collections, the tokenizers learnt on them, ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from training.data import tokenizer as subwords
from training.data.parallel import Pairs, ParallelText, joined, multi30k, tatoeba

Collections = Sequence[ParallelText]
"""In one direction, the one of the headline first."""
Ids = list[NDArray[np.int64]]

PAIRS: Final[dict[str, Callable[[], Collections]]] = {
    "de-en": lambda: [multi30k("de", "en")],
    # Of captions alone it learns that everything is a man in a red shirt.
    "en-pt": lambda: [multi30k("en", "pt"), tatoeba("en", "pt")],
}
MAX_TOKENS: Final = 96
"""Of a sentence that is read, and of one that is written; the end is one of them. None of Multi30k is longer."""


@dataclass(frozen=True, kw_only=True)
class Tokenizers:
    """Of what is read, whose rows end in the end token, and of what is written, whose rows do not."""

    read: Tokenizer
    written: Tokenizer


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Sentences as ids: `read` ends in the end token, `written` has neither start nor end."""

    read: Ids
    written: Ids

    def __len__(self) -> int:
        return len(self.read)


def train_pairs(collections: Collections, everyday_times: int) -> Pairs:
    """The first collection, and the others so many times."""
    first, *others = collections
    return joined([first.train, *(one.train for one in others for _ in range(everyday_times))])


def learn(collections: Collections, vocabulary: int) -> Tokenizers:
    """Tokenizers of all training sentences, each once."""
    pairs = train_pairs(collections, 1)
    read, written = (subwords.train(texts, vocabulary=vocabulary) for texts in (pairs.source, pairs.target))
    return Tokenizers(read=Tokenizer.from_str(subwords.file_of(read, end=True)), written=written)


def rows_of(pairs: Pairs, tokenizers: Tokenizers) -> Rows:
    """Those with something on both sides that is short enough."""
    read = subwords.encode(tokenizers.read, pairs.source)
    written = subwords.encode(tokenizers.written, pairs.target)
    fits = [i for i, (a, b) in enumerate(zip(read, written, strict=True)) if _fits(a) and _fits(b) and len(a) > 1]
    return Rows(read=[read[i] for i in fits], written=[written[i] for i in fits])


def _fits(ids: NDArray[np.int64]) -> bool:
    return 0 < len(ids) < MAX_TOKENS
