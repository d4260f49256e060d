"""Noise levels and times of samplers: everything that says at which levels a sampler evaluates its net. Pure.

    uniform  karras  cosine     falling to 0, as functions of the number of steps
    level  levels  levels_from  of a manifest's `sampling`: its listed levels (`ladder`), else `karras`
    resampling_steps            falling and rising again, for `inpaint`

A new schedule is a function here, and a branch in `level` and `levels_from` for the manifests that declare it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import atan, log, tan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest.sampling import Sampling

_JUST_ABOVE: Final = 1.0001


def uniform(steps: int, *, start: float = 1.0) -> list[float]:
    """Equal steps from `start` to 0: the times of a flow. (steps + 1)"""
    _check(steps, start)
    return [start * ((steps - k) / steps) for k in range(steps + 1)]


def karras(steps: int, *, start: float = 80.0, end: float = 0.002, rho: float = 7.0) -> list[float]:
    """Noise levels equally far apart in sigma^(1/rho) from `start` to `end`, then 0. (steps + 1)

    Karras et al. 2022, equation 5.

    Raises:
        ValueError: no step; or `start` is not above `end` where there are levels between them.
    """
    _check(steps, start)
    if steps > 1 and not 0 < end < start:
        raise ValueError(f"the noise levels run from {start} to {end}, expected start above end and both above 0")
    high, low = start ** (1 / rho), end ** (1 / rho)
    return [start, *((high + k / (steps - 1) * (low - high)) ** rho for k in range(1, steps)), 0.0]


def cosine(steps: int, *, start: float = 80.0) -> list[float]:
    """Noise levels sigma = tan(pi t / 2) with t equally far apart, the last one 0. (steps + 1)

    The cosine schedule (Nichol and Dhariwal 2021, arXiv:2102.09672), as a ratio of noise to signal.
    """
    _check(steps, start)
    top = atan(start)
    return [start, *(tan(top * (steps - k) / steps) for k in range(1, steps)), 0.0]


def resampling_steps(sigmas: Sequence[float], visits: int) -> list[float]:
    """Levels that rise again after each step, so that each step above 0 is taken `visits` times: for `ddim`.

    Resampling of RePaint, with a jump length of 1: Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1.
    """
    back = [level for pair in pairwise(sigmas[:-1]) for level in (pair[0], *(pair[1], pair[0]) * (visits - 1))]
    return [*back, *sigmas[-2:]]


def _check(steps: int, start: float) -> None:
    if steps < 1 or not start > 0:
        raise ValueError(f"{steps} steps from {start}, expected at least one step from above 0")


def level(declared: Sampling, strength: float) -> float:
    """The noise level from which that share of the steps is left: `sigma_min` at strength 0, `sigma_max` at 1."""
    if strength == 1:
        return declared.sigma_max
    if declared.ladder is not None:
        return float(_interpolated(declared.ladder, np.array([1 - strength]))[0])
    low, high = declared.sigma_min ** (1 / declared.rho), declared.sigma_max ** (1 / declared.rho)
    return float((low + strength * (high - low)) ** declared.rho)


def levels(declared: Sampling, steps: int, strength: float = 1.0) -> list[float]:
    """Noise levels, falling, the last one 0: (steps + 1,); at strength 0 only that 0, because nothing is generated.

    To start from a picture, `add_noise` to it at the first of these levels (SDEdit: Meng et al. 2022,
    arXiv:2108.01073).
    """
    return levels_from(declared, steps, level(declared, strength)) if strength > 0 else [0.0]


def levels_from(declared: Sampling, steps: int, sigma: float) -> list[float]:
    """Noise levels from `sigma`, falling, the last one 0: (steps + 1,).

    By `ancestral` from a picture with white noise of that level, these lead to samples of the posterior: all pictures
    that may lie under the noise, each as often as it is probable.
    """
    start = max(sigma, declared.sigma_min * _JUST_ABOVE)
    if declared.ladder is None:
        return karras(steps, start=start, end=declared.sigma_min, rho=declared.rho)
    logs = np.log(declared.ladder)
    done = np.interp(-log(start), -logs, np.linspace(0, 1, len(logs)))
    return [start, *_interpolated(declared.ladder, np.linspace(done, 1, steps)[1:]).tolist(), 0.0]


def _interpolated(listed: Sequence[float], done: NDArray[np.float64]) -> NDArray[np.float64]:
    """The levels after a share of the list, from 0 to 1; linear in the logarithm between two that are listed."""
    logs = np.log(listed)
    found: NDArray[np.float64] = np.exp(np.interp(done, np.linspace(0, 1, len(logs)), logs))
    return found
