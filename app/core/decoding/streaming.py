"""Decoding while the sound is still coming: the greedy decoder, and the sampler that feeds a recording in pieces.

greedy    Greedy        the beam's counterpart is `Beam` in app/core/decoding/prefix_beam.py
sampler   stream        a whole recording or clip through a graph that takes pieces
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.decoding.prefix_beam import Beam
from app.core.decoding.tokens import REACH, History, Partial, Token
from app.core.manifest import Tensors
from app.core.sampling.samplers import Sampler

__all__ = ["Beam", "Greedy", "outputs_of", "stream"]


class Greedy:
    """The likeliest label of each step, equal neighbours merged and blanks left out; fed steps as they come.

    How they are divided into pieces does not matter. A token is stable when the steps around it are there.
    """

    def __init__(self) -> None:
        self._stable: list[Token] = []
        self._runs: list[tuple[int, int, int]] = []  # label, start, end; the last one may go on
        self._history = History()
        self._last = -1  # label of the last step

    def feed(self, log_probabilities: NDArray[Any]) -> Partial:
        """Steps (K, V + 1), the blank last; K may be 0."""
        rows = np.asarray(log_probabilities, np.float64)
        labels, blank, begin = rows.argmax(axis=1), rows.shape[1] - 1, self._history.end
        for row in rows:
            self._history.add(row)
        starts = np.flatnonzero(np.diff(labels, prepend=self._last)).tolist()
        if labels.size and self._last not in (-1, blank) and (not starts or starts[0] > 0):
            label, start, _ = self._runs.pop()
            self._runs.append((label, start, begin + (starts[0] if starts else len(rows))))
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=False):
            if labels[start] != blank:
                self._runs.append((int(labels[start]), begin + start, begin + end))
        self._last = int(labels[-1]) if labels.size else self._last
        tokens = self._tokens()
        complete = sum(end + REACH <= self._history.end for _, _, end in self._runs)
        self._stable = tokens[: len(self._stable) + complete]
        del self._runs[:complete]
        self._history.forget((self._runs[0][1] if self._runs else self._history.end) - REACH)
        return Partial(tokens, len(self._stable))

    def finish(self) -> list[Token]:
        """All tokens. `feed` may not be called again."""
        return self._tokens()

    def _tokens(self) -> list[Token]:
        tokens = list(self._stable)
        starts = [*(start for _, start, _ in self._runs[1:]), self._history.end]
        for (label, start, end), following in zip(self._runs, starts, strict=False):
            after = tokens[-1].end if tokens else 0
            tokens.append(self._history.token(label, start, end, after=after, before=following))
        return tokens


def outputs_of(samples: int, chunk: int, steps: int, flush: int = 0) -> int:
    """Outputs that belong to a recording: those of its samples, the last one perhaps of a part, and `flush` more.

    Args:
        chunk: samples of a piece.
        steps: outputs of a piece.
        flush: further outputs, for a net whose outputs come later than the sound.
    """
    return -(-samples * steps // chunk) + flush


def stream(
    whole: NDArray[Any],
    *,
    chunk: int,
    states: Tensors,
    flush: int = 0,
    into: str = "sound",
    out: str = "log_probabilities",
) -> Sampler:
    """A recording, or the frames of a clip, through a graph that takes pieces and the states that the last one left.

    The last piece is filled up with zeros, and pieces of zeros follow until all outputs are there.

    Args:
        whole: (N, ...): samples, or frames.
        chunk: of them a piece has.
        states: of one row, at the start; the graph's outputs have them as `next_<name>`.
        flush: outputs wanted behind the end: as many as the net is late.
        into, out: names of the graph's input and output.

    Returns:
        {out: (1, T, ...)}, T as `outputs_of` says.
    """
    got: list[NDArray[Any]] = []
    at, wanted, steps = 0, 1, 0
    while steps < wanted:
        piece = np.zeros((1, chunk, *whole.shape[1:]), whole.dtype)
        part = whole[at : at + chunk]
        piece[0, : len(part)] = part
        outputs = yield {into: piece, **states}
        states = {name: outputs[f"next_{name}"] for name in states}
        got.append(outputs[out])
        at, steps = at + chunk, steps + got[-1].shape[1]
        wanted = outputs_of(len(whole), chunk, got[-1].shape[1], flush)
    return {out: np.concatenate(got, axis=1)[:, :wanted]}
