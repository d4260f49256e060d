"""Training of the lip reader: new clips at every step, the cut moved about, mirrored, some frames blanked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.grid import LABELS, LipClips
from training.families.lips.augmentation import plan, starts
from training.families.lips.network import HALF, HEIGHT, LEFT, TOP, WIDTH, LipReader, halved, middle, standardised
from training.optim.ema import average_of, constant_length, follow
from training.optim.muon import Muon
from training.optim.schedule import rate_factor, risen
from training.options import described
from training.recipe import Batch, Parts, Resumable

WARM_UP: Final = 60  # steps
HELD_ROWS: Final = 15  # clips at a time


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    widths: tuple[int, ...] = described((24, 48, 64, 96, 128), "channels of the five convolutions")
    features: int = described(256, "numbers that say what a frame shows")
    hidden: int = described(256, "numbers of a GRU's state")
    dropout: float = described(0.4, "before and between the GRUs and before the last layer")
    epochs: int = described(26, "times that every clip is begun")
    batch_size: int = described(16, "clips per optimisation step")
    frames: int = described(50, "frames of a training clip")
    lr: float = described(0.04, "learning rate of the filters (Muon)")
    lr_rest: float = described(1.5e-3, "learning rate of everything else (Adam)")
    weight_decay: float = described(0.01, "of everything else")
    label_smoothing: float = described(0.1, "share of each label's target that is given to the others")
    crossing: float = described(0.3, "augmentation: at each word, how probably another clip goes on")
    shift: int = described(4, "augmentation: halved pixels that the cut is moved by at most, each way")
    blanked: int = described(8, "augmentation: neighbouring frames that are blanked at most, in every other clip")
    mirror: bool = described(True, "augmentation: mirror every other clip")
    ema_steps: float = described(100.0, "steps over which the weights are averaged for serving")


class LipTrainer(Resumable):
    """A `Recipe`. The rows of a batch are numbers of training clips."""

    def __init__(
        self, data: LipClips, h: Hyperparameters, *, seed: int, accelerator: Accelerator, causal: bool = False
    ) -> None:
        self.h, self.accelerator = h, accelerator
        torch.manual_seed(seed)
        network = LipReader(
            len(LABELS), widths=h.widths, features=h.features, hidden=h.hidden, dropout=h.dropout, causal=causal
        )
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
        train, held = data.rows("train"), data.rows("val")
        self.video = shrunk(data.frames[train])
        self.labels = torch.from_numpy(data.labels[train])
        self.cuts = [starts(data.clips[i], data.frames.shape[1]) for i in train]
        self.held = shrunk(data.frames[held]), torch.from_numpy(data.labels[held])
        self.average = average_of(network, accelerator.device)
        filters = [p for p in network.picture.parameters() if p.ndim == 4]
        chosen = {id(p) for p in filters}
        rest = [p for p in network.parameters() if id(p) not in chosen]
        self.rates = h.lr, h.lr_rest
        self.optimisers = (
            Muon(filters, lr=h.lr, momentum=0.9),
            torch.optim.AdamW(rest, lr=h.lr_rest, weight_decay=h.weight_decay),
        )
        self.bare, self.network = network, accelerator.prepare(network)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        factor = rate_factor("cosine", batch.progress)
        factor *= risen(WARM_UP, position=batch.position, progress=batch.progress)
        for optimiser, rate in zip(self.optimisers, self.rates, strict=True):
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
        x, y = self.made(batch)
        self.network.train()
        with self.accelerator.autocast():
            logits = self.network(x).float()
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten(), label_smoothing=self.h.label_smoothing)
        self.accelerator.backward(loss)
        nn.utils.clip_grad_norm_(self.bare.parameters(), 5.0)
        for optimiser in self.optimisers:
            optimiser.step()
        follow(self.average, self.bare, constant_length(self.h.ema_steps, position=batch.position))
        return {"loss": loss.detach(), "accuracy": (logits.detach().argmax(2) == y).float().mean()}

    def made(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's share of new clips: standardised frames (B, T, HEIGHT, WIDTH) and labels (B, T)."""
        h = self.h
        rng = np.random.default_rng(batch.generator.initial_seed())
        pixels, labels = [], []
        for number in batch.x.tolist():
            found = plan(number, self.cuts, h.frames, crossing=h.crossing, rng=rng)
            top, left = (int(at + rng.integers(-h.shift, h.shift + 1)) for at in (TOP, LEFT))
            x = self.video[found.clip, found.frame, top : top + HEIGHT, left : left + WIDTH]
            x = standardised(x[None].float())[0]
            if h.mirror and rng.random() < 0.5:
                x = x.flip(2)
            if h.blanked and rng.random() < 0.5:
                start = int(rng.integers(h.frames))
                x[start : start + int(rng.integers(1, h.blanked + 1))] = 0
            pixels.append(x)
            labels.append(self.labels[found.clip, found.frame])
        device = self.accelerator.device
        return torch.stack(pixels)[batch.share].to(device), torch.stack(labels)[batch.share].to(device)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        video, y = self.held
        logits = self.logits(video)
        y = y.to(logits.device)
        right = logits.argmax(2) == y
        return {
            "held_loss": float(F.cross_entropy(logits.flatten(0, 1), y.flatten())),
            "held_accuracy": float(right.float().mean()),
            "held_word_frames": float(right[y > 0].float().mean()),
            "lr": float(self.optimisers[0].param_groups[0]["lr"]),
        }

    @torch.no_grad()
    def logits(self, video: Tensor) -> Tensor:
        """The average's, of halved frames (N, T, H / 2, W / 2) -> (N, T, labels)."""
        self.average.eval()
        parts = [video[i : i + HELD_ROWS].to(self.accelerator.device) for i in range(0, len(video), HELD_ROWS)]
        return torch.cat([self.average(standardised(middle(part.float()))).float() for part in parts])

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "optimisers": self.optimisers}


def shrunk(frames: NDArray[np.uint8]) -> Tensor:
    """(N, T, H, W) uint8 -> (N, T, H / 2, W / 2) uint8: what training keeps in memory."""
    found = torch.empty(*frames.shape[:2], frames.shape[2] // HALF, frames.shape[3] // HALF, dtype=torch.uint8)
    for i, clip in enumerate(frames):
        found[i] = halved(torch.from_numpy(clip)[None])[0].round().to(torch.uint8)
    return found
