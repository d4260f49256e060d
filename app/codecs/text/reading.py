"""A text from a client as one row of a model's ids, within its limits."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from app.codecs.text.sentences import sentences_of
from app.codecs.text.tokenizer import Encoded, Tokenizer
from app.codecs.text.words import Word, plain, words_of
from app.core.errors import ClientError, invalid, over_limit
from app.core.manifest import Text

_SPACES: Final = "\t\n\r"


@dataclass(frozen=True, slots=True)
class Reading:
    """A text and its ids.

    Attributes:
        encoded: of the whole text.
        parts: of each row that the model reads: the text, or its sentences.
        words: all of them, in their order.
        unknown: those that the model has never seen.
    """

    text: str
    encoded: Encoded
    parts: list[Encoded]
    words: list[Word]
    unknown: list[Word]

    @property
    def unknown_words(self) -> list[str]:
        """Each once, in the order of the text."""
        return list(dict.fromkeys(word.text for word in self.unknown))

    @property
    def truncated(self) -> bool:
        """Whether the model does not see its end."""
        return self.encoded.count > len(self.encoded.ids)


class Reader:
    """How one model reads text.

    Args:
        declared: what its manifest says.
        tokenizer: the file that it names.
        known: the words of its training texts; None where there is no list of them.
    """

    def __init__(self, declared: Text, tokenizer: Tokenizer, known: frozenset[str] | None) -> None:
        self.declared = declared
        self.tokenizer = tokenizer
        self._known = known

    def read(self, text: str, subject: str, *, truncate: bool) -> Reading:
        """A text as ids, sentence by sentence where the model reads them so.

        Args:
            subject: the text's place in the request, for messages.
            truncate: leave out the end of a text with too many tokens, in place of refusing it.

        Raises:
            Unprocessable: there is nothing in it, or characters that are no text.
            TooLarge: more characters, or tokens, than the model takes.
        """
        check_characters(text, subject, most=self.declared.max_characters)
        most = self.declared.max_tokens
        spans = sentences_of(text) if self.declared.sentences else [(0, len(text))]
        parts = []
        for number, (begin, end) in enumerate(spans, 1):
            encoded = _moved(self.tokenizer.encode(text[begin:end], most), begin)
            if encoded.count > most and not truncate:
                where = f" in sentence {number}" if len(spans) > 1 else ""
                raise over_limit(subject, got=f"{encoded.count} tokens{where}", most=most, unit="tokens")
            # Characters that the tokenizer leaves out (zero-width ones) say nothing, whatever it adds at both ends.
            if any(start < end for start, end in encoded.offsets):
                parts.append(encoded)
        if not parts:
            raise _empty(subject, text)
        whole = parts[0] if len(parts) == 1 else _joined(parts)
        words = words_of(text)
        return Reading(text, whole, parts, words, self._unknown(words, whole))

    def _unknown(self, words: list[Word], encoded: Encoded) -> list[Word]:
        if self._known is not None:
            return [word for word in words if plain(word.text) not in self._known]
        spans = [
            span for span, token in zip(encoded.offsets, encoded.ids.tolist(), strict=True)
            if token == self.tokenizer.unknown and span[0] < span[1]
        ]  # fmt: skip
        found, at = [], 0
        for word in words:
            while at < len(spans) and spans[at][1] <= word.start:
                at += 1
            if at < len(spans) and spans[at][0] < word.end:
                found.append(word)
        return found


def _moved(encoded: Encoded, by: int) -> Encoded:
    """Of a part of a text that begins there."""
    return replace(encoded, offsets=[(begin + by, end + by) for begin, end in encoded.offsets]) if by else encoded


def _joined(parts: Sequence[Encoded]) -> Encoded:
    return Encoded(
        ids=np.concatenate([part.ids for part in parts]),
        tokens=[token for part in parts for token in part.tokens],
        offsets=[span for part in parts for span in part.offsets],
        count=sum(part.count for part in parts),
    )


def check_characters(text: str, subject: str, *, most: int) -> None:
    """Raises where a text is empty, too long, or holds what is no text: control characters and lone surrogates."""
    if len(text) > most:
        raise over_limit(subject, got=f"{len(text)} characters", most=most, unit="characters")
    if not text or text.isspace():
        raise _empty(subject, text)
    if text.isascii() and text.isprintable():
        return
    for at, character in enumerate(text):
        kind = unicodedata.category(character)
        if kind == "Cs" or (kind == "Cc" and character not in _SPACES):
            what = "a lone surrogate" if kind == "Cs" else "a control character"
            expected, got = "text: characters, spaces, tabs and line ends", f"{what}, U+{ord(character):04X}"
            detail = f"{subject}: character {at} is {got}, expected {expected}"
            raise invalid(f"{subject}[{at}]", expected=expected, got=got, detail=detail)


def _empty(subject: str, text: str) -> ClientError:
    got = "no text" if not text else f"{len(text)} characters that say nothing"
    return invalid(subject, expected="text", got=got, where=f"{subject}:", verb="has", rule="expected")
