"""Restorations drawn from the posterior: what may have been under the noise, one possibility each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, count, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Tensors
from app.core.sampled import Sampling
from app.core.sampling import Sampler, ddim, karras, on_graph
from app.tasks.denoise.noise import Sigmas
from app.tasks.denoise.runs import Rows

IMAGE = "image"


def chains(
    x: Rows, sigmas: Sigmas, label: Tensors, declared: Sampling, *, samples: int, steps: int, seed: int
) -> Sampler:
    """`samples` restorations of each noisy row, by the ancestral chain from its own level of noise down: a sampler that
    returns them as `image`, (N * samples, ...), those of a row beside each other.

    The reversed chain, begun at x = x0 + sigma * noise, ends in a draw of x0 given x.

    Sample k of row i is of the seed, i and k alone, whatever else is asked for.
    """
    begun = []
    for i, sigma in enumerate(sigmas.tolist()):
        levels = karras(steps, start=sigma, end=min(declared.sigma_min, sigma / 2), rho=declared.rho)
        noise = _noises(seed, [(i, k) for k in range(samples)], x.shape[1:])
        given = {name: np.repeat(values[i : i + 1], samples) for name, values in label.items()}
        chain = ddim(np.repeat(x[i : i + 1], samples, axis=0), levels, eta=1.0, noise=noise)
        begun.append(on_graph(chain, t="sigma", answer="denoised", result=IMAGE, given=given))
    return together(begun)


def together(samplers: Sequence[Sampler]) -> Sampler:
    """Samplers of equally many steps as one: the rows of the first, then those of the second, and so on."""
    asked = [next(sampler) for sampler in samplers]
    ends = [0, *accumulate(len(next(iter(inputs.values()))) for inputs in asked)]
    try:
        while True:
            outputs = yield _joined(asked)
            results: list[Tensors] = []
            asked = []
            for sampler, (begin, end) in zip(samplers, pairwise(ends), strict=True):
                try:
                    asked.append(sampler.send({name: values[begin:end] for name, values in outputs.items()}))
                except StopIteration as last:
                    results.append(last.value)
            if results:
                assert not asked
                return _joined(results)
    finally:
        for sampler in samplers:
            sampler.close()


def _joined(parts: Sequence[Tensors]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _noises(seed: int, keys: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> Iterator[Rows]:
    """Standard normal noise without end, (len(keys), *shape) each: a generator of its own for each key."""
    sequences = [np.random.SeedSequence(seed, spawn_key=key) for key in keys]
    generators = [np.random.Generator(np.random.PCG64(sequence)) for sequence in sequences]
    for _ in count():
        yield np.stack([one.standard_normal(shape, dtype=np.float32) for one in generators])
