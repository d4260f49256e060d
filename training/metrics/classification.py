"""How good a classifier is: pure functions on arrays, each with its protocol.

Shapes throughout: `probabilities` (N, K), rows that sum to one; `labels` (N,), integers in [0, K). N is at
least 1. Arithmetic is float64 whatever comes in. Every function raises `ValueError` on other shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

ECE_BINS: Final = 15
NLL_FLOOR: Final = 1e-12
TEMPERATURES: Final = (0.05, 20.0)


def accuracy(probabilities: Floats, labels: Integers) -> float:
    """Share of rows whose largest probability is at the true label; of equal ones the first counts."""
    p, y = _checked(probabilities, labels)
    return float((p.argmax(axis=1) == y).mean())


def negative_log_likelihood(probabilities: Floats, labels: Integers) -> float:
    """Mean of -ln p(true label), in nats. Probabilities are clipped to [1e-12, 1] and not normalised again."""
    p, y = _checked(probabilities, labels)
    return float(-np.log(p[np.arange(len(y)), y].clip(NLL_FLOOR, 1.0)).mean())


def brier_score(probabilities: Floats, labels: Integers) -> float:
    """Mean over rows of the squared distance to the one-hot truth, summed over classes: 0 to 2 (Brier 1950)."""
    p, y = _checked(probabilities, labels)
    p[np.arange(len(y)), y] -= 1.0
    return float((p**2).sum(axis=1).mean())


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of similar confidence (largest probability): its range, its mean, and how many of them were right."""

    low: float
    high: float
    confidence: float
    accuracy: float
    rows: int


def equal_mass_bins(probabilities: Floats, labels: Integers, *, bins: int = ECE_BINS) -> tuple[Bin, ...]:
    """Rows sorted by confidence and cut into `bins` runs whose sizes differ by at most one; least confident first.

    Rows of exactly equal confidence share their mean correctness, so that the order of rows changes nothing.
    Fewer rows than bins make one bin per row.
    """
    confidence, right = _confidence(probabilities, labels)
    order = np.argsort(confidence, kind="stable")
    confidence, right = confidence[order], right[order]
    _, group, size = np.unique(confidence, return_inverse=True, return_counts=True)
    right = (np.bincount(group, weights=right) / size)[group]
    parts = np.array_split(np.arange(len(right)), min(bins, len(right)))
    return tuple(
        Bin(float(c[0]), float(c[-1]), float(c.mean()), float(r.mean()), len(c))
        for c, r in ((confidence[part], right[part]) for part in parts)
    )


def equal_width_bins(probabilities: Floats, labels: Integers, *, bins: int = 10) -> tuple[Bin, ...]:
    """`bins` equal steps of confidence from 0 to 1, upper edge included; bins without rows are left out.

    For the eye: the unsure rows of an accurate model, which equal mass puts into one bin, are kept apart.
    """
    confidence, right = _confidence(probabilities, labels)
    index = np.ceil(confidence * bins).astype(np.int64).clip(1, bins) - 1
    found = []
    for b in np.unique(index):
        rows = index == b
        found.append(
            Bin(
                int(b) / bins,
                (int(b) + 1) / bins,
                float(confidence[rows].mean()),
                float(right[rows].mean()),
                int(rows.sum()),
            )
        )
    return tuple(found)


def expected_calibration_error(probabilities: Floats, labels: Integers, *, bins: int = ECE_BINS) -> float:
    """ECE: mean over rows of |accuracy - confidence| of the row's bin, in 15 bins of equal mass (a share, 0 to 1)."""
    found = equal_mass_bins(probabilities, labels, bins=bins)
    return sum(b.rows * abs(b.accuracy - b.confidence) for b in found) / sum(b.rows for b in found)


def confusion_matrix(probabilities: Floats, labels: Integers) -> NDArray[np.int64]:
    """(K, K) counts: row is the true label, column the given one."""
    p, y = _checked(probabilities, labels)
    k = p.shape[1]
    return np.bincount(y * k + p.argmax(axis=1), minlength=k * k).reshape(k, k).astype(np.int64)


