"""Samplers as generators without I/O: each yields `x, t` and is sent the net's output there.

    samplers  once  euler  heun  ddim  multistep  consistency     SAMPLERS has those of manifests by name
    wrappers  slopes  denoiser  inpaint                           change what a sampler is sent; samplers themselves
    adapter   on_graph                                            named tensors, one row of `t` per row of `x`

Levels and times come from `app/core/sampling/schedules.py`. A sampler's `x` is rows first, of any shape behind. Only
arithmetic touches it: training sends torch tensors, the app NumPy arrays, and both get the same numbers. Nothing is
changed in place.

There are two kinds of net. One outputs a slope, dx/dt, for `euler` and `heun` (flow matching: Lipman et al. 2023,
arXiv:2210.02747; rectified flow: Liu et al. 2023, arXiv:2209.03003). The other is a denoiser, D(x, sigma) = E[x0 | x]
with x = x0 + sigma * noise (EDM: Karras et al. 2022, arXiv:2206.00364). It goes with `ddim`, `multistep`,
`consistency` and, through `slopes`, with the first two. `denoiser` makes one of a net with another output.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import pairwise
from math import atan, log, pi, sqrt
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Tensors
from app.core.manifest.sampling import SamplerName

X = TypeVar("X", bound=Any)
Steps = Generator[tuple[X, float], X, X]
"""Yields (x, t), is sent the net's output there, returns the last x."""
Sampler = Generator[Tensors, Tensors, Tensors]
"""Yields the inputs of its next run, is sent that run's outputs, returns the result."""
Predicts = Literal["noise", "velocity", "flow"]

NOTHING: Final[Mapping[str, NDArray[Any]]] = MappingProxyType({})


def once(x: X, t: float = 0.0) -> Steps[X]:
    """One evaluation, whose output is the result: a decoder, a generator, a posterior mean."""
    return (yield x, t)


def euler(x: X, times: Sequence[float]) -> Steps[X]:
    """x' = x + (t' - t) v for a net that outputs v = dx/dt. First order, one evaluation a step."""
    for t, after in pairwise(times):
        x = x + (after - t) * (yield x, t)
    return x


def heun(x: X, times: Sequence[float]) -> Steps[X]:
    """Euler's step, then again with the mean of the slopes at both its ends. Second order, two evaluations a step.

    The step to 0 is Euler's, because a denoiser has no slope there; one step of lower order costs no order.
    Karras et al. 2022, algorithm 1 without churn.
    """
    for t, after in pairwise(times):
        v = yield x, t
        there = x + (after - t) * v
        x = x + (after - t) / 2 * (v + (yield there, after)) if after > 0 else there
    return x


def ddim(x: X, sigmas: Sequence[float], *, eta: float = 0.0, noise: Iterator[X] | None = None) -> Steps[X]:
    """Keep the direction to the noise, shorten it to the next level; with `eta`, exchange a part for new noise.

    With eta 0 it is DDIM, without noise; with eta 1 the ancestral chain of DDPM, step for step. First order. Song et
    al. 2021, arXiv:2010.02502, equations 12 and 16, in coordinates where the signal is not scaled. Where the levels
    rise (`resampling_steps`), noise is added and the net is not evaluated.

    Args:
        noise: standard normal arrays like x; needed where eta is above 0 or levels rise, one for each step but the
            last.
    """
    for sigma, after in pairwise(sigmas):
        if after > sigma:
            assert noise is not None, "rising levels need noise"
            x = x + sqrt(after**2 - sigma**2) * next(noise)
            continue
        denoised = yield x, sigma
        fresh, kept = 0.0, after
        if eta > 0:
            fresh = eta * after * sqrt(sigma**2 - after**2) / sigma
            kept = sqrt(after**2 - fresh**2)
        x = denoised + kept / sigma * (x - denoised)
        if fresh > 0:
            assert noise is not None, "eta above 0 needs noise"
            x = x + fresh * next(noise)
    return x


def multistep(x: X, sigmas: Sequence[float]) -> Steps[X]:
    """Extrapolate the denoiser's output from the last two. Second order, one evaluation a step.

    DPM-Solver++(2M): Lu et al. 2022, arXiv:2211.01095, algorithm 2. The first step, and the one to 0 (where the
    log of the level ends), are of first order.
    """
    before: X | None = None
    last_h = 0.0
    for sigma, after in pairwise(sigmas):
        denoised = yield x, sigma
        best, h = denoised, 0.0
        if after > 0:
            h = log(sigma / after)
            if before is not None:
                best = denoised + h / (2 * last_h) * (denoised - before)
        x = best + after / sigma * (x - best)
        before, last_h = denoised, h
    return x


def consistency(x: X, sigmas: Sequence[float], *, noise: Iterator[X]) -> Steps[X]:
    """Denoise in one step, add noise of the next level, repeat: for nets trained to reach the data in one step.

    Song et al. 2023, arXiv:2303.01469, algorithm 1.
    """
    for sigma, after in pairwise(sigmas):
        x = yield x, sigma
        if after > 0:
            x = x + after * next(noise)
    return x


