"""Training of a few-step denoiser: a teacher's trajectories, and a discriminator beside them."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from training.data.base import ImageDataset
from training.families.diffusion.network import Denoiser
from training.families.diffusion.publish import noised
from training.families.diffusion.trajectories import Trajectories, watched
from training.metrics.reference_classifiers import ReferenceClassifiers
from training.networks.adversarial import Discriminator
from training.networks.pictures import pixels
from training.optim.adversarial import critic_loss, generator_loss, squared_slope
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import risen
from training.options import described
from training.recipe import Batch, Parts, Resumable


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Defaults for digits of 28x28 pixels."""

    rows: int = described(16_384, "trajectories that the teacher draws")
    steps: int = described(10, "evaluations that it takes for each")
    epochs: int = described(10, "times that every real row is seen")
    batch_size: int = described(64, "rows per optimisation step; a multiple of 16")
    lr: float = described(8e-4, "learning rate of the denoiser (Adam)")
    lr_critic: float = described(1e-3, "learning rate of the discriminator (Adam)")
    adversarial: float = described(0.15, "weight of the discriminator's opinion beside the distance to the teacher")
    critic_width: int = described(48, "channels of the discriminator's maps")
    critic_hidden: int = described(192, "units of its dense layer")
    penalty: float = described(0.3, "weight of its squared slope, R1 on real pictures and R2 on drawn ones")
    # Once the student is near, a discriminator that may be steeper sees what a smooth one overlooks.
    late_from: float = described(0.42, "share of the run from which the next two hold instead")
    late_penalty: float = described(0.02, "weight of the squared slope from then on")
    late_adversarial: float = described(0.3, "weight of the discriminator's opinion from then on")
    penalty_every: int = described(8, "steps between slopes; their weight is as many times larger")
    rise_steps: int = described(200, "steps over which the learning rates rise; a tenth of the run at most")
    fall: float = described(0.4, "share of the run at its end over which they fall to 0")
    unlabelled: float = described(0.1, "share of rows whose label is left out")
    ema_steps: float = described(500.0, "steps over which the weights are averaged for serving")


class Trainer(Resumable):
    """A `Recipe`: the student, its average, and the discriminator.

    The student learns what a consistency model is (Song et al. 2023, arXiv:2303.01469): every point of a trajectory
    of the teacher's ordinary differential equation to that trajectory's end. A mean square alone blurs what one
    evaluation cannot know, so a discriminator judges beside it, of the student's ends and of what it makes of real
    pictures under noise (Kim et al. 2024, arXiv:2310.02279, section 3.2; Sauer et al. 2023, arXiv:2311.17042).
    """

    def __init__(
        self,
        dataset: ImageDataset,
        h: Hyperparameters,
        *,
        teacher: Denoiser,
        drawn: Trajectories,
        classifiers: ReferenceClassifiers | None,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        self.h, self.accelerator, self.drawn, self.classifiers = h, accelerator, drawn, classifiers
        self.held_y, self.classes = dataset.held_y, dataset.classes
        torch.manual_seed(seed)
        height, width, channels = dataset.train_x.shape[1:]
        self.student = copy.deepcopy(teacher).to(accelerator.device).requires_grad_(True)
        self.critic = Discriminator(
            picture=(channels, height, width), classes=self.classes + 1, width=h.critic_width, hidden=h.critic_hidden
        ).to(accelerator.device)
        for network in (self.student, self.critic):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        self.average = average_of(self.student, accelerator.device)
        # The average of the epoch with the lowest held-out FD ratio so far: what is served.
        self.best, self.best_ratio = copy.deepcopy(self.average), math.inf
        self.optimisers = [
            torch.optim.Adam(self.student.parameters(), lr=h.lr, betas=(0.5, 0.99), fused=True),
            torch.optim.Adam(self.critic.parameters(), lr=h.lr_critic, betas=(0.0, 0.99), fused=True),
        ]

    def step(self, batch: Batch) -> dict[str, Tensor]:
        h = self.h
        self._set_rates(batch)
        real, generator = pixels(batch.x), batch.generator
        told = torch.rand(len(real), generator=generator, device=real.device) >= h.unlabelled
        label = torch.where(told, batch.y, self.classes)
        # Most rows from the teacher's trajectories, of the same labels; the others are real pictures under noise.
        led = len(real) * 3 // 4
        x, sigma, end = self.drawn.like(label[:led], generator)
        level = self.drawn.levels(len(real) - led, generator)
        noise = torch.randn(real[led:].shape, generator=generator, device=real.device)
        x = torch.cat([x, noised(real[led:], noise, level)]).contiguous(memory_format=torch.channels_last)
        return self._descend(batch, x, torch.cat([sigma, level]), label, end, real)

    def _descend(
        self, batch: Batch, x: Tensor, sigma: Tensor, label: Tensor, end: Tensor, real: Tensor
    ) -> dict[str, Tensor]:
        h, led = self.h, len(end)
        late = batch.progress >= h.late_from
        penalty = h.late_penalty if late else h.penalty
        adversarial = h.late_adversarial if late else h.adversarial
        with self.accelerator.autocast():
            made = self.student(x, sigma, label)

        both = torch.cat([real, made.detach()])
        sloped = batch.position % h.penalty_every == 0
        both.requires_grad_(sloped)
        with self.accelerator.autocast():
            scores = self.critic(both, torch.cat([label, label]))
        real_score, made_score = scores.chunk(2)
        critic = critic_loss(real_score, made_score)
        total = critic
        if sloped:
            total = critic + penalty * h.penalty_every * squared_slope(scores, both).mean()
        self._update(1, total)

        self.critic.requires_grad_(False)
        with self.accelerator.autocast():
            fooled = self.critic(made, label)
        self.critic.requires_grad_(True)
        generator = generator_loss(real_score.detach(), fooled)
        error = (made[:led] - end).square().mean((1, 2, 3))
        distance = (self.student.weight(sigma[:led]) * error).mean()
        self._update(0, distance + adversarial * generator)
        follow(self.average, self.student, constant_length(h.ema_steps, position=batch.position))
        return {
            "distance": distance.detach(),
            "generator": generator.detach(),
            "critic": critic.detach(),
            "told_apart": (real_score > made_score).float().mean(),
        }

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """The average's pictures beside held-out rows, in one evaluation and in two; the best in both is kept."""
        if self.classifiers is None:
            self.best.load_state_dict(self.average.state_dict())
            return {}
        found = watched(self.average, self.classifiers, self.held_y, self.accelerator)
        ratio = sum(value for name, value in found.items() if name.startswith("held_fd_ratio"))
        if ratio < self.best_ratio:
            self.best_ratio = ratio
            self.best.load_state_dict(self.average.state_dict())
        return {**found, "lr": float(self.optimisers[0].param_groups[0]["lr"])}

    def parts(self) -> dict[str, Parts]:
        return {"networks": (self.student, self.critic, self.average, self.best), "optimisers": self.optimisers}

    def state(self) -> dict[str, Any]:
        return super().state() | {"best_ratio": self.best_ratio}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.best_ratio = state["best_ratio"]

    def _update(self, player: int, loss: Tensor) -> None:
        self.optimisers[player].zero_grad()
        self.accelerator.backward(loss)
        self.optimisers[player].step()

    def _set_rates(self, batch: Batch) -> None:
        rise = risen(self.h.rise_steps, position=batch.position, progress=batch.progress)
        fall = min(1.0, (1 - batch.progress) / self.h.fall)
        for optimiser, rate in zip(self.optimisers, (self.h.lr, self.h.lr_critic), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * rise * fall
