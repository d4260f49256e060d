"""Training of a convolutional classifier: two optimisers, augmentation, and the average that is published."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from app.core.manifest import DigitPicture
from training.data import augment
from training.data.base import ImageDataset
from training.families.image_classifier.network import ConvNet, widths_for
from training.image_classification import held_figures, logits_of
from training.networks.pictures import pixels
from training.optim.ema import average_of, constant_length, follow
from training.optim.muon import Muon
from training.optim.schedule import Schedule, rate_factor
from training.options import described
from training.recipe import Batch, Parts, Resumable

FEW_ROWS: Final = 20_000
GOALS: Final = {
    "mnist": {"accuracy": 0.9975, "nll": 0.010, "ece": 0.001},
    "cifar10": {"accuracy": 0.955},
}


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Defaults for photos, after airbench94's Muon recipe (Jordan 2024); `for_digits` says what handwriting changes."""

    widths: tuple[int, ...] = described((64, 256, 256), "channels of each stage; the last repeats as needed")
    epochs: int = described(8, "times that every row is seen")
    batch_size: int = described(2000, "rows per optimisation step")
    # What a CPU's caches hold.
    forward_rows: int = described(500, "rows per forward pass; norm statistics are over these")
    lr_filters: float = described(0.24, "learning rate of the convolutions (Muon)")
    lr_bias: float = described(0.053, "learning rate of the biases")
    lr_head: float = described(0.67, "learning rate of the last layer")
    schedule: Schedule = described("linear", "how the learning rates change over the run")
    momentum: float = described(0.85, "of the biases and the last layer")
    # The filters need none: Muon fixes their norm.
    weight_decay: float = described(4e-3, "of the biases and the last layer")
    label_smoothing: float = described(0.2, "share of each label's target that is given to the others")
    whitening_bias_epochs: float = described(3.0, "epochs after which the first layer no longer changes")
    shift: int = described(2, "augmentation: pixels that a picture is moved by at most")
    cut_out: int = described(0, "augmentation: side of the square that is blanked, in pixels")
    mirror: bool = described(True, "augmentation: mirror; the served model then averages both views")
    handwriting: float = described(0.0, "augmentation: how far handwriting is bent and turned, 1 is ordinary")
    ema_steps: float = described(25.0, "steps over which the weights are averaged for serving")


def for_digits(h: Hyperparameters) -> Hyperparameters:
    """Bent and turned, never mirrored; and no smoothing of labels, since the goal is the likelihood."""
    return replace(
        h,
        widths=(40, 80, 160),
        epochs=16,
        batch_size=500,
        lr_filters=0.1,
        lr_bias=0.03,
        lr_head=0.4,
        label_smoothing=0.0,
        shift=0,
        mirror=False,
        handwriting=1.0,
        ema_steps=200.0,
    )


def for_few(h: Hyperparameters, rows: int) -> Hyperparameters:
    """A folder of `rows` pictures: smaller batches and more epochs, so that there are some 1,000 steps to learn in."""
    batch_size = min(500, max(16, 2 ** int(math.log2(max(rows, 32) / 16))))
    epochs = min(100, max(10, round(1000 * batch_size / rows)))
    return replace(
        h,
        widths=(32, 64, 128, 256),
        batch_size=batch_size,
        epochs=epochs,
        # A step of Muon has a fixed length, whatever the batch: shorter ones where the gradient is noisier.
        lr_filters=h.lr_filters * math.sqrt(batch_size / h.batch_size),
        weight_decay=h.weight_decay * batch_size / h.batch_size,
        shift=4,
    )


def for_dataset(dataset: ImageDataset) -> Hyperparameters:
    h = Hyperparameters()
    if len(dataset.train_x) < FEW_ROWS:
        h = for_few(h, len(dataset.train_x))
    return for_digits(h) if isinstance(dataset.picture, DigitPicture) else h


