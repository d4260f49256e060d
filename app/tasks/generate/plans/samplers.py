"""Samplers by their names in a manifest, where to begin, and the noise of a seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core import sampling
from app.core.sampled import Sampling
from app.core.sampling import Steps

Array = NDArray[np.float32]
_JUST_ABOVE: Final = 1.0001


def noises(n: int, shape: tuple[int, ...], seed: int) -> Iterator[Array]:
    """Standard normal noise without end, (n, *shape) each. Row i of a seed is the same whatever `n` is: every array has
    a generator of its own, which draws one row after another."""
    for k in count():
        sequence = np.random.SeedSequence(seed, spawn_key=(k,))
        yield np.random.Generator(np.random.PCG64(sequence)).standard_normal((n, *shape), dtype=np.float32)


def levels(declared: Sampling, steps: int, strength: float = 1.0) -> list[float]:
    """Noise levels, falling, the last one 0: (steps + 1,), or only that 0 where nothing of a picture is to be left.

    Args:
        strength: where to begin, 0 for no noise, 1 for all; even in sigma^(1/rho), as the levels are.
    """
    if strength == 0:
        return [0.0]
    rho, low, high = declared.rho, declared.sigma_min, declared.sigma_max
    start = high
    if strength < 1:
        bottom, top = low ** (1 / rho), high ** (1 / rho)
        start = max((bottom + strength * (top - bottom)) ** rho, low * _JUST_ABOVE)
    return sampling.karras(steps, start=start, end=low, rho=rho)


def begun(name: str, x: Array, sigmas: list[float], noise: Iterator[Array]) -> Steps[Array]:
    """The sampler of that name, from x at the first of the levels."""
    if name == "ancestral":
        return sampling.ddim(x, sigmas, eta=1.0, noise=noise)
    if name == "consistency":
        return sampling.consistency(x, sigmas, noise=noise)
    if name == "euler":
        return sampling.slopes(sampling.euler(x, sigmas))
    if name == "heun":
        return sampling.slopes(sampling.heun(x, sigmas))
    return {"ddim": sampling.ddim, "multistep": sampling.multistep}[name](x, sigmas)


def evaluations(name: str, steps: int) -> int:
    """How often the net is asked."""
    return 2 * steps - 1 if name == "heun" and steps else steps


def guided(steps: Steps[Array], weight: float) -> Steps[Array]:
    """Asks for every row twice, first with its label, then without: D + weight (D(label) - D)."""
    try:
        x, t = next(steps)
        while True:
            both = yield np.concatenate([x, x]), t
            x, t = steps.send(weighed(both, weight))
    except StopIteration as end:
        last: Array = end.value
        return last


def weighed(both: NDArray[Any], weight: float) -> NDArray[Any]:
    """Of answers with the label, then as many without."""
    n = len(both) // 2
    told, plain = both[:n], both[n:]
    mixed: NDArray[Any] = plain + weight * (told - plain)
    return mixed
