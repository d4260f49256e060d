"""Training of the net that says in which direction a digit moves, and of its twin without recurrence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.moving_digits import LABELS, SIDE, MovingDigits, clips
from training.families.motion.network import MotionNet, waves
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import rate_factor, risen
from training.options import described
from training.recipe import Batch, Parts, Resumable

WARM_UP: Final = 25  # steps
CLIPS: Final = 1600  # of an epoch
HELD_ROWS: Final = 100  # clips at a time


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    widths: tuple[int, ...] = described((16, 32, 64), "channels of the three convolutions")
    features: int = described(128, "numbers that say what a frame shows")
    hidden: int = described(128, "numbers of the GRU's state")
    epochs: int = described(5, f"times that {CLIPS} new clips are seen")
    batch_size: int = described(32, "clips per optimisation step")
    lr: float = described(4e-3, "learning rate (Adam)")
    ema_steps: float = described(30.0, "steps over which the weights are averaged for serving")


class _Both(nn.Module):
    """Frames (B, T, H, W) -> logits (B, T, L), and where the digit is seen (B, T, 4 * len(WAVES))."""

    def __init__(self, net: MotionNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.net.see(x)
        return self.net.head(self.net.remember(seen)), self.net.place(seen)


class MotionTrainer(Resumable):
    """A `Recipe`. A batch's rows say how many clips are made, of digits drawn at random."""

    def __init__(
        self, data: MovingDigits, h: Hyperparameters, *, seed: int, accelerator: Accelerator, recurrent: bool = True
    ) -> None:
        self.h, self.accelerator, self.data = h, accelerator, data
        torch.manual_seed(seed)
        network = MotionNet(
            len(LABELS), side=SIDE, widths=h.widths, features=h.features, hidden=h.hidden, recurrent=recurrent
        )
        self.average = average_of(network, accelerator.device)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=h.lr)
        self.bare, self.network = network, accelerator.prepare(_Both(network))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        factor = rate_factor("cosine", batch.progress)
        factor *= risen(WARM_UP, position=batch.position, progress=batch.progress)
        for group in self.optimiser.param_groups:
            group["lr"] = self.h.lr * factor
        self.optimiser.zero_grad()
        generator = torch.Generator().manual_seed(batch.generator.initial_seed())
        chosen = torch.randint(len(self.data.train_digits), (len(batch.x),), generator=generator)
        video, labels, place = clips(self.data.train_digits[chosen], generator)
        device = self.accelerator.device
        x, y = video[batch.share].to(device).float() / 255, labels[batch.share].to(device)
        with self.accelerator.autocast():
            logits, placed = (part.float() for part in self.network(x))
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        miss = F.mse_loss(placed, waves(place[batch.share].to(device), SIDE))
        self.accelerator.backward(loss + miss)
        nn.utils.clip_grad_norm_(self.bare.parameters(), 1.0)
        self.optimiser.step()
        follow(self.average, self.bare, constant_length(self.h.ema_steps, position=batch.position))
        return {
            "loss": loss.detach(),
            "miss": miss.detach(),
            "accuracy": (logits.detach().argmax(2) == y).float().mean(),
        }

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        self.average.eval()
        device = self.accelerator.device
        parts = [self.data.held_video[i : i + HELD_ROWS] for i in range(0, len(self.data.held_video), HELD_ROWS)]
        logits = torch.cat([self.average(part.to(device).float() / 255)[0].float().cpu() for part in parts])
        y = self.data.held_labels
        return {
            "held_loss": float(F.cross_entropy(logits.flatten(0, 1), y.flatten())),
            "held_accuracy": float((logits.argmax(2) == y).float().mean()),
            "lr": float(self.optimiser.param_groups[0]["lr"]),
        }

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "optimiser": self.optimiser}
