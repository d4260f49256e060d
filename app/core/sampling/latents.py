"""Points of a latent space: samples of the prior, the path between two codes, a plane, steps along one axis.

Pure; latents are float32 (rows, Z), as decoders take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest.latent import Latent

Latents = NDArray[np.float32]

SPREAD_OF_98: Final = 2 * NormalDist().inv_cdf(0.99)
"""98 % of a normal distribution lie within that many of its standard deviations, 4.65."""
_PARALLEL: Final = 1e-6  # sine of the angle; below it there is no great circle, or no single one


def sample_prior(n: int, size: int, seed: int) -> Latents:
    """Latents from the standard normal prior: (n, size).

    The generator is NumPy's PCG64 (O'Neill 2014), seeded with `seed` alone, its normal numbers by the ziggurat method
    in float32. Rows are sampled one after another, so that row i of a seed is the same whatever `n` is.
    """
    return np.random.Generator(np.random.PCG64(seed)).standard_normal((n, size), dtype=np.float32)


def sample_labels(n: int, labels: int, seed: int) -> NDArray[np.int64]:
    """Indices 0 to labels - 1, all equally likely: (n,). They follow from the seed, as those of `sample_prior` do, and
    are independent of these and of the noise of samplers."""
    sequence = np.random.SeedSequence(seed, spawn_key=(0, 0))
    uniform = np.random.Generator(np.random.PCG64(sequence)).random(n)
    return (uniform * labels).astype(np.int64)


def between(a: Latents, b: Latents, frames: int, *, spherical: bool) -> Latents:
    """The path from `a` to `b`, each (Z,), both ends included: (frames, Z), in even steps.

    Args:
        spherical: along the great circle (Shoemake 1985). Samples of a normal prior of many dimensions have nearly the
            same length; the middle of a straight line between two of them is shorter than any sample. Where the two
            point in the same direction, in opposite ones or nowhere, the line is straight all the same.
    """
    start, end = a.astype(np.float64), b.astype(np.float64)
    t = np.linspace(0, 1, frames)[:, None]
    lengths = float(np.linalg.norm(start) * np.linalg.norm(end))
    cosine = float(np.clip(start @ end / lengths, -1, 1)) if spherical and lengths > 0 else 1.0
    angle = float(np.arccos(cosine))
    if np.sin(angle) < _PARALLEL:
        return ((1 - t) * start + t * end).astype(np.float32)
    path = (np.sin((1 - t) * angle) * start + np.sin(t * angle) * end) / np.sin(angle)
    return np.asarray(path, np.float32)


def plane(latent: Latent, side: int, dimensions: tuple[int, int]) -> Latents:
    """A square of latents, row by row from the upper left: (side * side, Z).

    The first dimension rises to the right and the second upwards, as axes do. With a normal prior the steps are its
    quantiles (k + 0.5) / side, so that each latent stands for the same share of samples (Kingma and Welling 2014,
    appendix A), and the other dimensions are 0. Without one the steps are even from `latent.low` to `latent.high`, and
    the others are in the middle between these.
    """
    low, high = np.array(latent.low), np.array(latent.high)
    across, up = dimensions
    if latent.prior == "normal":
        normal = NormalDist()
        steps = np.array([normal.inv_cdf((k + 0.5) / side) for k in range(side)])
        xs, ys, rest = steps, steps, np.zeros(latent.size)
    else:
        xs, ys = (np.linspace(low[i], high[i], side) for i in dimensions)
        rest = (low + high) / 2
    square = np.tile(rest, (side, side, 1))
    square[:, :, across] = xs
    square[:, :, up] = ys[::-1, None]
    return square.reshape(side * side, latent.size).astype(np.float32)


def spread(latent: Latent, dimension: int) -> float:
    """How far held-out rows lie apart along one dimension: the standard deviation of the normal distribution of which
    98 % lie between `latent.low` and `latent.high`."""
    return (latent.high[dimension] - latent.low[dimension]) / SPREAD_OF_98


def moved(rows: Latents, dimension: int, by: Sequence[float]) -> Latents:
    """Each row moved along one dimension, the others kept: (rows, len(by), Z)."""
    out = np.repeat(rows[:, None], len(by), axis=1)
    out[:, :, dimension] += np.asarray(by, np.float32)
    return out
