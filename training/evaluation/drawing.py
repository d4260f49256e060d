"""Pictures drawn by a denoiser, as the server draws them: the samplers of `app/core/sampling.py`, any net beneath."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.core import sampling
from app.core.sampled import Sampling

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Levels = float | Array
Ask = Callable[[Array, Levels, Labels], Array]
"""x (B, H, W, C), sigma of all or (B,), label (B,) -> E[x0 | x] (B, H, W, C)."""

AT_ONCE: Final = 64


def asking(session: ort.InferenceSession, *, labelled: bool) -> Ask:
    """A denoiser's graph, 64 rows a run."""

    def ask(x: Array, sigma: Levels, label: Labels) -> Array:
        at = np.broadcast_to(np.asarray(sigma, np.float32), len(x))
        parts = [np.zeros((0, *x.shape[1:]), np.float32)]
        for i in range(0, len(x), AT_ONCE):
            feed: dict[str, NDArray[Any]] = {"x": x[i : i + AT_ONCE], "sigma": at[i : i + AT_ONCE]}
            if labelled:
                feed["label"] = label[i : i + AT_ONCE]
            parts.append(session.run(["denoised"], feed)[0])
        return np.concatenate(parts)

    return ask


def guided(ask: Ask, weight: float, nothing: int) -> Ask:
    """Classifier-free guidance: D(x) + weight (D(x, label) - D(x)), `nothing` being the label of none."""
    if weight == 1:
        return ask

    def both(x: Array, sigma: Levels, label: Labels) -> Array:
        plain = ask(x, sigma, np.full_like(label, nothing))
        return plain + np.float32(weight) * (ask(x, sigma, label) - plain)

    return both


def evaluations(name: str, steps: int) -> int:
    """How often the net is asked: Heun's method twice a step but for the last."""
    return 2 * steps - 1 if name == "heun" else steps


def begun(name: str, x: Array, sigmas: list[float], noise: Iterator[Array]) -> sampling.Steps[Array]:
    """The sampler of that name in a manifest, from x (B, H, W, C) at the first of the levels."""
    if name == "ancestral":
        return sampling.ddim(x, sigmas, eta=1.0, noise=noise)
    if name == "consistency":
        return sampling.consistency(x, sigmas, noise=noise)
    if name in ("euler", "heun"):
        return sampling.slopes((sampling.euler if name == "euler" else sampling.heun)(x, sigmas))
    return {"ddim": sampling.ddim, "multistep": sampling.multistep}[name](x, sigmas)


def chain(
    ask: Ask,
    labels: Labels,
    shape: tuple[int, ...],
    declared: Sampling,
    *,
    sampler: str,
    steps: int,
    seed: int = 0,
) -> Iterator[tuple[Array, float, Array]]:
    """Draw one picture per label: (x, sigma, denoised) at each evaluation, then (picture, 0, picture)."""
    noise = noises(len(labels), shape, seed)
    sigmas = sampling.karras(steps, start=declared.sigma_max, end=declared.sigma_min, rho=declared.rho)
    yield from walked(begun(sampler, np.float32(sigmas[0]) * next(noise), sigmas, noise), ask, labels)


def walked(walk: sampling.Steps[Array], ask: Ask, labels: Labels) -> Iterator[tuple[Array, float, Array]]:
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


def ended(walk: sampling.Steps[Array], ask: Ask, labels: Labels) -> Array:
    """A sampler's end alone: (N, H, W, C), not clipped."""
    *_, (picture, _, _) = walked(walk, ask, labels)
    return picture


def draw(ask: Ask, labels: Labels, shape: tuple[int, ...], declared: Sampling, **how: Any) -> Array:
    """The last picture of `chain` alone: (N, H, W, C), not clipped."""
    *_, (picture, _, _) = chain(ask, labels, shape, declared, **how)
    return picture


def noises(n: int, shape: tuple[int, ...], seed: int) -> Iterator[Array]:
    """Standard normal noise without end, (n, *shape) each; row i of a seed is the same whatever `n` is."""
    for k in count():
        sequence = np.random.SeedSequence(seed, spawn_key=(k,))
        yield np.random.Generator(np.random.PCG64(sequence)).standard_normal((n, *shape), dtype=np.float32)
