"""What a manifest says of sampling, as samplers: by name, from which levels, with a seed's noise, guided, midway.

The server draws by these and training measures by them, so that the figures are of what is served. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, pairwise
from math import log, sqrt
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.core.manifest.sampling import SamplerName, Sampling
from app.core.sampling import samplers as sampling
from app.core.sampling.samplers import Steps

X = TypeVar("X", bound=Any)
Array = NDArray[np.float32]

_JUST_ABOVE: Final = 1.0001


def noises(n: int, shape: tuple[int, ...], seed: int) -> Iterator[Array]:
    """Standard normal noise without end, (n, *shape) each. Row i of a seed is the same whatever `n` is: every array has
    a generator of its own, which draws one row after another."""
    for k in count():
        sequence = np.random.SeedSequence(seed, spawn_key=(k,))
        yield np.random.Generator(np.random.PCG64(sequence)).standard_normal((n, *shape), dtype=np.float32)


def level(declared: Sampling, strength: float) -> float:
    """The noise level at a strength: from `sigma_min` at 0 to `sigma_max` at 1, where that share of the steps is to be
    done yet."""
    if strength == 1:
        return declared.sigma_max
    if declared.ladder is not None:
        return float(_rungs(declared.ladder, np.array([1 - strength]))[0])
    low, high = declared.sigma_min ** (1 / declared.rho), declared.sigma_max ** (1 / declared.rho)
    return float((low + strength * (high - low)) ** declared.rho)


def levels(declared: Sampling, steps: int, strength: float = 1.0) -> list[float]:
    """Noise levels, falling, the last one 0: (steps + 1,), or only that 0 at strength 0: nothing is to be drawn anew.

    Where a picture is begun with, `add_noise` to it at the first of these levels is where (SDEdit: Meng et al. 2022,
    arXiv:2108.01073).
    """
    return levels_from(declared, steps, level(declared, strength)) if strength > 0 else [0.0]


def levels_from(declared: Sampling, steps: int, sigma: float) -> list[float]:
    """Noise levels from `sigma`, falling, the last one 0: (steps + 1,).

    By `ancestral` from a picture with white noise of that level, these lead to draws from the posterior: all pictures
    that may lie under the noise, each as often as it is probable.
    """
    start = max(sigma, declared.sigma_min * _JUST_ABOVE)
    if declared.ladder is None:
        return sampling.karras(steps, start=start, end=declared.sigma_min, rho=declared.rho)
    rungs = np.log(declared.ladder)
    done = np.interp(-log(start), -rungs, np.linspace(0, 1, len(rungs)))
    return [start, *_rungs(declared.ladder, np.linspace(done, 1, steps)[1:]).tolist(), 0.0]


def _rungs(ladder: Sequence[float], done: NDArray[np.float64]) -> NDArray[np.float64]:
    """The levels where so much of the ladder, from 0 to 1, is behind one; between rungs even in the logarithm."""
    rungs = np.log(ladder)
    found: NDArray[np.float64] = np.exp(np.interp(done, np.linspace(0, 1, len(rungs)), rungs))
    return found


def make_sampler(name: SamplerName, x: X, sigmas: Sequence[float], noise: Iterator[X]) -> Steps[X]:
    """The sampler of that name, from x at the first of the levels."""
    if name == "ancestral":
        return sampling.ddim(x, sigmas, eta=1.0, noise=noise)
    if name == "consistency":
        return sampling.consistency(x, sigmas, noise=noise)
    if name == "euler":
        return sampling.slopes(sampling.euler(x, sigmas))
    if name == "heun":
        return sampling.slopes(sampling.heun(x, sigmas))
    if name == "multistep":
        return sampling.multistep(x, sigmas)
    return sampling.ddim(x, sigmas)


def evaluations(name: SamplerName, steps: int) -> int:
    """How often the net is asked."""
    return 2 * steps - 1 if name == "heun" and steps else steps


def guided(steps: Steps[X], weight: float, *, join: Callable[[list[Any]], Any] = np.concatenate) -> Steps[X]:
    """A sampler of denoisers that asks for every row twice: rows (n, ...) become (2 n, ...), first those that are told
    their label, then those that are not. With weight 1 it is `steps` itself, asked once.

    Classifier-free guidance: Ho and Salimans 2022, arXiv:2207.12598. Where D is linear in x, as for Gaussian data, it
    draws the conditional distribution to the power of the weight times the unconditional one to 1 - weight at each
    level, which is no distribution of x0 with noise: weights above 1 leave what the data are like.

    Args:
        join: rows one after another; `torch.cat` for tensors.
    """
    if weight == 1:
        return steps
    return _twice(steps, weight, join)


def combine_guidance(both: X, weight: float) -> X:
    """Answers with the label (n, ...), then as many without: the guided ones, D + weight (D(label) - D)."""
    n = len(both) // 2
    told, plain = both[:n], both[n:]
    mixed: X = plain + weight * (told - plain)
    return mixed


def add_noise(known: X, sigma: float, noise: X) -> X:
    """A picture under noise of that level: x = x0 + sigma * noise."""
    x: X = known + sigma * noise
    return x


def forward(known: X, sigmas: Sequence[float], noise: Iterator[X]) -> list[X]:
    """The chain that samplers go back: the picture at each of the rising levels, noise added to noise.

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
