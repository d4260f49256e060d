"""What was said in a recording: words with their times, and how sure they are. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Final

from app.core.decoding.tokens import Hypothesis, Token, calibrated
from app.core.manifest import Manifest, Transcription

DECIMALS: Final = 3  # of seconds


@dataclass(frozen=True, slots=True)
class Word:
    """One word, in seconds of the recording; its probability is calibrated where the model is."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a whole recording, and its share of those that were kept."""

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
    """The best reading of a recording word by word, and the best few readings, the first of which it is.

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
    words = [word for piece in pieces for word in words_of(piece.hypotheses[0].tokens, manifest, piece)]
    assert manifest.transcription is not None
    return Transcript(words, _readings(pieces, manifest.labels, n), duration_s, _doubted(words, manifest.transcription))


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


def _readings(pieces: Sequence[Piece], labels: Sequence[str], n: int) -> list[Reading]:
    """The `n` best of all ways to choose a hypothesis of each piece: pieces are independent."""
    best: list[tuple[float, tuple[str, ...]]] = [(0.0, ())]
    for piece in pieces:
        longer = (
            (log_probability + one.log_probability, (*texts, *(labels[t.label] for t in one.tokens)))
            for log_probability, texts in best
            for one in piece.hypotheses
        )
        best = heapq.nlargest(max(n, 1), longer, key=lambda one: one[0])
    return [Reading(" ".join(texts), min(1.0, exp(log_probability))) for log_probability, texts in best[:n]]


def _doubted(words: Sequence[Word], declared: Transcription) -> bool:
    return not words or sum([word.probability for word in words]) / len(words) < declared.doubt
