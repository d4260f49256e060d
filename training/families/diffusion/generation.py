"""Pictures sampled from a denoiser as the server does it: the samplers of `app/core/sampling/factory.py`, any net."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.core.manifest.sampling import SamplerName, Sampling
from app.core.sampling.factory import combine_guidance, make_sampler, noises
from app.core.sampling.samplers import Steps
from app.core.sampling.schedules import levels
from training.metrics import onnx_model

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Levels = float | Array
Ask = Callable[[Array, Levels, Labels], Array]
"""x (B, H, W, C), sigma of all or (B,), label (B,) -> E[x0 | x] (B, H, W, C)."""

AT_ONCE: Final = 64
LEVELS_COUNT: Final = 33
FINE: Final = 65  # levels of a scale on which the spacing is measured


def asking(session: ort.InferenceSession, *, labelled: bool) -> Ask:
    """A denoiser's graph, 64 rows a run."""

    def ask(x: Array, sigma: Levels, label: Labels) -> Array:
        if not len(x):
            return x
        feed: dict[str, NDArray[Any]] = {"x": x, "sigma": np.broadcast_to(np.asarray(sigma, np.float32), len(x))}
        if labelled:
            feed["label"] = label
        return onnx_model.run(session, feed, ["denoised"], rows=AT_ONCE)[0]

    return ask


def guided(ask: Ask, weight: float, nothing: int) -> Ask:
    """Classifier-free guidance: D(x) + weight (D(x, label) - D(x)), `nothing` being the label of none."""
    if weight == 1:
        return ask

    def both(x: Array, sigma: Levels, label: Labels) -> Array:
        plain = ask(x, sigma, np.full_like(label, nothing))
        return combine_guidance(np.concatenate([ask(x, sigma, label), plain]), weight)

    return both


def chain(
    ask: Ask,
    labels: Labels,
    shape: tuple[int, ...],
    declared: Sampling,
    *,
    sampler: SamplerName,
    steps: int,
    seed: int = 0,
) -> Iterator[tuple[Array, float, Array]]:
    """Draw one picture per label: (x, sigma, denoised) at each evaluation, then (picture, 0, picture)."""
    noise = noises(len(labels), shape, seed)
    sigmas = levels(declared, steps)
    yield from walked(make_sampler(sampler, np.float32(sigmas[0]) * next(noise), sigmas, noise), ask, labels)


def walked(walk: Steps[Array], ask: Ask, labels: Labels) -> Iterator[tuple[Array, float, Array]]:
    """A sampler's questions with their answers, then its end, as `chain` gives them."""
    try:
        x, sigma = next(walk)
        while True:
            x = np.asarray(x, np.float32)
            denoised = ask(x, sigma, labels)
            yield x, sigma, denoised
            x, sigma = walk.send(denoised)
    except StopIteration as end:
        yield end.value, 0.0, end.value


def ended(walk: Steps[Array], ask: Ask, labels: Labels) -> Array:
    """A sampler's end alone: (N, H, W, C), not clipped."""
    *_, (picture, _, _) = walked(walk, ask, labels)
    return picture


def draw(ask: Ask, labels: Labels, shape: tuple[int, ...], declared: Sampling, **how: Any) -> Array:
    """The last picture of `chain` alone: (N, H, W, C), not clipped."""
    *_, (picture, _, _) = chain(ask, labels, shape, declared, **how)
    return picture


def noise_levels(
    ask: Ask, labels: Labels, shape: tuple[int, ...], declared: Sampling, *, count: int = LEVELS_COUNT
) -> list[float]:
    """Levels from `sigma_max` to `sigma_min`, closest where the net's answers change most.

    In the samplers' time, -log sigma, a step of length h makes an error like h^2 times the speed at which the answer
    changes; the sum of so many steps' errors is least where they lie as densely as the root of that speed. Far up,
    where the net sees nothing but noise, and far down, where nothing is left to decide, steps are long. The speed is
    measured on a fine scale, on the way of the plain differential equation: the mean over one picture per label.
    """
    fine = np.geomspace(declared.sigma_max, declared.sigma_min, FINE)
    noise = noises(len(labels), shape, 0)
    walk = make_sampler("multistep", np.float32(fine[0]) * next(noise), [*fine.tolist(), 0.0], noise)
    answers = [denoised for _, sigma, denoised in walked(walk, ask, labels) if sigma]
    changes = [float(np.sqrt(np.square(b - a).mean(tuple(range(1, a.ndim)))).mean()) for a, b in pairwise(answers)]
    passed = np.concatenate([[0.0], np.cumsum(np.sqrt(changes))])
    found = np.exp(np.interp(np.linspace(0, passed[-1], count), passed, np.log(fine)))
    # Four digits, so that the last bits of a machine do not show in the manifest.
    inner = [float(f"{sigma:.4g}") for sigma in found[1:-1]]
    return [declared.sigma_max, *inner, declared.sigma_min]
