"""Sound in a manifest: how a recording becomes a graph's samples, and how a graph's outputs become words."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.core.manifest.part import ManifestPart


class Sound(ManifestPart):
    """One channel of float32 samples in [-1, 1]: channels are averaged, other rates resampled (soxr, quality HQ).

    Attributes:
        rate: samples a second.
        max_s: seconds of the longest row that the model was made for; a longer recording is cut at pauses.
    """

    rate: Annotated[int, Field(ge=1000, le=96_000)]
    max_s: Annotated[float, Field(gt=0, le=600)]


class Confidence(ManifestPart):
    """Platt's scaling (1999) of a word's probability, fitted on held-out words that were right or wrong:
    p' = 1 / (1 + exp(-(slope * log(p / (1 - p)) + intercept)))."""

    slope: Annotated[float, Field(gt=0)]
    intercept: float
    rows: Annotated[int, Field(ge=1)]  # words


class Transcription(ManifestPart):
    """Words from a graph with connectionist temporal classification (Graves et al. 2006): after the labels, which are
    words, its last output is the blank.

    Attributes:
        step_s: seconds from one output to the next.
        delay_s: how much later than the sound the outputs are, on average: times of words are set back by it.
        confidence: of words; None where their probabilities are the graph's own.
        doubt: below this mean probability of its words an answer is said to be noise.
        twin: the model that does the same piece by piece, where this one needs the whole recording.
    """

    step_s: Annotated[float, Field(gt=0, le=10)]
    delay_s: float = 0.0
    confidence: Confidence | None = None
    doubt: Annotated[float, Field(ge=0, le=1)] = 0.0
    twin: str | None = None
