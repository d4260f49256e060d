"""A dense net for pictures: every pixel is an input like any other, and nothing is known of which are neighbours.

    pixels (P) -> [linear, batch norm, ReLU, dropout] x depth -> linear -> (K)

Each row is trained on twice: as it is, and moved in the direction that raises its own loss most (adversarial training,
Goodfellow et al. 2015, "Explaining and harnessing adversarial examples", with an L2 ball as in Miyato et al. 2018).
That is no augmentation that knows pictures, no shift, turn or warp: with the pixels of all rows permuted alike, the
result is the same.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.base import ImageDataset
from training.image_classification import held_figures, logits_of
from training.optim.decay import adamw
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import Schedule, rate_factor
from training.options import described
from training.recipe import Batch, Parts, Resumable

FEW_ROWS: Final = 20_000
NORM_MEMORY: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class FlatHyperparameters:
    """Defaults for MNIST, chosen on its 5,000 held-out rows; `for_few` says what a small folder changes."""

    widths: tuple[int, ...] = described((1024, 512), "units of each hidden layer")
    epochs: int = described(26, "times that every row is seen")
    batch_size: int = described(250, "rows per optimisation step; norm statistics are over these")
    lr: float = described(2e-3, "learning rate of Adam at its highest")
    schedule: Schedule = described("one-cycle", "how the learning rate changes over the run")
    reach: float = described(0.09, "how far a row is moved against its label, RMS over its pixels; white is 1")
    dropout: float = described(0.2, "share of each hidden layer's units that a row does without")
    label_smoothing: float = described(0.0, "share of each label's target that is given to the others")
    weight_decay: float = described(0.0, "of the weight matrices, decoupled (AdamW)")
    ema_steps: float = described(300.0, "steps over which the weights are averaged for serving")


def for_few(h: FlatHyperparameters, rows: int) -> FlatHyperparameters:
    """A folder of `rows` pictures: smaller batches and more epochs, so that there are some 1,000 steps to learn in."""
    batch_size = min(h.batch_size, max(16, 2 ** int(math.log2(max(rows, 32) / 16))))
    epochs = min(100, max(h.epochs, round(1000 * batch_size / rows)))
    return replace(h, widths=(256, 128), batch_size=batch_size, epochs=epochs, dropout=max(h.dropout, 0.3))


def flat_for(dataset: ImageDataset) -> FlatHyperparameters:
    """The defaults for this data set."""
    h, rows = FlatHyperparameters(), len(dataset.train_x)
    return for_few(h, rows) if rows < FEW_ROWS else h


class FlatNet(nn.Module):
    """(N, P) in [0, 1] -> logits (N, K)."""

    def __init__(self, *, pixels: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [pixels, *widths]
        # The norm that follows has a bias of its own.
        self.layers = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width, momentum=NORM_MEMORY) for width in widths)
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, x: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """`masks`, one (N, width) per hidden layer or none at all, multiply what its units give."""
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = F.relu(norm(layer(x).float()))  # statistics in fp32, whatever the products are in
            if masks:
                x = x * masks[i]
        logits: Tensor = self.head(x)
        return logits


class FlatLogits(nn.Module):
    """What is served: (N, H, W, C) uint8 -> logits (N, K)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(flat(image))
        return logits


def flat(x: Tensor) -> Tensor:
    """(N, H, W, C) uint8 -> (N, P) in [0, 1]."""
    return x.flatten(1).float() / 255


class FlatClassifier(Resumable):
    """A `Recipe`: the network, the moving average of its weights, which is what is served, and its optimiser."""

    def __init__(
        self,
        dataset: ImageDataset,
        h: FlatHyperparameters,
        *,
        seed: int,
        accelerator: Accelerator,
        compiled: bool = False,
    ) -> None:
        self.h = h
        self.accelerator = accelerator
        self.held = (dataset.held_x, dataset.held_y)
        torch.manual_seed(seed)
        network = FlatNet(pixels=dataset.train_x[0].numel(), classes=dataset.classes, widths=h.widths)
        self.average = average_of(network, accelerator.device)
        self.optimiser = adamw(network.parameters(), lr=h.lr, weight_decay=h.weight_decay, betas=(0.9, 0.99))
        self.bare = network
        self.network = accelerator.prepare(torch.compile(network) if compiled else network)

    def served(self) -> nn.Module:
        """The averaged network on pictures: (N, H, W, C) uint8 -> logits (N, K), on the CPU."""
        return FlatLogits(copy.deepcopy(self.average).to("cpu").eval())

    def step(self, batch: Batch) -> dict[str, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.h.lr * rate_factor(self.h.schedule, batch.progress)
        self.network.train()
        self.optimiser.zero_grad()
        # Drawn whole, then shared out: the same numbers whatever the number of processes.
        masks = [mask[batch.share] for mask in self._masks(batch)]
        x, y = flat(batch.x[batch.share]).requires_grad_(), batch.y[batch.share]
        logits, loss = self._loss(x, y, masks)
        self.accelerator.backward(loss)
        if self.h.reach:
            assert x.grad is not None
            moved = x.detach() + self.h.reach * math.sqrt(x.shape[1]) * F.normalize(x.grad, dim=1)
            with _forgetting(self.bare):  # the norms' running statistics are those of real rows
                self.accelerator.backward(self._loss(moved, y, masks)[1])
        self.optimiser.step()
        follow(self.average, self.bare, constant_length(self.h.ema_steps, position=batch.position))
        return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == y).float().mean()}

    def measure(self) -> dict[str, float]:
        return held_figures(self.logits(self.held[0]), self.held[1], self.optimiser)

    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, K) of the moving average, on (N, H, W, C) uint8, as exported."""
        return logits_of(FlatLogits(self.average.eval()), x, self.accelerator)

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "optimiser": self.optimiser}

    def _loss(self, x: Tensor, y: Tensor, masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        with self.accelerator.autocast():
            logits: Tensor = self.network(x, masks).float()
        return logits, F.cross_entropy(logits, y, label_smoothing=self.h.label_smoothing)

    def _masks(self, batch: Batch) -> Iterator[Tensor]:
        """(B, width) for each hidden layer: 0 with the probability of `dropout`, else what keeps the mean.

        A row and the same row moved lose the same units: the direction is that of the net that learns it.
        """
        if p := self.h.dropout:
            for width in self.h.widths:
                drawn = torch.rand(len(batch.y), width, generator=batch.generator, device=batch.y.device)
                yield (drawn >= p).float() / (1 - p)


@contextmanager
def _forgetting(network: FlatNet) -> Iterator[None]:
    norms = [norm for norm in network.norms if isinstance(norm, nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm in norms:
            norm.momentum = NORM_MEMORY
