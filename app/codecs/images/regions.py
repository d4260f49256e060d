"""Connected regions of a mask (8 neighbours), by runs and union-find: numpy finds the runs, Python joins them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions 1 to N; entry 0 of each array is what is outside all of them.

    Attributes:
        labels: (H, W) int32, which region each pixel belongs to.
        area: (N + 1,) pixels.
        longest_contact: (N + 1,) the greatest share of one side of the picture that the region covers.
        boxes: (N + 1, 4) top, left, bottom and right; entry 0 is empty.
    """

    labels: NDArray[np.int32]
    area: NDArray[np.int64]
    longest_contact: NDArray[np.float64]
    boxes: NDArray[np.int64]


def find_regions(mask: NDArray[np.bool_]) -> Regions:
    """The connected regions of a mask (H, W)."""
    h, w = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(edges == 1)
    stop = np.nonzero(edges == -1)[1]
    names = _joined(row.tolist(), start.tolist(), stop.tolist(), h)
    lengths = stop - start
    labels = np.zeros(h * w, np.int32)
    first = row * w + start
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    labels[np.repeat(first, lengths) + within] = np.repeat(names, lengths)
    labels = labels.reshape(h, w)
    count = int(names.max(initial=0)) + 1
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    contact = np.max([np.bincount(side, minlength=count) / len(side) for side in sides], axis=0)
    area = np.bincount(names, lengths, count).astype(np.int64)
    area[0] = h * w - area.sum()
    return Regions(labels, area, contact, _boxes(names, row, start, stop, count))


def _boxes(
    names: NDArray[np.int32], row: NDArray[np.intp], start: NDArray[np.intp], stop: NDArray[np.intp], count: int
) -> NDArray[np.int64]:
    boxes = np.zeros((count, 4), np.int64)
    if len(names):
        order = np.argsort(names, kind="stable")
        first = np.searchsorted(names[order], np.arange(1, count))
        for column, (choose, values) in enumerate(
            ((np.minimum, row), (np.minimum, start), (np.maximum, row + 1), (np.maximum, stop))
        ):
            boxes[1:, column] = choose.reduceat(values[order], first)
    return boxes


def _joined(row: list[int], start: list[int], stop: list[int], height: int) -> NDArray[np.int32]:
    """The region of each run, numbered from 1; runs are in reading order."""
    parent = list(range(len(row)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    above = 0
    for run in range(len(row)):
        while row[above] < row[run] - 1:
            above += 1
        other = above
        while row[other] < row[run] and start[other] <= stop[run]:
            if stop[other] >= start[run]:  # touching corners count
                parent[root(run)] = root(other)
            other += 1
        # Runs above that end before this one begins touch none to the right of it either.
        while row[above] < row[run] and stop[above] < start[run]:
            above += 1
    roots = np.array([root(run) for run in range(len(row))], dtype=np.int64)
    return (np.unique(roots, return_inverse=True)[1] + 1).astype(np.int32)
