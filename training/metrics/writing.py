"""Text written by a decoder, token by token, with the server's own search: many searches share a run of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.decoding.writing import Search

Arrays = Mapping[str, NDArray[Any]]
Step = Callable[[Arrays], Arrays]
"""One run of the graph `step`: its inputs by name to its outputs by name."""


def finish(searches: Sequence[Search], step: Step, *, rows: int) -> None:
    """All searches to their end, at most so many rows in a run (or one search's, where those are more)."""
    living = [search for search in searches if search.living]
    while living:
        group: list[Search] = []
        for search in living:
            if group and sum(len(one.living) for one in group) + len(search.living) > rows:
                _feed(group, step)
                group = []
            group.append(search)
        _feed(group, step)
        living = [search for search in living if search.living]


def _feed(group: Sequence[Search], step: Step) -> None:
    asked = [search.rows() for search in group]
    outputs = step(together(asked))
    at = 0
    for search, rows in zip(group, asked, strict=True):
        count = len(rows["token"])
        search.feed({name: array[at : at + count] for name, array in outputs.items()})
        at += count


def together(parts: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """Rows of several as one, memories filled up with zeros to the longest."""
    places = max(part["memory"].shape[1] for part in parts)
    return {
        name: np.concatenate([_filled(part[name], places) if name == "memory" else part[name] for part in parts])
        for name in parts[0]
    }


def _filled(memory: NDArray[Any], places: int) -> NDArray[Any]:
    return np.pad(memory, ((0, 0), (0, places - memory.shape[1]), (0, 0)))
