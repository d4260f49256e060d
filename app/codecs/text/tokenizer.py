"""A tokenizer file of Hugging Face's `tokenizers`: text to ids, and ids to text.

Whatever is particular to a model (normalising, splitting, tokens at both ends, joining) stands in the file, so that
training and the server cannot differ.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SPECIAL_NAMES: Final = frozenset(
    bracketed
    for name in ("pad", "s", "/s", "bos", "eos", "start", "end", "cls", "sep", "mask")
    for bracketed in (f"<{name}>", f"[{name.upper()}]")
)
"""What special tokens are called, for files that have them in their vocabulary alone and mark none."""
_HALF: Final = "\ufffd"
"""What bytes that are no whole character are decoded to."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A text as token ids.

    Attributes:
        ids: int64 (T,), those that the tokenizer adds at both ends among them.
        tokens: each id as the tokenizer's own vocabulary writes it.
        offsets: of each token the characters of the text that it stands for, as start and end; equal where it was
            added.
        count: ids of the whole text; more than `ids` where it was cut.
    """

    ids: NDArray[np.int64]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    count: int


class Tokenizer:
    """One tokenizer file. Its methods may be called by several threads.

    A text never becomes a special token (padding, start, end): whoever spells one has written ordinary characters.

    Args:
        data: the file.

    Attributes:
        size: one above its highest id.
        unknown: the id of what it does not know; None where it knows all.

    Raises:
        ValueError: it is no tokenizer, or has no ids; the library's own words.
    """

    def __init__(self, data: bytes) -> None:
        import tokenizers  # 90 ms and 20 MB that a server without models of text does not spend

        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(str(error)) from error
        padding = self._tokenizer.padding
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # which means: as the text that they are
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        if not ids:
            raise ValueError("its vocabulary is empty")
        self.size: int = max(ids.values()) + 1
        name = getattr(self._tokenizer.model, "unk_token", None)
        self.unknown: int | None = None if name is None else self._tokenizer.token_to_id(name)
        if isinstance(self._tokenizer.model, tokenizers.models.Unigram):
            self.unknown = json.loads(data)["model"].get("unk_id")  # which the library does not tell
        self._unknown_token = "" if self.unknown is None else self._tokenizer.id_to_token(self.unknown)
        alone = self._tokenizer.encode("")
        self._special = frozenset(
            {id_ for id_, token in self._tokenizer.get_added_tokens_decoder().items() if token.special}
            | {id_ for id_, added in zip(alone.ids, alone.special_tokens_mask, strict=True) if added}
            | {ids[name] for name in SPECIAL_NAMES if name in ids}
            | ({padding["pad_id"]} if padding else set())
        ) - {self.unknown}

    def encode(self, text: str, most: int | None = None) -> Encoded:
        """The ids of a text; the interpreter is free meanwhile.

        Args:
            text: no lone surrogates.
            most: ids that are kept, those at both ends among them: a longer text loses its last tokens.
        """
        found = self._tokenizer.encode(text)
        ids, tokens, offsets, added = found.ids, found.tokens, found.offsets, found.special_tokens_mask
        keep = list(range(len(ids)))
        # A vocabulary in which whole words are looked up has its special tokens among them.
        if spelt := [i for i in keep if ids[i] in self._special and not added[i]]:
            if self.unknown is None:
                keep = sorted({*keep} - {*spelt})
            for i in spelt:
                ids[i] = self.unknown
                tokens[i] = self._unknown_token
        count = len(keep)
        if most is not None and count > most:
            behind = next((i for i, place in enumerate(reversed(keep)) if not added[place]), 0)  # added at the end
            keep = [*keep[: max(most - behind, 0)], *keep[count - behind :]]
        offsets = _with_joined(text, offsets)
        if len(keep) < len(ids):
            ids, tokens, offsets = ([values[i] for i in keep] for values in (ids, tokens, offsets))
        return Encoded(np.array(ids, np.int64), tokens, offsets, count)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without those that stand for no text."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each id adds to the text of those before it. Together they are the whole text, unless a token changes
        what stands before it. Of a character of several tokens the last one adds it, the others nothing."""
        found, before = [], ""
        for end in range(1, len(ids) + 1):
            text = self.decode(ids[:end])
            if text.endswith(_HALF) and end < len(ids):  # its other bytes may follow
                found.append("")
                continue
            found.append(text[len(before) :] if text.startswith(before) else self.decode(ids[end - 1 : end]))
            before = text
        return found


def _with_joined(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of tokens, with the accents, vowels and signs that belong to their last character: of characters that a
    normaliser joined, the library names the first alone."""
    if text.isascii():
        return list(offsets)
    found = []
    for begin, end in offsets:
        if begin < end:
            while end < len(text) and _is_part(text[end]):
                end += 1
        found.append((begin, end))
    return found


def _is_part(character: str) -> bool:
    """Whether a character is written as a part of the one before it: a combining mark, or a Hangul vowel or ending."""
    return unicodedata.category(character)[0] == "M" or "\u1160" <= character <= "\u11ff"
