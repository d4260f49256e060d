"""Text from a decoder that writes a token a step: greedy and beam search.

    Search    the hypotheses that live, the rows of their next step, and the finished ones, best first
    write     the search as a sampler: driven by the engine, its steps share runs with those of other requests
    rescore   the log probabilities that a memory gives to tokens which are known

A step's rows are one for each living hypothesis. Memories of texts are filled up with zeros to the next of a few sizes
(`padded`), so that requests of different length share runs; the graph masks what is behind `length`.

Log probabilities are compared after they were rounded to `DECIMALS`, and equal ones by the lower id: the
rounding of sums, which may differ with the rows in a run, then decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.core.errors import InferenceFailed
from app.core.manifest import Tensors
from app.core.sampling.samplers import Sampler

DECIMALS: Final = 4
LEAST_PLACES: Final = 32
"""Of a memory. Rows of which one is up to twice as long as the other share runs, so nearly all sentences do."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text that was written, or the beginning of one.

    Attributes:
        tokens: ids, without start and end.
        log_probabilities: of each token given those before it, and of the end where it is finished.
        attention: of each token, over the memory's places: (T, places).
        finished: whether the end was written; else it has as many tokens, or words, as there may be.
        log_probability: the sum of `log_probabilities`.
    """

    tokens: tuple[int, ...] = ()
    log_probabilities: tuple[float, ...] = ()
    attention: tuple[NDArray[Any], ...] = ()
    finished: bool = False
    log_probability: float = 0.0

    def score(self, penalty: float) -> float:
        """By which hypotheses are ranked: log p / length ** penalty, the end counted."""
        return float(self.log_probability / max(1, len(self.log_probabilities)) ** penalty)


def joined(parts: Sequence[Hypothesis], places: Sequence[int]) -> Hypothesis:
    """Texts that were written one after the other as one.

    Args:
        places: of the memory of each, also of those that are not written yet; attention is over all of them.

    Returns:
        Its log probability has all ends, of which the list has the last one alone.
    """
    if len(places) <= 1:
        return parts[0]
    attention, before = list[NDArray[Any]](), 0
    for one, own in zip(parts, places, strict=False):
        for weights in one.attention:
            attention.append(np.zeros(sum(places), weights.dtype))
            attention[-1][before : before + own] = weights
        before += own
    logs = [log for one in parts for log in one.log_probabilities[: len(one.tokens)]]
    return Hypothesis(
        tokens=tuple(token for one in parts for token in one.tokens),
        log_probabilities=(*logs, *parts[-1].log_probabilities[len(parts[-1].tokens) :]),
        attention=tuple(attention),
        finished=all(one.finished for one in parts),
        log_probability=sum(one.log_probability for one in parts),
    )


class _Ended(NamedTuple):
    """A hypothesis to which nothing is added.

    Attributes:
        whole: whether it was likely that it ends here; else there was no room for more tokens.
        score: by which it is ranked among those that are alike in this.
    """

    whole: bool
    score: float
    one: Hypothesis


class Search:
    """The likeliest texts, best first (beam search; greedy with a beam of 1).

    Args:
        memory: (1, places, D).
        states: the decoder's first ones, (1, ...) each; its outputs have them as `next_<name>`.
        length: places that are real; None where all are and the graph does not ask.
        start, end: ids.
        most: tokens at most, the end left out.
        beam: hypotheses that live at most.
        penalty: 0 ranks by probability, which favours short texts; 1 by the mean log probability of a token.
        fits: whether a text of these tokens is short enough. A token with which it is not ends its hypothesis as `end`
            does: it counts where hypotheses are ranked, but is no part of it.

    Attributes:
        living: hypotheses that may go on, best first; none when the search is over.
    """

    def __init__(
        self,
        memory: NDArray[Any],
        states: Tensors,
        *,
        length: int | None,
        start: int,
        end: int,
        most: int,
        beam: int = 1,
        penalty: float = 0.0,
        fits: Callable[[Sequence[int]], bool] | None = None,
    ) -> None:
        self.living: list[Hypothesis] = [Hypothesis()]
        self._memory = memory
        self._states: Mapping[str, NDArray[Any]] = states
        self._length = length
        self._places = memory.shape[1] if length is None else length
        self._start, self._end, self._most = start, end, most
        self._beam, self._penalty, self._fits = beam, penalty, fits
        self._ended: list[_Ended] = []

    def rows(self) -> dict[str, NDArray[Any]]:
        """The next step's inputs, a row for each living hypothesis."""
        living, memory = self.living, self._memory
        tokens = [one.tokens[-1] if one.tokens else self._start for one in living]
        rows = {"token": np.array(tokens, np.int64), "memory": memory}
        if len(living) > 1:
            rows["memory"] = np.broadcast_to(memory, (len(living), *memory.shape[1:]))
        if self._length is not None:
            rows["length"] = np.array([self._length] * len(living), np.int64)
        return {**rows, **self._states}

    def feed(self, outputs: Tensors) -> None:
        """The step's outputs, a row for each living hypothesis.

        Raises:
            InferenceFailed: log probabilities that are not numbers, or none above minus infinity.
        """
        candidates = []
        rows = zip(self.living, outputs["best"].tolist(), outputs["log_probabilities"].tolist(), strict=True)
        for i, (one, tokens, row) in enumerate(rows):
            if isnan(sum(row)):
                raise InferenceFailed("the decoder gave log probabilities that are not numbers")
            before = one.log_probability
            # A greedy search looks only at what may be the best once it is rounded.
            least = max(row) - 2 * 10**-DECIMALS if self._beam == 1 else -inf
            for token, exact in zip(tokens, row, strict=True):
                if exact >= least:
                    log_probability = round(exact, DECIMALS)
                    candidates.append((-(before + log_probability), token, i, log_probability))
        candidates.sort()
        if self._beam == 1:
            del candidates[1:]
        attention, parents, living = outputs["attention"], list[int](), list[Hypothesis]()
        full, ended, rank = len(self.living[0].tokens) == self._most, set[int](), -1
        for cost, token, i, log_probability in candidates:
            if cost == inf:
                break
            parent = self.living[i]
            finished = token == self._end
            whole = finished or (self._fits is not None and not self._fits((*parent.tokens, token)))
            if whole and i in ended:
                continue  # the same text once more
            rank += 1
            log_probabilities = (*parent.log_probabilities, log_probability)
            if whole:
                if rank < self._beam:
                    ended.add(i)
                    one = Hypothesis(parent.tokens, log_probabilities, parent.attention, True, -cost)
                    self._ended.append(_Ended(True, one.score(self._penalty), one if finished else parent))
            elif not full and len(living) < self._beam:
                seen = (*parent.attention, attention[i, : self._places].copy())
                living.append(Hypothesis((*parent.tokens, token), log_probabilities, seen, False, -cost))
                parents.append(i)
            if rank >= self._beam and len(living) == self._beam:
                break
        if not living and not self._ended and not full:
            raise InferenceFailed("the decoder gave no token a probability above 0")
        if full:
            left = [one for i, one in enumerate(self.living) if i not in ended]
            self._ended += [_Ended(False, one.score(self._penalty), one) for one in left]
        if self._is_over(living):
            living = []
        elif parents != [0] or len(self.living) > 1:
            self._states = {name: outputs[f"next_{name}"][parents] for name in self._states}
        else:
            self._states = {name: outputs[f"next_{name}"] for name in self._states}
        self.living = living

    def _is_over(self, living: Sequence[Hypothesis]) -> bool:
        """Whether none of these can become one of the best."""
        if not living or len(self._ended) < self._beam:
            return not living
        scores = sorted((ended.score for ended in self._ended if ended.whole), reverse=True)
        if len(scores) < self._beam:
            return False
        longest = (self._most + 1) ** self._penalty
        return self._beam == 1 or living[0].log_probability / longest <= scores[self._beam - 1]

    def hypotheses(self) -> list[Hypothesis]:
        """Those that ended, best first: at most as many as the beam, those without room for more tokens last."""
        ranked = sorted(self._ended, key=lambda ended: (not ended.whole, -ended.score, ended.one.tokens))
        return [ended.one for ended in ranked[: self._beam]]


