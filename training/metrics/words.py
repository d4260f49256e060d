"""Word errors: what was said against what was recognised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Pair = tuple[int | None, int | None]
"""Indices of a word that was said and of the word recognised for it; None where there is none."""


def alignment(said: Sequence[str], heard: Sequence[str]) -> list[Pair]:
    """The fewest substitutions, insertions and deletions between them (Levenshtein 1966), in order."""
    costs = np.zeros((len(said) + 1, len(heard) + 1), np.int64)
    costs[:, 0], costs[0] = np.arange(len(said) + 1), np.arange(len(heard) + 1)
    for i, word in enumerate(said, 1):
        for j, other in enumerate(heard, 1):
            costs[i, j] = min(costs[i - 1, j - 1] + (word != other), costs[i - 1, j] + 1, costs[i, j - 1] + 1)
    pairs: list[Pair] = []
    i, j = len(said), len(heard)
    while i or j:
        if i and j and costs[i, j] == costs[i - 1, j - 1] + (said[i - 1] != heard[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and costs[i, j] == costs[i - 1, j] + 1:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]


def errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """Substitutions, insertions and deletions, the fewest that there can be."""
    return sum(i is None or j is None or said[i] != heard[j] for i, j in alignment(said, heard))


def error_rate(said: Sequence[Sequence[str]], heard: Sequence[Sequence[str]]) -> float:
    """Word error rate: all errors over all words that were said."""
    total = sum(map(len, said))
    return sum(errors(a, b) for a, b in zip(said, heard, strict=True)) / max(1, total)
