"""CTC by enumeration: every path of a few steps, for known answers."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby, product
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray


def labelling(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """What is left after merging equal neighbours and removing blanks (Graves et al. 2006, equation 1)."""
    return tuple(label for label, _ in groupby(path) if label != blank)


def labellings(p: NDArray[Any]) -> dict[tuple[int, ...], float]:
    """The probability of every labelling: the sum over its paths. p is (T, V + 1), the blank last."""
    steps, outputs = p.shape
    sums: dict[tuple[int, ...], float] = defaultdict(float)
    for path in product(range(outputs), repeat=steps):
        sums[labelling(path, outputs - 1)] += float(np.prod([p[t, k] for t, k in enumerate(path)]))
    return sums


def random(seed: int, steps: int, labels: int, *, sharp: float = 2.0) -> NDArray[np.float32]:
    """Log probabilities (steps, labels + 1) of a net that is the surer, the higher `sharp` is."""
    z = np.random.default_rng(seed).normal(size=(steps, labels + 1)) * sharp
    z -= np.logaddexp.reduce(z, axis=1, keepdims=True)
    return z.astype(np.float32)


cases = st.builds(
    random,
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.integers(1, 3),
    sharp=st.sampled_from([0.1, 1.0, 3.0, 10.0]),
)
"""Few enough paths to enumerate them."""
recordings = st.builds(
    random,
    st.integers(0, 2**32 - 1),
    st.integers(0, 60),
    st.integers(1, 6),
    sharp=st.sampled_from([0.5, 2.0, 5.0, 15.0]),
)
