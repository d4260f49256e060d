"""New clips from the training clips, as lists of which frame of which clip stands where; the labels go with them.

A clip is spoken at another speed, and goes over into another one between two words, so that the six words come
together in ways that nobody said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from training.data.grid import Clip, first_frame

BEFORE: Final = (1, 9)  # frames of silence in front of the first word: fewest, most
SLOWEST, FASTEST = 0.85, 1.15  # speed of a changed clip
REPEATED: Final = 0.03  # share of frames that show the one before again


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Of each new frame the clip and the frame there: int64 (T,) each."""

    clip: NDArray[np.int64]
    frame: NDArray[np.int64]


def starts(clip: Clip, frames: int) -> list[int]:
    """The first frame of each word, and at last the number of frames: where a clip can go over into another."""
    return [*(first_frame(word.start) for word in clip.words), frames]


def plan(number: int, cuts: Sequence[Sequence[int]], length: int, *, crossing: float, rng: np.random.Generator) -> Plan:
    """`length` frames that begin with clip `number`.

    Args:
        cuts: of every clip its `starts`.
        crossing: at each word, how probably another clip goes on.
    """
    places = len(cuts[number]) - 1
    pieces: list[tuple[int, int, int]] = []  # clip, first frame, the frame after the last
    begin = max(0, cuts[number][0] - int(rng.integers(BEFORE[0], BEFORE[1] + 1)))
    now = number
    for place in range(places):
        if place and rng.random() < crossing:
            pieces.append((now, begin, cuts[now][place]))
            now = int(rng.integers(len(cuts)))
            begin = cuts[now][place]
    pieces.append((now, begin, cuts[now][places]))
    clip = np.concatenate([np.full(end - start, number) for number, start, end in pieces])
    frame = np.concatenate([np.arange(start, end) for _, start, end in pieces])
    at = np.arange(length) * rng.uniform(SLOWEST, FASTEST)
    at = at.round().astype(np.int64).clip(0, len(clip) - 1)  # the last frame stays on, as silence
    again = np.flatnonzero(rng.random(length) < REPEATED)
    at[again[again > 0]] = at[again[again > 0] - 1]
    return Plan(clip=clip[at], frame=frame[at])
