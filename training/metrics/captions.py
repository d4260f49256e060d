"""How near captions are to what people said of the same pictures: BLEU-4 and CIDEr-D, each with several references."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from training.metrics.translation import bleu_of_words

LONGEST: Final = 4  # words of an n-gram
SIGMA: Final = 6.0  # words: how much another length costs
TIMES: Final = 10.0
"""What CIDEr-D is multiplied by, by custom."""

NGram = tuple[str, ...]
Weights = Mapping[NGram, float]


def words(text: str) -> list[str]:
    """Small letters and digits; signs are left out, an apostrophe inside a word too."""
    return re.findall(r"[^\W_]+", text.lower().replace("'", ""))


def bleu_4(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Of `words`, the whole corpus at once, unsmoothed, the reference of the nearest length counts: 0 to 100.

    Args:
        references: one or more of each text; not all have equally many.
    """
    most = max(map(len, references))
    # The first again where there are fewer: a reference that is there twice counts once.
    streams = [[" ".join(words(own[i] if i < len(own) else own[0])) for own in references] for i in range(most)]
    return bleu_of_words([" ".join(words(text)) for text in written], streams)


def cider_d(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The mean of `cider_d_each`."""
    each = cider_d_each(written, references)
    return sum(each) / len(each)


def cider_d_each(written: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D (Vedantam, Zitnick, Parikh 2015, equations 1 to 6) of each text, of `words` without stemming.

    N-grams are weighed by how few pictures' references have them; of the text a weight counts no more than of the
    reference (equation 5), and another length costs. As in the authors' code, term frequencies are counts in place of
    the paper's shares, which changes nothing but that minimum.

    Args:
        references: one or more of each text.
    """
    counted = [[_counts(text) for text in own] for own in references]
    pictures = Counter(ngram for own in counted for ngram in {ngram for one in own for ngram in one})
    rare = {ngram: math.log(len(counted) / count) for ngram, count in pictures.items()}
    never = math.log(len(counted))  # of an n-gram in no reference
    found = []
    for text, own in zip(written, counted, strict=True):
        mine = _counts(text)
        likeness = [_likeness(mine, other, rare, never) for other in own]
        found.append(TIMES * sum(likeness) / len(likeness))
    return found


def _counts(text: str) -> Counter[NGram]:
    said = words(text)
    return Counter(tuple(said[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(said) - n + 1))


def _likeness(mine: Counter[NGram], other: Counter[NGram], rare: Weights, never: float) -> float:
    """The mean over lengths of n-grams, 0 to 1."""
    apart = sum(count for ngram, count in mine.items() if len(ngram) == 1)
    apart -= sum(count for ngram, count in other.items() if len(ngram) == 1)
    total = 0.0
    for n in range(1, LONGEST + 1):
        one, two = (_weights(counts, n, rare, never) for counts in (mine, other))
        norms = math.sqrt(sum(w * w for w in one.values()) * sum(w * w for w in two.values()))
        if norms:
            total += sum(min(w, two[ngram]) * two[ngram] for ngram, w in one.items() if ngram in two) / norms
    return total / LONGEST * math.exp(-(apart**2) / (2 * SIGMA**2))


def _weights(counts: Counter[NGram], n: int, rare: Weights, never: float) -> Weights:
    return {ngram: count * rare.get(ngram, never) for ngram, count in counts.items() if len(ngram) == n}
