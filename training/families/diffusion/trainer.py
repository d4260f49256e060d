"""Training of a denoiser: noise levels, guidance, and two moving averages of the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from accelerate import Accelerator
from torch import Tensor

from training.data.base import ImageDataset
from training.families.diffusion.network import Denoiser
from training.families.diffusion.publish import fresh, noised
from training.networks.pictures import pixels
from training.optim.ema import average_of, follow, power_function
from training.optim.muon import ScaledMuon
from training.optim.schedule import risen
from training.options import described
from training.recipe import Batch, Parts, Resumable

HELD_ROWS: Final = 2000  # enough for a curve
HELD_ROWS_PER_PASS: Final = 250
FAR: Final = (5.0, 80.0)
# Guidance is trained about the level at which a digit is decided, and little beyond: in noise alone it would only make
# the pictures of a class alike, and at the edges there is nothing left to decide (Kynkaanniemi et al. 2024,
# arXiv:2404.07724, on intervals).
GUIDED_ABOUT: Final = 0.6
GUIDED_SPREAD: Final = 0.6  # of the level's logarithm
# Exponents of the two averages.
POWERS: Final = {"long": 7.0, "short": 17.0}


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Defaults for digits of 28x28 pixels."""

    widths: tuple[int, ...] = described((48, 96), "channels at half and at a quarter of the picture's side")
    blocks: tuple[int, ...] = described((1, 2), "residual blocks before and after, and between")
    told: int = described(128, "width of the embedding of noise level and label")
    epochs: int = described(50, "times that every row is seen")
    batch_size: int = described(128, "rows per optimisation step")
    lr_filters: float = described(8e-3, "learning rate of the convolutions (Muon)")
    lr: float = described(3e-3, "learning rate of everything else (Adam)")
    rise_steps: int = described(100, "steps over which the learning rates rise; a tenth of the run at most")
    fall: float = described(0.3, "share of the run at its end over which they fall to 0; constant before")
    unlabelled: float = described(0.1, "share of rows whose label is left out, for guidance and sampling without one")
    # Where a digit is decided: from noise that hides its strokes to noise that leaves only its edges unsure.
    log_sigma_mean: float = described(-0.7, "of the noise levels trained on, pixels in [0, 1]")
    log_sigma_spread: float = described(1.2, "of the noise levels trained on")
    # Sampling begins with noise alone: with so much of it that the mean picture, which is missing, does not count.
    far: float = described(0.04, "share of rows at still higher levels, once the learning rates fall")
    guidance: float = described(1.8, "how much more than it is a label learns to count, once the learning rates fall")