class Classifier(Resumable):
    """A `Recipe`: the network, its moving average, and its three optimisers in one."""

    def __init__(
        self, dataset: ImageDataset, h: Hyperparameters, *, seed: int, accelerator: Accelerator, compiled: bool = False
    ) -> None:
        self.h = h
        self.accelerator = accelerator
        self.held = (dataset.held_x, dataset.held_y)
        torch.manual_seed(seed)
        height, width, channels = dataset.train_x.shape[1:]
        network = ConvNet(
            channels=channels,
            classes=len(dataset.labels),
            widths=widths_for(height, width, base=h.widths),
        )
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        # Some 5,000 rows give the covariance of 12 values well enough; from all over, since classes may lie in order.
        network.whiten_from(pixels(dataset.train_x[:: max(1, len(dataset.train_x) // 5000)]))
        self.average = average_of(network, accelerator.device)
        filters = [p for name, p in network.named_parameters() if p.ndim == 4 and p.requires_grad]
        whitening = [network.whiten.bias]
        biases = [p for n, p in network.named_parameters() if p.ndim == 1 and p.requires_grad and n != "whiten.bias"]
        head = [network.head.weight]
        self.optimisers: tuple[torch.optim.Optimizer, ...] = (
            Muon(filters, lr=h.lr_filters, momentum=0.6),
            torch.optim.SGD(
                [
                    {"params": whitening, "lr": h.lr_bias, "weight_decay": h.weight_decay / h.lr_bias},
                    {"params": biases, "lr": h.lr_bias, "weight_decay": h.weight_decay / h.lr_bias},
                    {"params": head, "lr": h.lr_head, "weight_decay": h.weight_decay / h.lr_head},
                ],
                momentum=h.momentum,
                nesterov=True,
            ),
        )
        self.base_rates = [[g["lr"] for g in o.param_groups] for o in self.optimisers]
        self.bare = network
        self.network = accelerator.prepare(torch.compile(network) if compiled else network)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self._set_rates(batch)
        # Augmented whole, then shared out: the same rows whatever the number of processes.
        x = self._augment(batch)[batch.share].contiguous(memory_format=torch.channels_last)
        y = batch.y[batch.share]
        self.network.train()
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss, right = torch.zeros((), device=x.device), torch.zeros((), device=x.device)
        for x_part, y_part in self._parts(x, y):
            with self.accelerator.autocast():
                logits = self.network(x_part).float()
            part = F.cross_entropy(logits, y_part, label_smoothing=self.h.label_smoothing) * (len(y_part) / len(y))
            self.accelerator.backward(part)
            loss += part.detach()
            right += (logits.argmax(1) == y_part).sum()
        for optimiser in self.optimisers:
            optimiser.step()
        follow(self.average, self.bare, constant_length(self.h.ema_steps, position=batch.position))
        return {"loss": loss, "accuracy": right / len(y)}

    def measure(self) -> dict[str, float]:
        return held_figures(self.logits(self.held[0]), self.held[1], self.optimisers[0])

    def logits(self, x: Tensor) -> Tensor:
        """Logits of the moving average, on (N, H, W, C) uint8, as exported: with the mirrored view if there is one."""
        return logits_of(Logits(self.average.eval(), mirror=self.h.mirror), x, self.accelerator)

    def served(self) -> nn.Module:
        return Logits(self.average, mirror=self.h.mirror).to("cpu").eval()

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "optimisers": self.optimisers}

    def _parts(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for i in range(0, len(x), self.h.forward_rows):
            yield x[i : i + self.h.forward_rows], y[i : i + self.h.forward_rows]

    def _set_rates(self, batch: Batch) -> None:
        factor = rate_factor(self.h.schedule, batch.progress)
        for optimiser, rates in zip(self.optimisers, self.base_rates, strict=True):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        # The whitening layer's bias settles early; from then on the layer is constant, and one process alone need
        # not carry the gradient down to it (several must all see the same parameters).
        moves = batch.progress * self.h.epochs < self.h.whitening_bias_epochs
        if not moves:
            self.optimisers[1].param_groups[0]["lr"] = 0.0
        if self.accelerator.num_processes == 1:
            assert self.bare.whiten.bias is not None
            self.bare.whiten.requires_grad_(False)
            self.bare.whiten.bias.requires_grad_(moves)

    def _augment(self, batch: Batch) -> Tensor:
        x = pixels(batch.x)
        h = self.h
        if h.handwriting:
            x = augment.handwrite(x, batch.generator, strength=h.handwriting)
        if h.mirror:
            x = augment.mirror_alternately(x, batch.index, epoch=batch.epoch)
        if h.shift:
            x = augment.shift(x, batch.generator, pixels=h.shift)
        if h.cut_out:
            x = augment.cut_out(x, batch.generator, side=h.cut_out)
        return x


class Logits(nn.Module):
    """(N, H, W, C) uint8 -> logits (N, K), normalisation inside; with `mirror`, the mean of the picture's two views."""

    def __init__(self, network: nn.Module, *, mirror: bool) -> None:
        super().__init__()
        self.network = network
        self.mirror = mirror

    def forward(self, image: Tensor) -> Tensor:
        x = pixels(image)
        logits: Tensor = self.network(x)
        return (logits + self.network(x.flip(-1))) / 2 if self.mirror else logits
