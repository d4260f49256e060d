"""Where to cut a long recording into pieces that a model takes: where it is quietest."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FRAME_S: Final = 0.02
_AROUND: Final = 10  # frames on each side of a cut whose energy counts, the nearest most: so it is mid-pause


def cut(sound: NDArray[Any], *, rate: int, max_s: float) -> list[tuple[int, int]]:
    """Pieces of at most `max_s` that cover a recording without overlap, each (begin, end) in samples, the end left out.

    Each cut is in the last third of the longest piece possible, so that no piece but the only one is shorter than a
    third. There it is the edge of 20 ms frames with the least energy around, weighted by a triangle of 200 ms on each
    side; of equal ones the middle one. Linear in the recording's length.

    Args:
        sound: (N,), mono, finite.
        rate: samples a second.
    """
    most = int(max_s * rate)
    if most < 3:
        raise ValueError(f"max_s {max_s}: {most} samples at a rate of {rate}, expected 3 at least")
    if len(sound) <= most:
        return [(0, len(sound))]
    frame = max(1, min(round(FRAME_S * rate), most // 3))
    frames = np.asarray(sound)[: len(sound) // frame * frame].reshape(-1, frame)
    energy = np.einsum("tn,tn->t", frames, frames)
    longest = most // frame  # frames of a piece
    third = longest // 3
    around = min(_AROUND, third)
    weights = np.arange(1.0, around + 1)
    weights = np.concatenate([weights, weights[::-1]])
    pieces, begin = [], 0  # in frames
    while len(sound) - begin * frame > most:
        # Where little is left, the cut is earlier, so that what follows is a third as well.
        high = begin + min(longest, len(energy) - begin - third)
        low = high - third
        near = np.convolve(energy[low - around : high + around], weights, "valid")  # of edges low to high
        quietest = np.flatnonzero(near == near.min())
        edge = low + int(quietest[len(quietest) // 2])
        pieces.append((begin * frame, edge * frame))
        begin = edge
    return [*pieces, (begin * frame, len(sound))]
