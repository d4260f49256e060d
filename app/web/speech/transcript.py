"""What was said in a recording: words with their times, and how sure they are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf
from typing import Final

import numpy as np

from app.core.decoding.tokens import Hypothesis, Token, calibrated
from app.core.manifest import Manifest, Transcription

DECIMALS: Final = 3  # of seconds
KEPT: Final = 16
"""Hypotheses of a piece, and texts of several, of which a recording's readings are made. How many readings are asked
for changes none of them."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word, in seconds of the recording; its probability is calibrated where the model is."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One text of a whole recording, and its share of those that were kept."""

    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a recording from `begin_s` to `end_s`, and its hypotheses, best first."""

    hypotheses: Sequence[Hypothesis]
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """The best reading of a recording word by word, and the best few readings, all different, the first of which it is.

    Attributes:
        noise: no word, or words of low probability: nobody spoke, or what was said is outside of the vocabulary.
    """

    words: list[Word]
    readings: list[Reading]
    duration_s: float
    noise: bool

    @property
    def text(self) -> str:
        return " ".join([word.text for word in self.words])


def transcript(pieces: Sequence[Piece], manifest: Manifest, *, duration_s: float, n: int) -> Transcript:
    """Of pieces in their order, which do not overlap.

    Args:
        n: readings, at most.
    """
    found = _texts(pieces, manifest.labels)
    chosen = zip(pieces, found[0].hypotheses, strict=True)
    words = [word for piece, one in chosen for word in words_of(one.tokens, manifest, piece)]
    assert manifest.transcription is not None
    readings = [Reading(" ".join(one.words), min(1.0, exp(one.log_probability))) for one in found[:n]]
    return Transcript(words, readings, duration_s, _doubted(words, manifest.transcription))


def words_of(tokens: Sequence[Token], manifest: Manifest, piece: Piece) -> list[Word]:
    """Tokens as words, with times inside of their piece."""
    declared, labels = manifest.transcription, manifest.labels
    assert declared is not None

    def seconds(step: int) -> float:
        time_s = piece.begin_s + step * declared.step_s - declared.delay_s
        return round(min(max(time_s, piece.begin_s), piece.end_s), DECIMALS)

    return [
        Word(labels[t.label], seconds(t.start), seconds(t.end), calibrated(t.probability, declared.confidence))
        for t in tokens
    ]


@dataclass(slots=True)
class _Text:
    """A text, and the ways to read it.

    Attributes:
        log_probability: of all of them together.
        best: of the likeliest.
        hypotheses: one of each piece, of the likeliest.
    """

    words: tuple[str, ...]
    log_probability: float = -inf
    best: float = -inf
    hypotheses: tuple[Hypothesis, ...] = ()

    def add(self, log_probability: float, best: float, hypotheses: tuple[Hypothesis, ...]) -> None:
        self.log_probability = float(np.logaddexp(self.log_probability, log_probability))
        if best > self.best:
            self.best, self.hypotheses = best, hypotheses


def _texts(pieces: Sequence[Piece], labels: Sequence[str]) -> list[_Text]:
    """The likeliest texts, best first. Pieces are independent; one text may be that of many of their combinations:
    a word in the first or in the second, in the other none."""
    kept = [_Text((), 0.0, 0.0)]
    for piece in pieces:
        longer: dict[tuple[str, ...], _Text] = {}
        for one in piece.hypotheses:
            further = tuple(labels[token.label] for token in one.tokens)
            for text in kept:
                words = (*text.words, *further)
                found = longer.setdefault(words, _Text(words))
                found.add(
                    text.log_probability + one.log_probability,
                    text.best + one.log_probability,
                    (*text.hypotheses, one),
                )
        kept = sorted(longer.values(), key=lambda text: -text.log_probability)[:KEPT]
    return kept


def _doubted(words: Sequence[Word], declared: Transcription) -> bool:
    return not words or sum([word.probability for word in words]) / len(words) < declared.doubt
