"""Tiny sets of reviews for tests: a text is as good as its words, but "not" turns the next word round."""

from __future__ import annotations

from itertools import product

import numpy as np

from training.data.sentiment import NONE, Reviews, Texts

GOOD, BAD = ("good", "warm", "funny"), ("bad", "dull", "cold")
FILLED = ("a film", "it was", "the story", "and so on")


def texts() -> Texts:
    """All 144, in an order that is random and always the same."""
    found = []
    for before, word, behind, turned in product(FILLED, GOOD + BAD, FILLED[:3], (False, True)):
        text = f"{before} {'not ' if turned else ''}{word}, {behind}."
        found.append((text, (word in GOOD) != turned))
    order = np.random.default_rng(0).permutation(len(found))
    return Texts(texts=tuple(found[i][0] for i in order), y=np.array([int(found[i][1]) for i in order], dtype=np.int64))


def reviews(name: str = "sst2") -> Reviews:
    every = texts()
    return Reviews(
        name=name,
        title=f"{name} in small",
        train=every.at(range(100)),
        held=every.at(range(100, 120)),
        test=every.at(range(120, 144)),
        phrases=every.at(range(0, 100, 5)) if name == "sst2" else NONE,
        source="made for a test",
        licence="none",
    )
