"""The words of a text, and which of them a model has never seen."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_HYPHEN: Final = "\u00ad"  # a soft one: where a line may break, and not read
_PART: Final = rf"\w[\w\u0300-\u036f{_HYPHEN}]*"  # an accent may follow its letter as a character of its own
_WORD: Final = re.compile(rf"{_PART}(?:['\u2019-]{_PART})*")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and where it stands: characters `start` to `end` of the text, the latter left out."""

    text: str
    start: int
    end: int


def words_of(text: str) -> list[Word]:
    """Letters and digits with their accents, with apostrophes and hyphens between them."""
    return [Word(found[0], found.start(), found.end()) for found in _WORD.finditer(text)]


def plain(word: str) -> str:
    """A word as a list of words has it: composed, without capitals and soft hyphens, with a straight apostrophe."""
    return unicodedata.normalize("NFC", word.replace(_HYPHEN, "")).casefold().replace("\u2019", "'")


def list_of_words(texts: Iterable[str]) -> bytes:
    """The words of all texts, sorted, one a line: what `Text.words` of a manifest names."""
    words = sorted({plain(word.text) for text in texts for word in words_of(text)})
    return "".join(f"{word}\n" for word in words).encode()


def read_words(data: bytes) -> frozenset[str]:
    """What `list_of_words` wrote.

    Raises:
        ValueError: not UTF-8, or no words.
    """
    words = frozenset(data.decode().split("\n")) - {""}
    if not words:
        raise ValueError("there are no words in it")
    return words
