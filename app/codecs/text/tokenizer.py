"""A tokenizer file of Hugging Face's `tokenizers`: text to ids, and ids to text.

Whatever is particular to a model (normalising, splitting, tokens at both ends, joining) stands in the file, so that
training and the server cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        if not ids:
            raise ValueError("its vocabulary is empty")
        self.size: int = max(ids.values()) + 1
        name = getattr(self._tokenizer.model, "unk_token", None)
        self.unknown: int | None = None if name is None else self._tokenizer.token_to_id(name)

    def encode(self, text: str, most: int | None = None) -> Encoded:
        """The ids of a text; the interpreter is free meanwhile.

        Args:
            text: no lone surrogates.
            most: ids that are kept, those at both ends among them: a longer text loses its last tokens.
        """
        found = self._tokenizer.encode(text)
        count = len(found.ids)
        ids, tokens, offsets = found.ids, found.tokens, found.offsets
        if most is not None and count > most:
            added = found.special_tokens_mask
            behind = next((i for i, mark in enumerate(reversed(added)) if not mark), 0)  # tokens added at the end
            keep = [*range(most - behind), *range(count - behind, count)]
            ids, tokens, offsets = ([values[i] for i in keep] for values in (ids, tokens, offsets))
        return Encoded(np.array(ids, np.int64), tokens, offsets, count)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without those that stand for no text."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """What each id adds to the text of those before it. Together they are the whole text, unless a token changes
        what stands before it."""
        found, before = [], ""
        for end in range(1, len(ids) + 1):
            text = self.decode(ids[:end])
            found.append(text[len(before) :] if text.startswith(before) else self.decode(ids[end - 1 : end]))
            before = text
        return found
