"""Words from a net with connectionist temporal classification (CTC): Graves et al. 2006.

Log probabilities are (T, V + 1): of each step the V labels, and the blank last. Both decoders also work piece by piece:
`app/core/decoding/streaming.py`.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from app.core.decoding.prefix_beam import LEAST, WIDTH, Beam
from app.core.decoding.streaming import Greedy
from app.core.decoding.tokens import Hypothesis, Token, calibrated, log_odds, posterior

__all__ = ["Hypothesis", "Token", "beam", "calibrated", "greedy", "log_odds", "posterior"]


def greedy(log_probabilities: NDArray[Any]) -> list[Token]:
    """The labels of the likeliest path, equal neighbours merged and blanks left out."""
    decoder = Greedy()
    decoder.feed(log_probabilities)
    return decoder.finish()


def beam(
    log_probabilities: NDArray[Any],
    *,
    width: int = WIDTH,
    n: int = 5,
    least: float = LEAST,
    settle: int | None = None,
) -> list[Hypothesis]:
    """The likeliest labellings that a prefix beam search finds, best first: see `Beam`."""
    decoder = Beam(width=width, n=n, least=least, settle=settle)
    decoder.feed(log_probabilities)
    return decoder.finish()
