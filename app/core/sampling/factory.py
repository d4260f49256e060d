"""Samplers as a manifest names them, with the noise of a seed and with guidance; and pictures under noise.

The server samples with these and training measures with them, so that the figures are of what is served. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, pairwise
from math import sqrt
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.core.manifest.sampling import SamplerName
from app.core.sampling.samplers import SAMPLERS, Steps

X = TypeVar("X", bound=Any)
Array = NDArray[np.float32]


def noises(n: int, shape: tuple[int, ...], seed: int) -> Iterator[Array]:
    """Standard normal noise without end, (n, *shape) each. Row i of a seed is the same whatever `n` is: every array has
    a generator of its own, which samples one row after another."""
    for k in count():
        sequence = np.random.SeedSequence(seed, spawn_key=(k,))
        yield np.random.Generator(np.random.PCG64(sequence)).standard_normal((n, *shape), dtype=np.float32)


def make_sampler(name: SamplerName, x: X, sigmas: Sequence[float], noise: Iterator[X]) -> Steps[X]:
    """The sampler of that name, from x at the first of the levels."""
    return SAMPLERS[name](x, sigmas, noise)


def guided(steps: Steps[X], weight: float, *, join: Callable[[list[Any]], Any] = np.concatenate) -> Steps[X]:
    """A sampler of denoisers with every row twice: rows (n, ...) become (2 n, ...), first with labels, then without.

    With weight 1 it is `steps` itself, with every row once.

    Classifier-free guidance: Ho and Salimans 2022, arXiv:2207.12598. Where D is linear in x, as for Gaussian data, each
    level has the conditional distribution to the power of the weight times the unconditional one to 1 - weight. That is
    no distribution of x0 with noise: weights above 1 depart from the data's distribution.

    Args:
        join: rows one after another; `torch.cat` for tensors.
    """
    if weight == 1:
        return steps
    return _twice(steps, weight, join)


def combine_guidance(both: X, weight: float) -> X:
    """Outputs with the label (n, ...), then as many without: the guided ones, D + weight (D(label) - D)."""
    n = len(both) // 2
    labelled, plain = both[:n], both[n:]
    guided_outputs: X = plain + weight * (labelled - plain)
    return guided_outputs


def add_noise(known: X, sigma: float, noise: X) -> X:
    """A picture under noise of that level: x = x0 + sigma * noise."""
    x: X = known + sigma * noise
    return x


def forward(known: X, sigmas: Sequence[float], noise: Iterator[X]) -> list[X]:
    """The forward process: the picture at each of the rising levels, noise added to noise.

    q(x' | x) = N(x, sigma'^2 - sigma^2), so that each is distributed as `add_noise` (Ho et al. 2020, arXiv:2006.11239,
    equations 2 and 4, in coordinates where the signal is not scaled). The first level is that of `known` itself.
    """
    chain = [known]
    for sigma, after in pairwise(sigmas):
        chain.append(chain[-1] + sqrt(after**2 - sigma**2) * next(noise))
    return chain


def _twice(steps: Steps[X], weight: float, join: Callable[[list[Any]], Any]) -> Steps[X]:
    try:
        x, t = next(steps)
        while True:
            x, t = steps.send(combine_guidance((yield join([x, x]), t), weight))
    except StopIteration as end:
        last: X = end.value
        return last
