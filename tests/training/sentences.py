"""Tiny collections for tests: sentences of a grammar that has an exact translation, adjectives behind their noun."""

from __future__ import annotations

import gzip
from itertools import product
from pathlib import Path

import numpy as np

from training.data.parallel import Pairs, ParallelText

NOUNS = {"man": "homem", "dog": "cão", "boy": "menino", "bird": "pássaro", "horse": "cavalo"}
COLOURS = {"red": "vermelho", "white": "branco", "small": "pequeno", "": ""}
VERBS = {"sees": "vê", "follows": "segue", "hears": "ouve"}


def translations() -> list[tuple[str, str]]:
    """All 1,200 sentences and what they mean, in an order that is random and always the same."""
    found = []
    for (one, um), (colour, cor), (verb, verbo), (other, outro), (of, de) in product(
        NOUNS.items(), COLOURS.items(), VERBS.items(), NOUNS.items(), COLOURS.items()
    ):
        english = " ".join(filter(None, ("The", colour, one, verb, "the", of, other)))
        portuguese = " ".join(filter(None, ("O", um, cor, verbo, "o", outro, de)))
        found.append((f"{english}.", f"{portuguese}."))
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


def pairs(first: int, last: int, *, end: str = ".") -> Pairs:
    chosen = translations()[first:last]
    return Pairs(
        source=tuple(a.removesuffix(".") + end for a, _ in chosen),
        target=tuple(b.removesuffix(".") + end for _, b in chosen),
    )


def collections(*, train: int = 800) -> list[ParallelText]:
    """Two of them, as English and Portuguese have; the second's sentences are questions."""
    about = {"source": "en", "target": "pt", "origin": "made for a test", "licence": "none"}
    return [
        ParallelText(
            name="multi30k",
            title="Multi30k",
            train=pairs(0, train),
            held=pairs(800, 830),
            tests={"test_2016_flickr": pairs(830, 860)},
            **about,
        ),
        ParallelText(
            name="tatoeba-en-pt",
            title="Tatoeba",
            train=pairs(900, 960, end="?"),
            held=pairs(1000, 1010, end="?"),
            tests={"tatoeba": pairs(1010, 1030, end="?")},
            **about,
        ),
    ]


def write_lines(path: Path, lines: list[str]) -> None:
    """As the collections have them: gzip, UTF-8, a line feed behind each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
