"""Gradient descent and other optimisers on a problem small enough to measure: what the lessons compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

DENSITY: Final = 1.25  # from one measurement to the next, in rows seen
DIVERGED: Final = 1e6


@dataclass(frozen=True, kw_only=True)
class Problem:
    """`start()` makes the parameters anew, always the same; `loss(parameters, x, y)` is a mean over those rows."""

    start: Callable[[], list[Tensor]]
    loss: Callable[[list[Tensor], Tensor, Tensor], Tensor]
    x: Tensor  # (N, ...)
    y: Tensor  # (N, ...)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One optimiser: the rows of a step (None: all) and what is done with their gradient."""

    name: str
    rows: int | None
    epochs: int
    rates: tuple[float, ...]
    optimiser: Callable[[list[Tensor], float], Optimizer]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The loss over all rows, measured before the first step and then after ever more rows; seconds of a core are the
    steps' alone, without the measuring. `path` holds the parameters at each measurement where that was requested."""

    method: Method
    rate: float
    seen: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    path: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def end(self) -> float:
        """The loss at the end; infinite where the run diverged."""
        return self.losses[-1]

    def first_below(self, level: float) -> int | None:
        """The index of the first measurement at or below `level`."""
        return next((i for i, loss in enumerate(self.losses) if loss <= level), None)


def plain(parameters: list[Tensor], rate: float) -> Optimizer:
    return SGD(parameters, lr=rate)


def momentum(parameters: list[Tensor], rate: float) -> Optimizer:
    """Polyak's heavy ball (1964), 0.9."""
    return SGD(parameters, lr=rate, momentum=0.9)


def adam(parameters: list[Tensor], rate: float) -> Optimizer:
    """Kingma & Ba 2015, with their defaults."""
    return Adam(parameters, lr=rate)


def descend(problem: Problem, method: Method, rate: float, *, seed: int, every_step: bool = False) -> Trace:
    """Train from `problem.start()` for `method.epochs`; the order of rows is a function of `seed` alone.

    Args:
        every_step: measure after every step and keep the path, instead of after ever more rows.
    """
    count = len(problem.x)
    size = min(method.rows or count, count)
    parameters = [p.requires_grad_() for p in problem.start()]
    optimiser = method.optimiser(parameters, rate)
    generator = torch.Generator().manual_seed(seed)
    trace = Trace(method=method, rate=rate)
    seen, seconds, due = 0, 0.0, 0.0

    def note() -> bool:
        """Whether to go on."""
        with torch.no_grad():
            loss = float(problem.loss(parameters, problem.x, problem.y))
        alive = loss < DIVERGED  # False for NaN too
        trace.seen.append(seen)
        trace.steps.append(seen // size)
        trace.seconds.append(seconds)
        trace.losses.append(loss if alive else float("inf"))
        if every_step:
            trace.path.append(tuple(float(v) for p in parameters for v in p.detach().reshape(-1)))
        return alive

    note()
    for _ in range(method.epochs):
        order = torch.randperm(count, generator=generator) if size < count else torch.arange(count)
        x, y = problem.x[order], problem.y[order]
        for i in range(0, count - size + 1, size):
            started = time.process_time()
            optimiser.zero_grad()
            problem.loss(parameters, x[i : i + size], y[i : i + size]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            seconds += time.process_time() - started
            seen += size
            if every_step or seen >= due:
                due = seen * DENSITY
                if not note():
                    return trace
    if trace.seen[-1] != seen:
        note()
    return trace


def best(traces: Sequence[Trace]) -> Trace:
    """The one with the lowest loss at the end."""
    return min(traces, key=lambda trace: trace.end)
