"""Samples of the posterior: what may have been under the noise, one possibility each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Tensors
from app.core.manifest.sampling import Sampling
from app.core.sampling.factory import make_sampler, noises
from app.core.sampling.samplers import Sampler, on_graph
from app.core.sampling.schedules import levels_from
from app.tasks.denoise.noise_level import Sigmas
from app.tasks.denoise.runs import Rows

IMAGE = "image"


def chains(
    x: Rows, sigmas: Sigmas, label: Tensors, declared: Sampling, *, samples: int, steps: int, seed: int
) -> Sampler:
    """`samples` restorations of each noisy row, by the ancestral chain from its own level of noise down: a sampler that
    returns them as `image`, (N * samples, ...), those of a row beside each other.

    Args:
        label: further inputs of the graph, of `samples` rows.

    Sample k of a row is of the seed and k, wherever the row stands and whatever is beside it.
    """
    each = []
    for row, sigma in zip(x, sigmas.tolist(), strict=True):
        noise = noises(samples, row.shape, seed)
        chain = make_sampler("ancestral", np.stack([row] * samples), levels_from(declared, steps, sigma), noise)
        each.append(on_graph(chain, t="sigma", answer="denoised", result=IMAGE, given=label))
    return together(each)


def together(samplers: Sequence[Sampler]) -> Sampler:
    """Samplers of equally many steps as one: the rows of the first, then those of the second, and so on."""
    waiting = [next(sampler) for sampler in samplers]
    ends = [0, *accumulate(len(next(iter(inputs.values()))) for inputs in waiting)]
    try:
        while True:
            outputs = yield _joined(waiting)
            results: list[Tensors] = []
            waiting = []
            for sampler, (begin, end) in zip(samplers, pairwise(ends), strict=True):
                try:
                    waiting.append(sampler.send({name: values[begin:end] for name, values in outputs.items()}))
                except StopIteration as last:
                    results.append(last.value)
            if results:
                assert not waiting
                return _joined(results)
    finally:
        for sampler in samplers:
            sampler.close()


def _joined(parts: Sequence[Tensors]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
