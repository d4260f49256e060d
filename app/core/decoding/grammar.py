"""Labels of frames by a sentence's grammar: the likeliest path through its places, and the segments of a path.

A grammar has places, and of each the labels that may stand there. A sentence has one label from each place, in order,
each for one frame or more; before, between and after them the background may stand for any number of frames. The
Viterbi algorithm (1967) finds the likeliest such path; frames are taken as independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from app.core.manifest.video import FrameLabels

_TINY: Final = 1e-30  # of a label that the net excludes: its log stays finite, so that there is always a likeliest path


@dataclass(frozen=True, slots=True)
class Path:
    """Of each frame its label, and the number of the label's place in the sentence; -1 where there is no place."""

    labels: NDArray[np.intp]  # (T,)
    places: NDArray[np.intp]  # (T,)


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring frames of one label: `start` to `end`, the latter left out, and its mean probability there."""

    label: int
    start: int
    end: int
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Grammar:
    """Places and background as indices of labels. No places: any label may stand in any frame."""

    places: tuple[tuple[int, ...], ...] = ()
    background: int | None = None

    @classmethod
    def of(cls, declared: FrameLabels, labels: Sequence[str]) -> Self:
        """The grammar that a manifest declares, among the model's labels."""
        index = {label: i for i, label in enumerate(labels)}
        return cls(
            tuple(tuple(index[label] for label in place) for place in declared.grammar),
            None if declared.background is None else index[declared.background],
        )

    def path(self, probabilities: NDArray[Any]) -> Path:
        """The likeliest path through the frames' probabilities (T, L).

        Where there are fewer frames than places no sentence fits; then, as without a grammar, each frame has its own
        likeliest label.
        """
        if not self.places or len(probabilities) < len(self.places):
            labels = np.asarray(probabilities).argmax(axis=1)
            return Path(labels, np.full(len(labels), -1))
        return self._viterbi(np.log(np.maximum(np.asarray(probabilities, np.float64), _TINY)))

    def _viterbi(self, logs: NDArray[np.float64]) -> Path:
        """States are in two arrays: the labels of each place (P, M), filled up to the longest place, and what may
        stand before each place and after the last (P + 1). A state's best last state is the same state, or one that
        may come before."""
        frames, places = len(logs), len(self.places)
        longest = max(map(len, self.places))
        label_of = np.array([[*place, *[0] * (longest - len(place))] for place in self.places])  # (P, M)
        there = np.array([np.arange(longest) < len(place) for place in self.places])
        emitted = np.where(there, logs[:, label_of], -np.inf)  # (T, P, M)
        background = -1 if self.background is None else self.background
        between = logs[:, background] if background >= 0 else np.full(frames, -np.inf)

        in_place = np.full((places, longest), -np.inf)
        in_place[0] = emitted[0, 0]
        outside = np.full(places + 1, -np.inf)
        outside[0] = between[0]
        stayed = np.empty((frames, places, longest), bool)  # in the same label, else it came from before the place
        waited = np.empty((frames, places + 1), bool)  # in the background, else it came from the place before
        direct = np.empty((frames, places), bool)  # before a place: its last frame was in the place before
        best = np.empty((frames, places), np.intp)  # of each place the likeliest label
        rows = np.arange(places)
        for t in range(1, frames):
            best[t] = in_place.argmax(axis=1)
            left = np.full(places + 1, -np.inf)
            left[1:] = in_place[rows, best[t]]  # out of the place before
            direct[t] = left[:-1] > outside[:-1]
            entered = np.where(direct[t], left[:-1], outside[:-1])[:, None]
            stayed[t] = in_place >= entered
            in_place = np.where(stayed[t], in_place, entered) + emitted[t]
            waited[t] = outside >= left
            outside = np.where(waited[t], outside, left) + between[t]

        # Back from the end: the last place, or the background behind it.
        path = Path(np.empty(frames, np.intp), np.empty(frames, np.intp))
        last = int(in_place[-1].argmax())
        inside = bool(in_place[-1, last] > outside[-1])
        place, at = (places - 1, last) if inside else (places, 0)
        for t in range(frames - 1, -1, -1):
            path.labels[t] = label_of[place, at] if inside else background
            path.places[t] = place if inside else -1
            if t == 0:
                break
            if inside and not stayed[t, place, at]:
                inside = bool(direct[t, place])
            elif not inside and not waited[t, place]:
                inside = True
            else:
                continue
            if inside:
                place -= 1
                at = int(best[t, place])
        return path


def segments(path: Path, probabilities: NDArray[Any], times: NDArray[Any], background: int | None) -> list[Segment]:
    """The runs of a path, the background's left out.

    Args:
        probabilities: of each frame and label, (T, L).
        times: seconds at which each frame begins, and at which the last one ends, (T + 1,).
    """
    frames = len(path.labels)
    if len(probabilities) != frames or len(times) != frames + 1:
        raise ValueError(
            f"{len(probabilities)} rows and {len(times)} times for {frames} frames, expected one time more"
        )
    if not frames:
        return []
    changes = (np.diff(path.labels) != 0) | (np.diff(path.places) != 0)
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), frames]
    found = []
    for start, end in pairwise(edges):
        label = int(path.labels[start])
        if label != background:
            mean = float(np.asarray(probabilities)[start:end, label].mean(dtype=np.float64))
            found.append(Segment(label, start, end, float(times[start]), float(times[end]), mean))
    return found
