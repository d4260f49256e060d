"""Training of a classifier of spoken words."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from training.data.sound import RATE, Clip
from training.data.sound_mixing import Mixer, Wave, bend, draw_warp
from training.families.spoken.network import SpokenNet
from training.networks.sound import BEFORE, outputs, padded, steps
from training.optim.decay import adamw
from training.optim.ema import average_of, constant_length, follow
from training.optim.schedule import Schedule, rate_factor, risen
from training.options import described
from training.recipe import Batch, Parts, Resumable

ROWS_PER_PASS: Final = 50
LONGEST_S: Final = 1.6
LIGHT_FROM: Final = 0.7  # of the run: from there on clips are bent little and nothing is masked


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Chosen on the held-out clips of Speech Commands."""

    width: int = described(192, "numbers of a step between the convolutions and the GRU")
    hidden: int = described(128, "numbers of the GRU's state, in each direction")
    dropout: float = described(0.3, "before the last layer")
    smoothing: float = described(0.05, "of the labels in the loss")
    epochs: int = described(40, "times that every clip is heard")
    batch_size: int = described(64, "clips per optimisation step")
    lr: float = described(2e-3, "learning rate (AdamW)")
    schedule: Schedule = described("cosine", "how the learning rate changes over the run, after its rise")
    rise_steps: int = described(100, "steps over which the learning rate rises")
    weight_decay: float = described(0.03, "of the weights, times the learning rate")
    ema_steps: float = described(150.0, "steps over which the weights are averaged for serving")


class Trainer(Resumable):
    """A `Recipe`. A batch's rows are numbers of clips.

    Args:
        clips: to train on, with the index of the label of each.
        others: clips that are labelled `other` and heard in one of eight rows in place of the row's own.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        labels: Sequence[str],
        held: Sequence[Clip],
        h: Hyperparameters,
        *,
        seed: int,
        accelerator: Accelerator,
        others: Sequence[Clip] = (),
        other: int = 0,
    ) -> None:
        self.clips, self.held, self.h, self.others, self.other = list(clips), list(held), h, list(others), other
        index = {label: i for i, label in enumerate(labels)}
        self.y = torch.tensor([index[clip.label] for clip in clips])
        self.held_y = torch.tensor([index[clip.label] for clip in held])
        self.mixer = Mixer([], clips)
        self.accelerator = accelerator
        torch.manual_seed(seed)
        network = SpokenNet(len(labels), width=h.width, hidden=h.hidden, dropout=h.dropout)
        self.average = average_of(network, accelerator.device)
        self.optimiser = adamw(network.parameters(), lr=h.lr, weight_decay=h.weight_decay, betas=(0.9, 0.98))
        self.bare = network
        self.network = accelerator.prepare(network)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        h, device = self.h, self.accelerator.device
        for group in self.optimiser.param_groups:
            rise = risen(h.rise_steps, position=batch.position, progress=batch.progress)
            group["lr"] = h.lr * rise * rate_factor(h.schedule, batch.progress)
        generator = torch.Generator().manual_seed(
            int(torch.randint(2**62, (1,), generator=batch.generator, device=device))
        )
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        waves, y = [], []
        for i in batch.x.tolist()[batch.share]:
            if self.others and rng.random() < 1 / 8:
                clip, label = self.others[rng.integers(len(self.others))], self.other
            else:
                clip, label = self.clips[i], int(self.y[i])
            waves.append(self._heard(clip, rng))
            y.append(label)
        sound, length = tensors(waves)
        warp = draw_warp(len(waves), generator, light=batch.progress > LIGHT_FROM)
        self.network.train()
        self.optimiser.zero_grad()
        with torch.no_grad():
            mel = bend(self.bare.mel(padded(sound, BEFORE // 2)), warp, generator)
        own = (steps(length) * warp.pace).ceil().long().clamp(max=outputs(mel.shape[1]))
        with self.accelerator.autocast():
            logits = self.network.of_mel(mel.to(device), own.to(device)).float()
        target = torch.tensor(y, device=device)
        loss = F.cross_entropy(logits, target, label_smoothing=h.smoothing)
        self.accelerator.backward(loss)
        self.optimiser.step()
        follow(self.average, self.bare, constant_length(h.ema_steps, position=batch.position))
        return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == target).float().mean()}

    def _heard(self, clip: Clip, rng: np.random.Generator) -> Wave:
        """The clip a little earlier or later, louder or softer, and mostly over noise."""
        before, after = (int(rng.uniform(-0.06, 0.15) * RATE) for _ in range(2))
        wave = clip.samples[max(0, -before) : len(clip.samples) - max(0, -after)]
        wave = np.pad(wave, (max(0, before), max(0, after)))[: int(LONGEST_S * RATE)]
        level = float(np.sqrt(np.square(wave).mean())) + 1e-4
        wave = wave * np.float32(10 ** (rng.uniform(-12, 8) / 20))
        if rng.random() < 0.6:
            wave = wave + self.mixer.noise(len(wave), rng, level=level)
        clipped: Wave = np.clip(wave, -1, 1).astype(np.float32)
        return clipped

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        z = logits_of(self.average.eval(), self.held)
        return {
            "held_loss": float(F.cross_entropy(z, self.held_y)),
            "held_accuracy": float((z.argmax(1) == self.held_y).float().mean()),
        }

    def served(self) -> SpokenNet:
        return copy.deepcopy(self.average).cpu().eval()

    def parts(self) -> dict[str, Parts]:
        return {"network": self.bare, "average": self.average, "optimiser": self.optimiser}


def tensors(waves: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Recordings with zeros behind (B, N), and their lengths (B,)."""
    length = torch.tensor([len(wave) for wave in waves])
    sound = torch.zeros(len(waves), int(length.max()))
    for row, wave in zip(sound, waves, strict=True):
        row[: len(wave)] = torch.from_numpy(wave)
    return sound, length


@torch.no_grad()
def logits_of(network: SpokenNet, clips: Sequence[Clip]) -> Tensor:
    """(N, labels), on the CPU."""
    device = next(network.parameters()).device
    found: list[Any] = []
    for begin in range(0, len(clips), ROWS_PER_PASS):
        sound, length = tensors([clip.samples for clip in clips[begin : begin + ROWS_PER_PASS]])
        found.append(network(sound.to(device), length.to(device)).float().cpu())
    return torch.cat(found)