def slopes(steps: Steps[X]) -> Steps[X]:
    """`euler` or `heun` for a denoiser: dx/dsigma = (x - D(x, sigma)) / sigma. Karras et al. 2022, equation 3."""
    return _between(steps, answer=lambda x, sigma, denoised: (x - denoised) / sigma)


SAMPLERS: Final[Mapping[SamplerName, Callable[[Any, Sequence[float], Iterator[Any]], Steps[Any]]]] = {
    "ancestral": lambda x, sigmas, noise: ddim(x, sigmas, eta=1.0, noise=noise),
    "consistency": lambda x, sigmas, noise: consistency(x, sigmas, noise=noise),
    "ddim": lambda x, sigmas, noise: ddim(x, sigmas),
    "euler": lambda x, sigmas, noise: slopes(euler(x, sigmas)),
    "heun": lambda x, sigmas, noise: slopes(heun(x, sigmas)),
    "multistep": lambda x, sigmas, noise: multistep(x, sigmas),
}
"""Samplers of denoisers by the names of manifests: x at the first noise level, the noise levels, noise like x."""


def evaluations(name: SamplerName, steps: int) -> int:
    """Evaluations of the net in a number of steps."""
    return 2 * steps - 1 if name == "heun" and steps else steps


def denoiser(steps: Steps[X], *, predicts: Predicts) -> Steps[X]:
    """A sampler of denoisers, for a net with another output and another time as input.

    `noise` and `velocity` (Salimans and Ho 2022, arXiv:2202.00512): x_t = cos(pi t / 2) x0 + sin(pi t / 2) noise; the
    net outputs the noise, or cos * noise - sin * x0. `flow`: x_t = (1 - t) x0 + t noise; it outputs noise - x0.
    """
    if predicts == "flow":
        return _between(
            steps,
            ask=lambda x, sigma: (x / (1 + sigma), sigma / (1 + sigma)),
            answer=lambda x, sigma, v: (x - sigma * v) / (1 + sigma),
        )

    def ask(x: X, sigma: float) -> tuple[X, float]:
        return x / sqrt(1 + sigma**2), 2 / pi * atan(sigma)

    if predicts == "noise":
        return _between(steps, ask=ask, answer=lambda x, sigma, noise: x - sigma * noise)
    return _between(steps, ask=ask, answer=lambda x, sigma, v: x / (1 + sigma**2) - sigma / sqrt(1 + sigma**2) * v)


def inpaint(steps: Steps[X], known: X, mask: X) -> Steps[X]:
    """A sampler of denoisers that keeps the known pixels, exactly.

    The net's output there is replaced by the known ones, so that the rest is sampled beside them at every level. Like
    other methods of replacement (Song et al. 2021, arXiv:2011.13456, appendix I.2) this is not quite the conditional
    distribution, because at high levels of noise little is known yet. `ddim` with eta 1 along `resampling_steps` comes
    closer to it with more visits.

    Args:
        known: like x; what is under the zeros of the mask does not matter, as long as it is finite.
        mask: 1 where it is known, 0 elsewhere; broadcast to x.
    """

    def keep(x: X) -> X:
        kept: X = mask * known + (1 - mask) * x
        return kept

    return keep((yield from _between(steps, answer=lambda x, sigma, seen: keep(seen))))


def on_graph(
    steps: Steps[NDArray[Any]],
    *,
    x: str = "x",
    t: str | None = "t",
    answer: str = "answer",
    result: str = "x",
    given: Tensors = NOTHING,
) -> Sampler:
    """A sampler in the engine's form, for the graph of a net.

    Args:
        x, t: names of the graph's inputs; t is float32 (rows), or None where the graph takes none.
        answer: name of the graph's output that the sampler is sent.
        result: name of what it returns.
        given: further inputs that stay the same in all steps (labels, guidance), as many rows as x.
    """
    try:
        rows, at = next(steps)
        while True:
            inputs = {x: np.asarray(rows, np.float32), **given}
            if t is not None:
                inputs[t] = times = np.empty(len(rows), np.float32)
                times.fill(at)  # np.full takes three times as long, for every row of every step
            outputs = yield inputs
            rows, at = steps.send(outputs[answer])
    except StopIteration as end:
        return {result: end.value}


def _between(
    steps: Steps[X],
    *,
    answer: Callable[[X, float, X], X],
    ask: Callable[[X, float], tuple[X, float]] = lambda x, t: (x, t),
) -> Steps[X]:
    """A sampler whose yielded and sent values are changed; `answer` is called with the sampler's own x and t."""
    try:
        x, t = next(steps)
        while True:
            x, t = steps.send(answer(x, t, (yield ask(x, t))))
    except StopIteration as end:
        last: X = end.value
        return last
