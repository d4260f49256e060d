"""What dropout, weight decay and early stopping do for a net that overfits a small table."""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.lessons.regularisation import report
from training.optim.decay import adamw

COLUMNS: Final = 10  # of which the first three decide
ROWS: Final = 300  # to train on, and as many held out
TEST_ROWS: Final = 20_000
WIDTH: Final = 64
EPOCHS: Final = 200
EVERY: Final = 2  # epochs between measurements
RATE: Final = 0.003
DECAYS: Final = (1.0, 3.0, 10.0, 30.0)
DROPOUTS: Final = (0.3, 0.5, 0.7, 0.9)
DRAWS: Final = 5
RULE: Final = "1 / (1 + exp(-2 x1 - 2 x2 x3))"


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One table: rows (N, COLUMNS), labels 0 or 1 (N,), and the probability that each label was sampled with."""

    x: Tensor
    y: Tensor
    p: Tensor

    def loss(self, net: nn.Module) -> float:
        """Mean negative log-likelihood, nats."""
        with torch.no_grad():
            return float(F.binary_cross_entropy_with_logits(net.eval()(self.x)[:, 0], self.y))

    def accuracy(self, net: nn.Module) -> float:
        with torch.no_grad():
            return float(((net.eval()(self.x)[:, 0] > 0) == (self.y > 0.5)).float().mean())

    @property
    def least(self) -> float:
        """The loss of the generating rule itself: on average no model has less."""
        return float(F.binary_cross_entropy(self.p, self.y))


@dataclass(kw_only=True)
class Training:
    """One training: curves, the net at its end and the net where the held-out loss was lowest."""

    epochs: list[int] = field(default_factory=list)
    train: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    last: nn.Module = field(default_factory=nn.Identity)
    stopped: nn.Module = field(default_factory=nn.Identity)

    @property
    def stop(self) -> int:
        """The index of the lowest held-out loss."""
        return min(range(len(self.held)), key=self.held.__getitem__)


def draw(rows: int, generator: torch.Generator) -> Draw:
    """Standard normal columns; the label is 1 with probability RULE, and seven columns mean nothing."""
    x = torch.randn(rows, COLUMNS, generator=generator)
    p = torch.sigmoid(2 * x[:, 0] + 2 * x[:, 1] * x[:, 2])
    return Draw(x=x, y=torch.bernoulli(p, generator=generator), p=p)


def fit(
    train: Draw, held: Draw, *, seed: int, decay: float = 0.0, dropout: float = 0.0, epochs: int = EPOCHS
) -> Training:
    """Two hidden layers, full-batch Adam; decay is decoupled (Loshchilov & Hutter 2019) and spares biases."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(COLUMNS, WIDTH), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(WIDTH, 1),
    )  # fmt: skip
    optimiser = adamw(net.parameters(), lr=RATE, weight_decay=decay)
    found = Training()
    for epoch in range(epochs + 1):
        if epoch % EVERY == 0:
            found.epochs.append(epoch)
            found.train.append(train.loss(net))
            found.held.append(held.loss(net))
            if found.held[-1] == min(found.held):
                found.stopped = copy.deepcopy(net)
        net.train()
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(net(train.x)[:, 0], train.y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found.last = net
    return found


def contest(test: Draw, *, seed: int, rows: int = ROWS, epochs: int = EPOCHS) -> report.Contest:
    """All remedies on one draw of rows; how much of each is chosen by the held-out loss at the end."""
    generator = torch.Generator().manual_seed(seed)
    train, held = draw(rows, generator), draw(rows, generator)
    plain = fit(train, held, seed=seed, epochs=epochs)
    decayed = {d: fit(train, held, seed=seed, decay=d, epochs=epochs) for d in DECAYS}
    dropped = {p: fit(train, held, seed=seed, dropout=p, epochs=epochs) for p in DROPOUTS}
    decay = min(decayed, key=lambda d: decayed[d].held[-1])
    dropout = min(dropped, key=lambda p: dropped[p].held[-1])

    def entry(name: str, chosen: str, found: Training, net: nn.Module, *, stop: bool = False) -> report.Entry:
        end = found.stop + 1 if stop else len(found.epochs)
        return report.Entry(
            name=name,
            chosen=chosen,
            epochs=found.epochs[:end],
            train=found.train[:end],
            held=found.held[:end],
            test_loss=test.loss(net),
            test_accuracy=test.accuracy(net),
        )

    return report.Contest(
        entries=[
            entry("nothing", "", plain, plain.last),
            entry("early stopping", f"epoch {plain.epochs[plain.stop]}", plain, plain.stopped, stop=True),
            entry("weight decay", f"{decay:g}", decayed[decay], decayed[decay].last),
            entry("dropout", f"{dropout:g}", dropped[dropout], dropped[dropout].last),
        ],
        by_decay=[(d, found.train[-1], found.held[-1]) for d, found in decayed.items()],
        by_dropout=[(p, found.train[-1], found.held[-1]) for p, found in dropped.items()],
    )


def run(options: argparse.Namespace) -> int:
    """Train, write the page, say what was found."""
    torch.set_num_threads(1)  # matrices this small gain nothing from more
    test = draw(TEST_ROWS, torch.Generator().manual_seed(2**31))
    found = [contest(test, seed=seed) for seed in range(DRAWS)]
    words = (
        f"{ROWS} training rows and {ROWS} held out, {COLUMNS} columns of which three decide: the label is 1 with "
        f"probability {RULE}. The net has two hidden layers of {WIDTH} units and {EPOCHS} epochs of full-batch Adam."
    )
    path = report.write(
        report.Lesson(contests=found, least=test.least, setting=words, test_rows=TEST_ROWS), Path(options.to)
    )
    print("\n".join(report.findings(found, test.least)))
    print(f"\n{path}")
    return 0