def precision_recall(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per class, each (K,): right of those given the label, right of those that have it; NaN where there is none."""
    right = np.diag(confusion).astype(np.float64)
    given, true = confusion.sum(axis=0), confusion.sum(axis=1)
    nan = np.full(len(right), np.nan)
    return np.divide(right, given, out=nan.copy(), where=given > 0), np.divide(right, true, out=nan, where=true > 0)


def most_confident_mistakes(probabilities: Floats, labels: Integers, *, limit: int) -> NDArray[np.int64]:
    """Indices of at most `limit` wrongly answered rows, the largest probability of the wrong label first."""
    p, y = _checked(probabilities, labels)
    wrong = np.flatnonzero(p.argmax(axis=1) != y)
    return wrong[np.argsort(-p[wrong].max(axis=1), kind="stable")][:limit].astype(np.int64)


def wilson_interval(right: float, rows: int, *, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share of `rows` independent rows (Wilson 1927); holds where the share is 0 or 1."""
    share, zz = right / rows, z * z
    middle = (share + zz / (2 * rows)) / (1 + zz / rows)
    half = z / (1 + zz / rows) * math.sqrt(share * (1 - share) / rows + zz / (4 * rows * rows))
    return max(0.0, middle - half), min(1.0, middle + half)


def fit_temperature(logits: Floats, labels: Integers, *, tolerance: float = 1e-6) -> float:
    """The T in [0.05, 20] that minimises the NLL of softmax(logits / T) (Guo et al. 2017).

    Golden-section search in log T (Kiefer 1953): the NLL is convex in 1/T, so it has one valley in log T.
    Where every row is right it would fall for ever as T shrinks, though N rows cannot show that no row is ever wrong:
    then the target is 1 - 1/(N + 2) for the true label, the rest shared by the others (Platt 1999, section 2.2).
    """
    z, y = _checked(logits, labels)
    z -= z[np.arange(len(y)), y][:, None]
    rows, classes = z.shape
    all_right = ((z < 0).sum(axis=1) == classes - 1).all()
    others = 1 / ((rows + 2) * (classes - 1)) if all_right else 0.0  # the target of each label that is not the true one

    def nll(log_t: float) -> float:
        scaled = z / math.exp(log_t)  # the true label's is 0
        top = scaled.max(axis=1)
        loss = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - others * scaled.sum(axis=1)
        return float(loss.mean())

    ratio = (math.sqrt(5) - 1) / 2
    a, b = (math.log(t) for t in TEMPERATURES)
    c, d = b - ratio * (b - a), a + ratio * (b - a)
    at_c, at_d = nll(c), nll(d)
    while b - a > tolerance:
        if at_c < at_d:
            b, d, at_d = d, c, at_c
            c = b - ratio * (b - a)
            at_c = nll(c)
        else:
            a, c, at_c = c, d, at_d
            d = a + ratio * (b - a)
            at_d = nll(d)
    return math.exp((a + b) / 2)


def _checked(scores: Floats, labels: Integers) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Copies in float64 and int64, or `ValueError`."""
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise ValueError(f"scores: expected (N, K) with N >= 1 and K >= 2, got {scores.shape}")
    if labels.shape != scores.shape[:1]:
        raise ValueError(f"labels: expected {scores.shape[:1]}, one per row of scores, got {labels.shape}")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(f"labels: expected 0 to {scores.shape[1] - 1}, got {labels.min()} to {labels.max()}")
    return scores.astype(np.float64), labels.astype(np.int64)


def _confidence(probabilities: Floats, labels: Integers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest probability of each row, and 1.0 where it is at the true label; each (N,)."""
    p, y = _checked(probabilities, labels)
    return p.max(axis=1), (p.argmax(axis=1) == y).astype(np.float64)
