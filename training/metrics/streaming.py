"""A published model that takes pieces and the states that the last piece left, run on whole rows as a server does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Graph, numpy_dtype

STATE: Final = "next_"
Run = Callable[[list[str], dict[str, NDArray[Any]]], Sequence[NDArray[Any]]]
"""Names of outputs and the inputs -> these outputs: a session's `run`."""


def run_in_pieces(run: Run, graph: Graph, rows: NDArray[Any]) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    """Feed rows (N, T, ...) piece by piece along axis 1, T a multiple of the piece's length.

    Returns:
        The first output, its pieces put together along axis 1; and each state after every piece, stacked on a new axis
        1: (N, pieces, ...).
    """
    piece, *states = graph.inputs
    length = piece.shape[1]
    assert isinstance(length, int)
    kept = {s.name: np.zeros((len(rows), *map(int, s.shape[1:])), numpy_dtype(s.dtype)) for s in states}
    outputs, seen = [], {name: [] for name in kept}  # type: ignore[var-annotated]
    for start in range(0, rows.shape[1], length):
        names = [graph.outputs[0].name, *(STATE + name for name in kept)]
        found = run(names, {piece.name: rows[:, start : start + length], **kept})
        outputs.append(found[0])
        for name, state in zip(list(kept), found[1:], strict=True):
            kept[name] = state
            seen[name].append(state)
    return np.concatenate(outputs, axis=1), {name: np.stack(all_, axis=1) for name, all_ in seen.items()}
