"""Rows of similar length together: a batch that is filled up to its longest row then has few zeros."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

POOL: Final = 40
"""Batches that are cut from as many rows, in the order of their length."""


def deal(lengths: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """One epoch: (batches, batch_size) row numbers, each row in one batch at most, otherwise at random.

    The same seed and epoch give the same batches. The rest of the rows waits for another epoch's shuffle; of fewer rows
    than a batch has there is one batch, of all of them.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(lengths))
    size = min(batch_size, len(lengths))
    batches = []
    for begin in range(0, len(order), POOL * size):
        pool = order[begin : begin + POOL * size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches.append(pool[: len(pool) // size * size].reshape(-1, size))
    dealt = np.concatenate(batches)
    return dealt[rng.permutation(len(dealt))]
