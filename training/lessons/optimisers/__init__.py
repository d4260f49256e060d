"""How gradient descent, SGD, mini-batches, momentum and Adam minimise the same loss."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from training.data import DataError
from training.lessons.optimisers import report
from training.lessons.optimisers.descent import Method, Problem, Trace, adam, best, descend, momentum, plain

HIDDEN: Final = 16
BATCH: Final = 32
NET: Final = (
    f"A net of 64 inputs, {HIDDEN} units with tanh and 10 outputs with softmax is trained on scikit-learn's 1,797 "
    "digits of 8 x 8 pixels."
)
LEVEL: Final = 0.1  # nats: the loss that the table is about
# Each about three times the one before; those of Adam are steps, not factors of the gradient.
METHODS: Final = (
    Method(name="full-batch", rows=None, epochs=600, rates=(0.1, 0.3, 1.0, 3.0), optimiser=plain),
    Method(name="SGD, one row", rows=1, epochs=6, rates=(0.01, 0.03, 0.1, 0.3), optimiser=plain),
    Method(name="mini-batches", rows=BATCH, epochs=40, rates=(0.1, 0.3, 1.0, 3.0), optimiser=plain),
    Method(name="momentum", rows=BATCH, epochs=40, rates=(0.03, 0.1, 0.3, 1.0), optimiser=momentum),
    Method(name="Adam", rows=BATCH, epochs=40, rates=(0.003, 0.01, 0.03, 0.1), optimiser=adam),
)
PATH_EPOCHS: Final = {"full-batch": 300, "SGD, one row": 40, "mini-batches": 100, "momentum": 100, "Adam": 100}
PATH_BATCH: Final = 8
PATH_RATES: Final = (0.1, 0.3, 1.0, 3.0)
PATH_START: Final = (-1.5, -4.0)
SURFACE: Final = ((-4.5, 4.5), (-6.0, 8.0))  # the range of w1 and of w2 that is shown


def two_weight_loss(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The lecture's net x -> w1 -> sigmoid -> w2 -> sigmoid and its squared error: (..., 2), (N), (N) -> (...)."""
    hidden = torch.sigmoid(w[..., :1] * x)
    out = torch.sigmoid(w[..., 1:] * hidden)
    return (out - y).square().mean(-1)


def two_weights() -> Problem:
    """24 rows from that net with w = (1, 4) and noise of 0.1, so that single rows have different gradients."""
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(-3, 3, 24)
    y = torch.sigmoid(4 * torch.sigmoid(x)) + 0.1 * torch.randn(len(x), generator=generator)
    return Problem(
        start=lambda: [torch.tensor(PATH_START)],
        loss=lambda parameters, x, y: two_weight_loss(parameters[0], x, y),
        x=x,
        y=y.clamp(0, 1),
    )


def small_net(rows: int | None = None) -> Problem:
    """64 -> 16 -> 10, tanh and softmax, on scikit-learn's 1,797 digits of 8x8 pixels (the first `rows` of them).

    Raises: DataError where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(f"optimisers: needs scikit-learn's digits, which cannot be imported ({error})") from error
    found = load_digits()
    x = torch.from_numpy(found.data[:rows]).float() / 16
    y = torch.from_numpy(found.target[:rows]).long()

    def start() -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        w1 = torch.randn(64, HIDDEN, generator=generator) / 64**0.5
        w2 = torch.randn(HIDDEN, 10, generator=generator) / HIDDEN**0.5
        return [w1, torch.zeros(HIDDEN), w2, torch.zeros(10)]

    def loss(parameters: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        w1, b1, w2, b2 = parameters
        return F.cross_entropy(torch.tanh(x @ w1 + b1) @ w2 + b2, y)

    return Problem(start=start, loss=loss, x=x, y=y)


def compare(problem: Problem, methods: Sequence[Method], *, every_step: bool = False) -> list[list[Trace]]:
    """One list per method: a trace for each of its rates."""
    return [
        [descend(problem, method, rate, seed=0, every_step=every_step) for rate in method.rates] for method in methods
    ]


def run(options: argparse.Namespace) -> int:
    """Train, write the page, say what was found. Raises: DataError."""
    torch.set_num_threads(1)  # matrices this small gain nothing from more
    net, two = small_net(), two_weights()
    traces = compare(net, METHODS)
    paths = compare(
        two,
        [
            replace(m, rows=PATH_BATCH if m.rows == BATCH else m.rows, epochs=PATH_EPOCHS[m.name], rates=PATH_RATES)
            for m in METHODS
        ],
        every_step=True,
    )
    path = report.write(
        report.Comparison(traces=traces, paths=paths, surface=two, ranges=SURFACE, level=LEVEL, net=NET),
        Path(options.to),
    )
    print("\n".join(report.findings([best(of_method) for of_method in traces], LEVEL)))
    print(f"\n{path}")
    return 0