class Trainer(Resumable):
    """A `Recipe`: the denoiser, two moving averages of it, and its optimisers."""

    def __init__(
        self, dataset: ImageDataset, h: Hyperparameters, *, seed: int, accelerator: Accelerator, compiled: bool = False
    ) -> None:
        self.h = h
        self.accelerator = accelerator
        self.held = dataset.held_x
        self.classes = dataset.classes
        torch.manual_seed(seed)
        network = fresh(dataset, widths=h.widths, blocks=h.blocks, told=h.told)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        self.averages = {name: average_of(network, accelerator.device) for name in POWERS}
        filters = [p for p in network.parameters() if p.ndim == 4]
        others = [p for p in network.parameters() if p.ndim != 4]
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "filters": ScaledMuon(filters, lr=h.lr_filters),
            "others": torch.optim.Adam(others, lr=h.lr, betas=(0.9, 0.99)),
        }
        self.bare = network
        self.network = accelerator.prepare(torch.compile(network) if compiled else network)
        self.held_losses: dict[str, float] = {}

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self._set_rates(batch)
        x0 = pixels(batch.x)
        sigma = self._sigmas(
            len(x0), batch.generator, x0.device, far=self.h.far if self._falls(batch.progress) else 0.0
        )
        noise = torch.randn(x0.shape, generator=batch.generator, device=x0.device)
        told = torch.rand(len(x0), generator=batch.generator, device=x0.device) >= self.h.unlabelled
        label = torch.where(told, batch.y, self.classes)
        x0, noise, sigma, label = (t[batch.share] for t in (x0, noise, sigma, label))
        self.network.train()
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()
        x = noised(x0, noise, sigma)
        aim = self._guided(x0, x, sigma, label) if self._falls(batch.progress) else x0
        with self.accelerator.autocast():
            denoised = self.network(x, sigma, label)
        loss = self._loss(denoised, aim, sigma)
        self.accelerator.backward(loss)
        for optimiser in self.optimisers.values():
            optimiser.step()
        for name, average in self.averages.items():
            follow(average, self.bare, power_function(POWERS[name], position=batch.position))
        return {"loss": loss.detach()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """The loss on held-out rows by each average, always the same noise; without a label, so that guidance, which
        is a bias on purpose, does not count against the average that has more of it."""
        x = self.held[:HELD_ROWS]
        generator = torch.Generator().manual_seed(0)
        losses = dict.fromkeys(self.averages, 0.0)
        for rows in torch.split(torch.arange(len(x)), HELD_ROWS_PER_PASS):
            x0 = pixels(x[rows])
            sigma = self._sigmas(len(x0), generator, x0.device)
            noise = torch.randn(x0.shape, generator=generator)
            x0, noise, sigma = (t.to(self.accelerator.device) for t in (x0, noise, sigma))
            for name, network in self.averages.items():
                with self.accelerator.autocast():
                    denoised = network.eval()(noised(x0, noise, sigma), sigma, self._nothing(x0))
                losses[name] += float(self._loss(denoised, x0, sigma)) * len(rows) / len(x)
        self.held_losses = losses
        return {
            "held_loss": min(losses.values()),
            **{f"held_loss_{name}": loss for name, loss in losses.items()},
            "lr": float(self.optimisers["others"].param_groups[0]["lr"]),
        }

    @property
    def best(self) -> Denoiser:
        """The average with the lower loss on the held-out rows at the last `measure`."""
        return self.averages[min(self.held_losses, key=self.held_losses.__getitem__)]

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "averages": self.averages, "optimisers": self.optimisers}

    def state(self) -> dict[str, Any]:
        return super().state() | {"held_losses": self.held_losses}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.held_losses = state["held_losses"]

    def _loss(self, denoised: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        error = (denoised - x0).square().mean((1, 2, 3))
        return (self.bare.weight(sigma) * error).mean()

    @torch.no_grad()
    def _guided(self, x0: Tensor, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """What to aim at so that the net itself learns classifier-free guidance, which then costs no second evaluation.

        With D(x, label) - D(x), as the average has them now, times 1 - 1/w on top of x0, the only place of rest is
        D(x, label) = E[x0 | x] + w (E[x0 | x, label] - E[x0 | x]): guidance of weight w. In the manner of Tang et al.
        2025, arXiv:2502.12154. Rows without a label aim at x0.
        """
        weight = 1 + (self.h.guidance - 1) * (-((sigma / GUIDED_ABOUT).log() / GUIDED_SPREAD).square() / 2).exp()
        network = self.averages["short"].eval()
        with self.accelerator.autocast():
            towards = network(x, sigma, label) - network(x, sigma, self._nothing(x0))
        aim: Tensor = x0 + (1 - 1 / weight)[:, None, None, None] * towards
        return aim

    def _nothing(self, rows: Tensor) -> Tensor:
        """The label of none, for so many rows."""
        return torch.full((len(rows),), self.classes, device=rows.device)

    def _falls(self, progress: float) -> bool:
        return progress >= 1 - self.h.fall

    def _sigmas(self, rows: int, generator: torch.Generator, device: torch.device, *, far: float = 0.0) -> Tensor:
        """Log-normal, one from each of `rows` equally probable parts: a batch's loss then varies less. The last share
        `far` of them is even in its logarithm over `FAR` instead."""
        part = torch.arange(rows) + torch.rand(rows, generator=generator, device=generator.device).cpu()
        normal = math.sqrt(2) * torch.erfinv((2 * part / rows - 1).clamp(-0.99999, 0.99999)).to(device)
        sigma = (self.h.log_sigma_mean + self.h.log_sigma_spread * normal).exp()
        if not far:
            return sigma
        low, high = (math.log(value) for value in FAR)
        beyond = ((part / rows - (1 - far)) / far).to(device)
        return torch.where(beyond >= 0, (low + beyond * (high - low)).exp(), sigma)

    def _set_rates(self, batch: Batch) -> None:
        rise = risen(self.h.rise_steps, position=batch.position, progress=batch.progress)
        fall = min(1.0, (1 - batch.progress) / self.h.fall)
        for optimiser, rate in zip(self.optimisers.values(), (self.h.lr_filters, self.h.lr), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * rise * fall
