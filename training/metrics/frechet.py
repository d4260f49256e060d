"""Distances between two sets of pictures, by features of them: Frechet distance, precision, recall, memorisation.

Pure functions. Features are (N, F) of any scale, one row a picture. N must be the same on both sides wherever figures
are compared: all of them depend on it. What the project's protocol makes of them is in `generated.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Numbers = NDArray[Any] | torch.Tensor

NEIGHBOURS: Final = 5
_ROWS: Final = 1000  # distances from that many rows at once: 40 MB to 10,000 others


def moments(features: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (F,) and covariance (F, F) of features (N, F), by the unbiased estimate, in float64.

    Raises `ValueError` for fewer than two rows.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features: expected (N, F) with at least 2 rows, got {features.shape}")
    x = features.astype(np.float64)
    mean = x.mean(axis=0)
    x -= mean
    return mean, x.T @ x / (len(x) - 1)


def frechet_distance(a: Floats, b: Floats) -> float:
    """The squared Frechet (2-Wasserstein) distance of the normal distributions fitted to two sets of features.

    |mean_a - mean_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), Dowson and Landau 1982, as Heusel et al. 2017
    (arXiv:1706.08500) use it. Both roots are taken through eigenvalues of symmetric matrices, so that a covariance of
    less than full rank (a feature that is always 0) is no special case.

    Args:
        a, b: (N, F) and (M, F).
    """
    return gaussian_distance(moments(a), moments(b))


def gaussian_distance(
    a: tuple[NDArray[np.float64], NDArray[np.float64]], b: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> float:
    """`frechet_distance` from means (F,) and covariances (F, F)."""
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ cov_b @ root).clip(0)
    distance = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(inner).sum()
    return max(0.0, float(distance))


def precision_recall(real: Floats, generated: Floats, *, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Precision: the share of generated rows among the real ones; recall: of real rows among the generated ones.

    A row is among others if it lies within the distance that one of them has to its `neighbours`-th nearest of its own
    set (Kynkaanniemi et al. 2019, arXiv:1904.06991, equations 1 and 2). Recall falls first where a model draws few
    kinds of pictures.

    Args:
        real, generated: (N, F) and (M, F).
    Raises:
        ValueError: a set has no more than `neighbours` rows.
    """
    for name, rows in (("real", real), ("generated", generated)):
        if len(rows) <= neighbours:
            raise ValueError(f"{name}: expected more than {neighbours} rows, got {len(rows)}")
    r, g = (torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (real, generated))
    r_radius, g_radius = (_radii(x, neighbours) for x in (r, g))
    precise = torch.cat([(far <= r_radius).any(dim=1) for far in _squared_distances(g, r)])
    recalled = torch.cat([(far <= g_radius).any(dim=1) for far in _squared_distances(r, g)])
    return float(precise.float().mean()), float(recalled.float().mean())


def nearest(queries: Numbers, others: Numbers, *, limit: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Euclidean distances to the `limit` nearest of `others`, nearest first, and their row numbers: each (N, limit).

    Args:
        queries, others: (N, ...) and (M, ...), flattened.
    """
    q, o = (torch.as_tensor(x).float().flatten(1) for x in (queries, others))
    found = [far.topk(limit, dim=1, largest=False) for far in _squared_distances(q, o)]
    index = torch.cat([f.indices for f in found])
    # From the differences themselves: of nearly equal rows the squared norms leave nothing but rounding.
    portions = zip(torch.split(q, _ROWS // 10), torch.split(index, _ROWS // 10), strict=True)
    exact = torch.cat([torch.linalg.vector_norm(o[i] - rows[:, None], dim=-1) for rows, i in portions])
    return exact.numpy(), index.numpy()


def memorisation(generated: Numbers, train: Numbers, test: Numbers) -> float:
    """The median distance to the nearest training picture over that to the nearest test picture: 1 where the model
    draws afresh, towards 0 where it copies.

    Args:
        generated, train, test: pictures (N, ...), (M, ...), (M, ...).
    Raises:
        ValueError: `train` and `test` are not equally many; the larger set would be the nearer one.
    """
    if len(train) != len(test):
        raise ValueError(f"train and test: expected equally many pictures, got {len(train)} and {len(test)}")
    return float(np.median(nearest(generated, train)[0]) / np.median(nearest(generated, test)[0]))


def _radii(x: torch.Tensor, neighbours: int) -> torch.Tensor:
    """Squared distance of each row to its `neighbours`-th nearest other row: (N,)."""
    return torch.cat([far.kthvalue(neighbours + 1, dim=1).values for far in _squared_distances(x, x)])


def _squared_distances(a: torch.Tensor, b: torch.Tensor) -> Iterator[torch.Tensor]:
    """(N, F) and (M, F) -> (up to _ROWS, M), portion after portion of a's rows."""
    centre = b.mean(dim=0)  # small norms lose little where they are subtracted
    a, b = a - centre, b - centre
    norms = b.square().sum(dim=1)
    for rows in torch.split(a, _ROWS):
        yield torch.addmm(norms, rows, b.T, alpha=-2).add_(rows.square().sum(dim=1, keepdim=True)).clamp_(min=0)