def write(search: Search) -> Sampler:
    """The search to its end; its hypotheses are in it."""
    while search.living:
        search.feed((yield search.rows()))
    return {}


def rescore(memory: NDArray[Any], states: Tensors, tokens: Sequence[int], *, length: int | None, start: int) -> Sampler:
    """What the decoder gives to tokens that are known, the end among them if it is meant to count.

    Returns:
        {"log_probabilities": float64 (T,)}. Of a token that is not among the best of its step it is that of the last of
        them, which is more.
    """
    found, before = [], start
    for token in tokens:
        rows = {"token": np.array([before], np.int64), "memory": memory}
        rows |= {} if length is None else {"length": np.array([length], np.int64)}
        outputs = yield {**rows, **states}
        row = outputs["log_probabilities"][0]
        there = np.flatnonzero(outputs["best"][0] == token)
        found.append(float(row[there[0]] if there.size else row.min()))
        states, before = {name: outputs[f"next_{name}"] for name in states}, token
    return {"log_probabilities": np.array(found, np.float64)}


def padded(memory: NDArray[Any]) -> NDArray[Any]:
    """A memory (1, places, D), filled up with zeros to 32 places, or the next power of two."""
    places = memory.shape[1]
    size = max(LEAST_PLACES, 1 << (places - 1).bit_length())
    whole = np.zeros((1, size, memory.shape[2]), memory.dtype)
    whole[:, :places] = memory
    return whole
