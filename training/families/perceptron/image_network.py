"""One unit per class on bare pixels: the perceptron with several outputs, softmax over them.

A linear net cannot tell all digits apart, and cross-entropy spends most of its effort on the rows that it will never
get right. The generalised cross-entropy (1 - p^q) / q of Zhang & Sabuncu (2018) is cross-entropy for q = 0 and, for
q = 1, the share of probability that went astray: in between, the lost rows weigh less.

Weights are kept small, and neighbouring pixels' weights close to each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.base import ImageDataset
from training.optim.schedule import Schedule, rate_factor
from training.options import described
from training.recipe import Batch, Parts, Resumable


@dataclass(frozen=True, kw_only=True)
class LinearHyperparameters:
    """Chosen on MNIST's 5,000 held-out rows."""

    epochs: int = described(40, "times that every row is seen")
    batch_size: int = described(500, "rows per optimisation step")
    lr: float = described(0.01, "learning rate of Adam at its highest")
    schedule: Schedule = described("one-cycle", "how the learning rate changes over the run")
    give_up: float = described(0.3, "q of the generalised cross-entropy; 0 is cross-entropy")
    smooth: float = described(5e-5, "penalty on the squared difference of neighbouring pixels' weights")
    l2: float = described(1e-6, "penalty on the squared weights")


class Linear(nn.Module):
    """(N, H, W, C) uint8 -> logits (N, K)."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, *shape))  # (K, H, W, C)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, image: Tensor) -> Tensor:
        return F.linear(image.flatten(1).float() / 255, self.weight.flatten(1), self.bias)

    def roughness(self) -> Tensor:
        """Sum of the squared differences of neighbouring pixels' weights."""
        w = self.weight
        return w.diff(dim=1).square().sum() + w.diff(dim=2).square().sum()


class LinearClassifier(Resumable):
    """A `Recipe`."""

    def __init__(
        self, dataset: ImageDataset, h: LinearHyperparameters, *, accelerator: Accelerator, compiled: bool = False
    ) -> None:
        self.h = h
        self.accelerator = accelerator
        self.held = (dataset.held_x, dataset.held_y)
        height, width, channels = dataset.train_x.shape[1:]
        self.shape = (height, width, channels)
        self.bare = Linear(self.shape, dataset.classes)
        self.optimiser = torch.optim.Adam(self.bare.parameters(), lr=h.lr)
        self.network = accelerator.prepare(torch.compile(self.bare) if compiled else self.bare)

    def served(self) -> Linear:
        """A copy on the CPU in fp32: what Accelerate prepares keeps its precision with it."""
        copy = Linear(self.shape, len(self.bare.bias))
        copy.load_state_dict(self.bare.state_dict())
        return copy.eval()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.h.lr * rate_factor(self.h.schedule, batch.progress)
        y = batch.y[batch.share]
        self.optimiser.zero_grad()
        logits = self.network(batch.x[batch.share])
        loss = generalised_cross_entropy(logits, y, q=self.h.give_up)
        penalty = self.h.smooth * self.bare.roughness() + self.h.l2 * self.bare.weight.square().sum()
        self.accelerator.backward(loss + penalty)
        self.optimiser.step()
        return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == y).float().mean()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        x, y = self.held
        logits = self.bare(x.to(self.accelerator.device)).to(x.device)
        return {
            "held_loss": float(generalised_cross_entropy(logits, y, q=self.h.give_up)),
            "held_accuracy": float((logits.argmax(1) == y).float().mean()),
            "lr": float(self.optimiser.param_groups[0]["lr"]),
        }

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "optimiser": self.optimiser}


def generalised_cross_entropy(logits: Tensor, y: Tensor, *, q: float) -> Tensor:
    """Mean of (1 - p^q) / q over the rows, p the probability of the true label; of -ln p where q is 0."""
    nll = F.cross_entropy(logits, y, reduction="none")
    return (nll if q == 0 else -torch.expm1(-q * nll) / q).mean()
