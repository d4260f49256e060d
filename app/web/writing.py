"""Texts that a model writes: what tasks and protocols share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import exp
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.text.tokenizer import Tokenizer
from app.core.decoding.writing import Hypothesis, Search, joined, padded, write
from app.core.errors import TooLarge, invalid
from app.core.manifest import Tensors, Writing
from app.engine.model import STEP, Model
from app.engine.queue import OnStep
from app.web.call import Call
from app.web.request.media_types import EVENT_STREAM, JSON
from app.web.request.model_choice import check_within

ENCODER: Final = "encoder"
MOST_BEAM: Final = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request's texts are searched: hypotheses that are kept, and how many are answered with."""

    beam: int = 1
    n_best: int = 1


@dataclass(frozen=True, slots=True)
class Memory:
    """What the encoder made of one input: of a text filled up to one of a few sizes.

    Attributes:
        length: places that are real, where the step asks for it.
    """

    memory: NDArray[Any]
    states: Tensors
    length: int | None


@dataclass(slots=True)
class Progress:
    """A text that is being written.

    Attributes:
        search: of the part that is written now; there once it began.
        done: the parts before. places: of the memory of each part, where there are several.
        sent: tokens that were told.
    """

    search: Search | None = None
    done: list[Hypothesis] = field(default_factory=list)
    places: Sequence[int] = ()
    sent: int = 0


def plan(call: Call, model: Model, texts: int, *, subject: str) -> Plan:
    """What the options `beam` and `n_best` ask of a model for so many texts.

    Raises:
        Unprocessable: more than the model's best tokens of a step allow, more texts than hypotheses, or `n_best` in a
            form that has no room for them.
        TooLarge: more hypotheses of all texts together than rows in one request.
    """
    writing = writing_of(model)
    n_best = int(call.options.get("n_best", 1))
    usual = 1 if call.media_type == EVENT_STREAM else max(writing.beam, n_best)
    beam, most = int(call.options.get("beam", usual)), min(MOST_BEAM, writing.best)
    check_within("beam" if "beam" in call.options else "n_best", beam, 1, most, f" for model '{model.name}'")
    check_within("n_best", n_best, 1, beam, f": a beam of {beam} finds no more")
    if "n_best" in call.options and call.media_type not in (JSON, EVENT_STREAM):
        raise invalid(
            "n_best",
            expected=f"no n_best, or accept: {JSON}",
            got=f"n_best {n_best} with accept: {call.media_type}",
            detail=f"n_best lists alternatives in {JSON}; {call.media_type} has the best text alone",
        )
    if texts * beam > call.limits.max_rows:
        got, most = f"{texts} inputs with a beam of {beam}", call.limits.max_rows
        detail = f"the request has {got}, at most {most} hypotheses are searched at once"
        raise invalid(subject, expected=f"at most {most} hypotheses", got=got, detail=detail, error=TooLarge)
    return Plan(beam, n_best)


def writing_of(model: Model) -> Writing:
    """How a model that writes text does so."""
    assert model.manifest.writing is not None
    return model.manifest.writing


def writer_of(model: Model) -> Tokenizer:
    """The tokenizer of what it writes."""
    assert model.text_files.writer is not None
    return model.text_files.writer


async def encode(call: Call, row: Tensors) -> Memory:
    """One run of the encoder on one row.

    Raises:
        Busy, Unavailable, TooLate, InferenceFailed: as `Call.run`.
    """
    outputs = dict(await call.run(ENCODER, row))
    memory = outputs.pop("memory")
    if "length" not in row:
        return Memory(memory, outputs, None)
    return Memory(padded(memory), outputs, int(row["length"][0]))


async def search(
    call: Call,
    memory: Memory,
    beam: int,
    *,
    max_words: int | None = None,
    progress: Progress | None = None,
    on_step: OnStep | None = None,
) -> list[Hypothesis]:
    """The likeliest texts, best first, no two alike; each step shares its run with those of other requests.

    Args:
        max_words: where the search stops, if the model does not end the text before.

    Raises:
        Busy, Unavailable, TooLate, InferenceFailed: as `Call.sample`.
    """
    writing, tokenizer = writing_of(call.model), writer_of(call.model)
    searching = Search(
        memory.memory,
        memory.states,
        length=memory.length,
        start=writing.start,
        end=writing.end,
        most=writing.max_tokens,
        beam=beam,
        penalty=writing.penalty,
        fits=None if max_words is None else partial(_has_at_most, tokenizer, max_words),
    )
    if progress is not None:
        progress.search = searching
    await call.sample(STEP, write(searching), on_step)
    found = searching.hypotheses()
    if len(found) == 1:
        return found
    distinct: dict[str, Hypothesis] = {}
    for one in found:  # other tokens can be the same text
        distinct.setdefault(tokenizer.decode(one.tokens), one)
    return list(distinct.values())


def _has_at_most(tokenizer: Tokenizer, max_words: int, tokens: Sequence[int]) -> bool:
    """Whether tokens are so many words; behind a space the next one has begun."""
    text = tokenizer.decode(tokens)
    return len(text.split()) + text[-1:].isspace() <= max_words


def news(progress: Progress, tokenizer: Tokenizer, name: str) -> list[tuple[str, Any]]:
    """An event for each token that a greedy search has written since the last call, with what it adds to the text."""
    written = list(progress.done)
    if progress.search is not None:
        written += (progress.search.living or progress.search.hypotheses())[:1]
    if not written:
        return []
    best = joined(written, progress.places)
    pieces = tokenizer.pieces(best.tokens)
    new = range(progress.sent, len(pieces))
    progress.sent = max(progress.sent, len(pieces))
    return [
        (
            name,
            {
                "index": i,
                "text": pieces[i],
                "probability": probability(best.log_probabilities[i]),
                "attention": attention,
            },
        )
        for i, attention in zip(new, as_lists(best.attention[new.start :]), strict=True)
    ]


def probability(log_probability: float) -> float:
    """With seven decimals, what float32 holds near 1."""
    return round(min(1.0, exp(log_probability)), 7)


def as_lists(attention: Sequence[NDArray[Any]] | NDArray[Any]) -> list[list[float]]:
    """Of each token, over as many places. Four decimals: attention is for the eye."""
    found: list[list[float]] = np.round(np.array(attention, np.float64), 4).tolist()
    return found


def alternative(one: Hypothesis, text: str) -> dict[str, Any]:
    """One of those that were found beside the best."""
    return {"text": text, "log_probability": round(one.log_probability, 4), "finish": finish(one)}


def finish(one: Hypothesis) -> str:
    """Whether the model ended the text, or its most tokens or the request's most words did."""
    return "end" if one.finished else "length"
