"""What decoders make: tokens with their steps and how sure the net is of each."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest.sound import Confidence

REACH: Final = 2
"""Steps before and after a token's own in which the net may have meant it: CTC's spikes come a little early or late."""
_SCALED: Final = 8  # steps after which sums are scaled, so that those of long words do not fall below float64's range
_EDGE: Final = 1e-6  # float32 tells no probabilities nearer to 0 and 1; the log odds stay finite

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Token:
    """A label in steps `start` to `end`, the latter left out; `probability` as `posterior` says."""

    label: int
    start: int
    end: int
    probability: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Tokens in the order of time, and the log of the share that they have of all hypotheses in the beam."""

    tokens: list[Token]
    log_probability: float


@dataclass(frozen=True, slots=True)
class Partial:
    """The best tokens so far. The first `stable` of them no longer change, whatever follows."""

    tokens: list[Token]
    stable: int


class History:
    """The last rows of log probabilities, by the number of their step."""

    def __init__(self) -> None:
        self.end = 0  # steps heard
        self._begin = 0  # of the first row that is kept
        self._rows: list[Array] = []
        self._tokens: dict[tuple[int, ...], Token] = {}

    def add(self, row: Array) -> None:
        """One step: (V + 1)."""
        self._rows.append(row)
        self.end += 1

    def forget(self, before: int) -> None:
        """Drop the rows of the steps before."""
        if before > self._begin:
            del self._rows[: before - self._begin]
            self._begin = min(before, self.end)
            self._tokens.clear()

    def token(self, label: int, start: int, end: int, *, after: int, before: float = inf) -> Token:
        """The token, its probability from its own steps and `REACH` around them, from step `after` to `before` at
        most: its neighbours' are left out."""
        start = max(start, after)
        end = max(end, start + 1)
        begin, stop = max(start - REACH, after), int(min(end + REACH, before, self.end))
        of = label, start, end, begin, stop
        if of not in self._tokens:  # hypotheses share most tokens, and so do partial results
            rows = self._rows[begin - self._begin : stop - self._begin]
            self._tokens[of] = Token(label, start, end, posterior(rows, label))
        return self._tokens[of]


def posterior(log_probabilities: list[Array], label: int) -> float:
    """The probability of a word in a few steps, given that they hold one word or none.

    With connectionist temporal classification the steps are independent, so the probability that some steps hold
    exactly the word k is a sum over the paths blank* k+ blank*, by the forward recursion of Graves et al. 2006 over
    three states. That of k is divided by the sum of those of all words and of no word. It is exact where the words
    before and after are known, and it answers the question that matters: this word, another one, or none? (The largest
    probability of a step would be low for a spike that is spread over two steps; the product over the steps would be
    lower the longer the word is.)

    Args:
        log_probabilities: each (V + 1), the blank last.
    """
    p = np.minimum(np.exp(np.array(log_probabilities, np.float64)), 1.0)
    none = 1.0  # blanks alone
    during = after = np.zeros(p.shape[1] - 1)
    for step, (blank, labels) in enumerate(zip(p[:, -1].tolist(), p[:, :-1], strict=True), 1):
        after = (after + during) * blank
        during = (during + none) * labels
        none *= blank
        if step % _SCALED == 0 or step == len(p):
            total = none + float((during + after).sum())
            if not total > 0:  # nothing is possible, or not a number
                return 0.0
            none, during, after = none / total, during / total, after / total
    return min(1.0, float(during[label] + after[label]))


def log_odds(p: float) -> float:
    """log(p / (1 - p)), with p kept from 1e-6 to 1 - 1e-6: what `Confidence` is fitted on."""
    p = min(max(p, _EDGE), 1 - _EDGE)
    return log(p / (1 - p))


def calibrated(p: float, confidence: Confidence | None) -> float:
    """A word's probability, scaled as the manifest says; without a scale as it is."""
    if confidence is None:
        return p
    z = confidence.slope * log_odds(p) + confidence.intercept
    return 1 / (1 + exp(-z)) if z > -700 else 0.0  # where exp ends
