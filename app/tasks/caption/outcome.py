"""Captions as JSON, as plain text and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codecs.images import grids
from app.codecs.images.attention import attention_page
from app.core.decoding.writing import Hypothesis
from app.engine.model import Model
from app.web.writing import alternative, as_lists, finish, probability, writer_of, writing_of


@dataclass(frozen=True, slots=True)
class Word:
    """A word of one or more tokens: the product of their probabilities, the mean of their attention (rows, columns)."""

    text: str
    log_probability: float
    attention: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found for one picture.

    Attributes:
        pixels: uint8 (H, W, C), as the model saw it.
        hypotheses: best first.
        evidence: as `CaptionAnswer` says.
    """

    pixels: NDArray[np.uint8]
    hypotheses: Sequence[Hypothesis]
    evidence: float


def words_of(model: Model, one: Hypothesis) -> list[Word]:
    """Tokens joined to words: a new one begins where the text has a space."""
    grid = writing_of(model).grid
    assert grid is not None
    found: list[list[int]] = []
    pieces = writer_of(model).pieces(one.tokens)
    for i, piece in enumerate(pieces):
        begun = not found or "".join(pieces[k] for k in found[-1]).isspace()  # a space that is a token of its own
        if not found or (not begun and (piece[:1].isspace() or pieces[i - 1][-1:].isspace())):
            found.append([])
        found[-1].append(i)
    return [
        Word(
            "".join(pieces[i] for i in places).strip(),
            sum(one.log_probabilities[i] for i in places),
            np.mean([one.attention[i] for i in places], axis=0).reshape(grid),
        )
        for places in found
    ]


def text_of(model: Model, one: Hypothesis) -> str:
    """The caption."""
    return writer_of(model).decode(one.tokens)


def to_values(model: Model, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """CaptionAnswer as JSON values."""
    head = {"model": model.name, "version": model.version, "device": model.device}
    return {**head, "results": [_result(model, outcome) for outcome in outcomes]}


def _result(model: Model, outcome: Outcome) -> dict[str, Any]:
    best, *others = outcome.hypotheses
    return {
        "text": text_of(model, best),
        "log_probability": round(best.log_probability, 4),
        "finish": finish(best),
        "words": [
            {
                "text": word.text,
                "probability": probability(word.log_probability),
                "attention": as_lists(word.attention),
            }
            for word in words_of(model, best)
        ],
        "alternatives": [alternative(one, text_of(model, one)) for one in others],
        "evidence": round(outcome.evidence, 4),
    }


def page(model: Model, outcomes: Sequence[Outcome]) -> NDArray[np.uint8]:
    """Of each picture where the model looked for each word."""
    pages = []
    for outcome in outcomes:
        words = words_of(model, outcome.hypotheses[0])
        labels = [f"{word.text} {exp(word.log_probability):.2f}" for word in words]
        pages.append(attention_page(outcome.pixels, labels, np.array([word.attention for word in words])))
    return pages[0] if len(pages) == 1 else grids.grid(grids.framed(pages), 1, row_gap=grids.PAIR_GAP)
