"""A generator against a discriminator: one training for both recipes, with the label or without.

The lecture's minimax game made stable: each drawn picture is compared with a real one (relativistic pairing,
Jolicoeur-Martineau 2019, arXiv:1807.00734), and the discriminator's slope is held small on both kinds (R1 and R2,
Mescheder et al. 2018, arXiv:1801.04406), which together converge where the plain game circles or collapses (Huang et
al. 2024, arXiv:2501.05441). What is served is the generator's moving average.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training.data.base import ImageDataset
from training.families.gan.collapse import CollapseWatch
from training.networks.adversarial import TOGETHER, Discriminator, Generator
from training.networks.pictures import pixels
from training.optim.adversarial import critic_loss, generator_loss, squared_slope
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import rate_factor, risen
from training.options import described
from training.recipe import Batch, Parts, Resumable

WATCHED: Final = 2500  # pictures drawn after every epoch, at most
WATCH_SEED: Final = 1
ROWS_PER_PASS: Final = 500
PROBED: Final = 2000  # held-out rows in pairs with which the discriminator is asked


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Defaults for digits, chosen on MNIST's held-out rows."""

    latent: int = described(64, "numbers that a picture is drawn from, standard normal")
    width: int = described(64, "channels of the generator's coarse map")
    hidden: int = described(256, "units of the generator's dense layers")
    critic_width: int = described(64, "channels of the discriminator's maps")
    critic_hidden: int = described(256, "units of the discriminator's dense layer")
    epochs: int = described(8, "times that every row is seen")
    until: int = described(0, "end after so many of them, with the schedules of all; 0: at the end")
    batch_size: int = described(64, "pairs per optimisation step; a multiple of 8")
    lr: float = described(1e-3, "learning rate of both (Adam)")
    hold: float = described(0.3, "share of the run before the learning rate falls, by half a cosine")
    rise_steps: int = described(200, "steps over which the learning rates rise; a tenth of the run at most")
    penalty: float = described(0.3, "weight of the squared slope, R1 on real pictures and R2 on drawn ones, at first")
    penalty_end: float = described(
        0.003, "the same at the end: it falls by equal factors while the learning rate falls"
    )
    penalty_every: int = described(8, "steps between slopes; their weight is as many times larger")
    ema_steps: float = described(1000.0, "steps over which the generator is averaged for serving")


@dataclass(frozen=True, kw_only=True)
class HeldOutFidelity:
    """What the drawn pictures are like beside held-out rows: `fd_ratio` 1 is what real ones have."""

    fd_ratio: float
    precision: float
    recall: float
    class_share: float | None = None


Compare = Callable[[Tensor, Tensor | None], HeldOutFidelity]
"""Pictures (N, H, W, C) in [0, 1], the labels asked for (N,) or None -> what they are like. Selection only."""


