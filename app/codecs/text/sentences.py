"""The sentences of a text, for models that read one at a time."""

from __future__ import annotations

import re
from typing import Final

# Marks that end a sentence, with quotes and brackets that close behind them; then space, and what may begin another.
# Or the end of a line. No run of marks or spaces is looked at twice.
_END: Final = re.compile(
    r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s++["'“‘«(\[¿¡–—-]*+\s?+[^\W_a-zß-öø-ÿ])|(?<![^\S\n])[^\S\n]*+\n++"""
)
_SHORT: Final = frozenset(
    ("mr", "mrs", "ms", "dr", "drs", "st", "prof", "sr", "jr", "sra", "dra", "vs", "etc", "no", "nr", "bzw", "ca")
)
"""Words whose full stop ends no sentence; nor does that of a single letter, as in "J. S. Bach"."""
_LAST_WORD: Final = re.compile(r"(\w+)\.$")
_LONGEST: Final = 8  # characters, with what stands before and behind


def sentences_of(text: str) -> list[tuple[int, int]]:
    """Where each begins and ends, without the space around it; all that is no space is in one of them."""
    found = []
    begin = 0
    for mark in _END.finditer(text):
        end = mark.end()
        if not mark[0].endswith("\n") and _is_short(text[max(begin, end - _LONGEST) : end]):
            continue
        found.append((begin, end))
        begin = end
    found.append((begin, len(text)))
    return [span for span in (_trimmed(text, *span) for span in found) if span[0] < span[1]]


def _is_short(text: str) -> bool:
    """Whether its last word is one whose full stop ends no sentence."""
    word = _LAST_WORD.search(text)
    return word is not None and ((len(word[1]) == 1 and word[1].isalpha()) or word[1].lower() in _SHORT)


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    part = text[begin:end]
    return begin + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())