class Trainer(Resumable):
    """A `Recipe`: both networks, their optimisers, the generator's average, and the watch over it.

    With `conditional` both are given the label, and pairs are of the same class.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        h: Hyperparameters,
        *,
        conditional: bool,
        compare: Compare,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        self.h, self.accelerator, self.compare, self.conditional = h, accelerator, compare, conditional
        self.held_x, self.held_y = dataset.held_x, dataset.held_y
        height, width, channels = dataset.train_x.shape[1:]
        shape, classes = (channels, height, width), dataset.classes if conditional else 0
        torch.manual_seed(seed)
        self.generator: nn.Module = Generator(
            picture=shape, latent=h.latent, classes=classes, width=h.width, hidden=h.hidden
        )
        self.critic: nn.Module = Discriminator(
            picture=shape, classes=classes, width=h.critic_width, hidden=h.critic_hidden
        )
        for network in (self.generator, self.critic):
            network.to(accelerator.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stub
        self.average = average_of(self.generator, accelerator.device)
        # The average of the epoch with the lowest held-out FD ratio so far: what is served.
        self.best, self.best_ratio = copy.deepcopy(self.average), math.inf
        self.optimisers = [
            # No momentum: the other player has moved on (Karras et al. 2018, appendix A).
            torch.optim.Adam(network.parameters(), lr=h.lr, betas=(0.0, 0.99), fused=True)
            for network in (self.generator, self.critic)
        ]
        self.watch = CollapseWatch()
        self.epochs, self.steps, self.progress = 0, 0, 0.0
        # As many as there are real ones: more would be compared with none.
        self.watched = min(WATCHED, max(len(dataset.train_x), len(dataset.held_x)))

    @property
    def stopped(self) -> str | None:
        """Why the run is over before its time; the loop asks after every epoch."""
        if self.h.until and self.epochs >= self.h.until:
            return f"asked to end after {self.h.until} of {self.h.epochs} epochs"
        return self.watch.reason

    def step(self, batch: Batch) -> dict[str, Tensor]:
        h = self.h
        self._set_rates(batch)
        self.steps, self.progress = batch.position + 1, batch.progress
        z = torch.randn(len(batch.x), h.latent, generator=batch.generator, device=batch.x.device)[batch.share]
        real, label = pixels(batch.x[batch.share]), batch.y[batch.share] if self.conditional else None
        with self.accelerator.autocast():
            generated = self.generator(z, label)

        both = torch.cat([real, generated.detach()])
        sloped = batch.position % h.penalty_every == 0
        both.requires_grad_(sloped)
        with self.accelerator.autocast():
            scores = self.critic(both, None if label is None else torch.cat([label, label]))
        real_score, generated_score = scores.chunk(2)
        critic = critic_loss(real_score, generated_score)
        total = critic
        if sloped:
            # Means over each half, added up: gamma / 2 of R1 and of R2.
            total = critic + self._penalty(batch) * h.penalty_every * squared_slope(scores, both).mean()
        self._descend(1, self.critic, total)

        self.critic.requires_grad_(False)
        with self.accelerator.autocast():
            fooled = self.critic(generated, label)
        self.critic.requires_grad_(True)
        generator = generator_loss(real_score.detach(), fooled)
        self._descend(0, self.generator, generator)
        follow(self.average, self.generator, constant_length(h.ema_steps, position=batch.position))
        return {
            "critic": critic.detach(),
            "generator": generator.detach(),
            "told_apart": (real_score > generated_score).float().mean(),
        }

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """The average's pictures beside held-out rows; keeps the best so far and looks whether it has collapsed."""
        n = self.watched
        z = torch.randn(n, self.h.latent, generator=torch.Generator().manual_seed(WATCH_SEED))
        label = self.held_y.repeat(-(-n // len(self.held_y)))[:n] if self.conditional else None
        generated = self.draw(self.average, z, label)
        seen = self.compare(generated.permute(0, 2, 3, 1), label)
        told_apart = self._told_apart(generated, label)
        if seen.fd_ratio < self.best_ratio:
            self.best_ratio = seen.fd_ratio
            self.best.load_state_dict(self.average.state_dict())
        self.epochs += 1
        reason = self.watch.see(
            recall=seen.recall,
            told_apart=told_apart,
            progress=self.progress,
            steps=self.steps,
            rows=len(self.held_x),
        )
        if reason is not None:
            self.accelerator.print(f"Stopped, the best so far is kept: {reason}")
        row = {"held_fd_ratio": seen.fd_ratio, "held_precision": seen.precision, "held_recall": seen.recall}
        if seen.class_share is not None:
            row["held_class_share"] = seen.class_share
        return row | {"held_told_apart": told_apart, "lr": float(self.optimisers[0].param_groups[0]["lr"])}

    @torch.no_grad()
    def draw(self, generator: nn.Module, latent: Tensor, label: Tensor | None) -> Tensor:
        """(N, Z), (N,) or None -> (N, C, H, W) in [0, 1], on the CPU, in fp32."""
        parts = []
        for i in range(0, len(latent), ROWS_PER_PASS):
            rows = slice(i, i + ROWS_PER_PASS)
            y = None if label is None else label[rows].to(self.accelerator.device)
            parts.append(generator(latent[rows].to(self.accelerator.device), y).cpu())
        return torch.cat(parts)

    def _told_apart(self, generated: Tensor, label: Tensor | None) -> float:
        """Of pairs of a held-out row and a drawn picture of the same label, the share that the critic orders right."""
        n = min(PROBED, len(self.held_x), len(generated)) // TOGETHER * TOGETHER
        y = None if label is None else label[:n].to(self.accelerator.device)
        ends = (pixels(self.held_x[:n]), generated[:n])
        with self.accelerator.autocast():
            real, made = (self.critic(x.to(self.accelerator.device), y) for x in ends)
        return float((real > made).float().mean())

    def parts(self) -> dict[str, Parts]:
        return {"networks": (self.generator, self.critic, self.average, self.best), "optimisers": self.optimisers}

    def state(self) -> dict[str, Any]:
        return super().state() | {"best_ratio": self.best_ratio, "epochs": self.epochs, "watch": self.watch.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.best_ratio, self.epochs = state["best_ratio"], state["epochs"]
        self.watch.load_state(state["watch"])

    def _descend(self, player: int, network: nn.Module, loss: Tensor) -> None:
        self.optimisers[player].zero_grad()
        self.accelerator.backward(loss)
        if self.accelerator.num_processes > 1:
            for p in network.parameters():
                p.grad = self.accelerator.reduce(p.grad, "mean")
        self.optimisers[player].step()

    def _set_rates(self, batch: Batch) -> None:
        rise = risen(self.h.rise_steps, position=batch.position, progress=batch.progress)
        fall = rate_factor("cosine", self._fallen(batch))
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.h.lr * rise * fall

    def _penalty(self, batch: Batch) -> float:
        # Strong at first, when the critic would run away; weak at the end, when it must see what is fine.
        return self.h.penalty * math.pow(self.h.penalty_end / self.h.penalty, self._fallen(batch))

    def _fallen(self, batch: Batch) -> float:
        return max(0.0, (batch.progress - self.h.hold) / (1 - self.h.hold))
