"""In which direction something moves: a picture, then the state that is kept from the pictures before it.

    frame -> [conv, stride 2] x 3 -> dense -> GRU, from the past alone -> dense -> a label

The twin without recurrence is the same net whose state is forgotten before every frame.

In training a linear layer on what is seen of a frame must say where the digit is, which teaches the convolutions in a
tenth of the steps. Both nets learn it, so that the twin lacks nothing but the memory.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from training.networks.recurrent import GRU

WAVES: Final = (1, 2, 4)  # to the side of the field, of the sines and cosines that say where the digit is


class MotionNet(nn.Module):
    """Frames (B, T, H, W) in [0, 1] -> logits (B, T, labels) and the state after the last frame (B, hidden).

    Args:
        side: of the square frames, a multiple of 8.
        recurrent: keeps its state from frame to frame.
    """

    def __init__(
        self,
        labels: int,
        *,
        side: int,
        widths: tuple[int, ...] = (16, 32, 64),
        features: int = 128,
        hidden: int = 128,
        recurrent: bool = True,
    ) -> None:
        super().__init__()
        self.recurrent, self.hidden = recurrent, hidden
        one, two, three = widths
        self.picture = nn.Sequential(
            nn.Conv2d(1, one, 5, stride=2, padding=2, padding_mode="circular"),
            nn.SiLU(),
            nn.Conv2d(one, two, 3, stride=2, padding=1, padding_mode="circular"),
            nn.SiLU(),
            nn.Conv2d(two, three, 3, stride=2, padding=1, padding_mode="circular"),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(three * (side // 8) ** 2, features),
            nn.SiLU(),
        )
        self.place = nn.Linear(features, 4 * len(WAVES))
        self.gru = GRU(features, hidden)
        self.head = nn.Sequential(nn.Linear(hidden, features), nn.SiLU(), nn.Linear(features, labels))

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`state` (B, hidden) before the first frame; zeros where None. Without recurrence it changes nothing."""
        states = self.remember(self.see(x), state)
        logits: Tensor = self.head(states)
        return logits, states[:, -1]

    def see(self, x: Tensor) -> Tensor:
        """Each frame for itself: (B, T, H, W) -> (B, T, features)."""
        rows, frames = x.shape[0], x.shape[1]
        seen: Tensor = self.picture(x.reshape(rows * frames, 1, *x.shape[2:]))
        return seen.reshape(rows, frames, -1)

    def remember(self, seen: Tensor, state: Tensor | None = None) -> Tensor:
        """The state after each frame: (B, T, features) -> (B, T, hidden)."""
        rows, frames = seen.shape[0], seen.shape[1]
        found: Tensor
        if self.recurrent:
            found, _ = self.gru(seen, None, state)
        else:
            found, _ = self.gru(seen.reshape(rows * frames, 1, -1))
        return found.reshape(rows, frames, self.hidden)

    @torch.no_grad()
    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """How much of the old state the new one is made of (reset), and how much of it stays (update): (B, T, hidden)
        each."""
        seen = self.see(x)
        after = self.remember(seen)
        before = torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], dim=1)
        weights = dict(self.gru.forwards.named_parameters())
        given = seen @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        kept = before @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
        reset, update, _ = torch.sigmoid(given + kept).chunk(3, dim=2)
        return reset, update


def waves(place: Tensor, side: int) -> Tensor:
    """Places in pixels (..., 2) on a field without edge -> their sines and cosines, (..., 4 * len(WAVES))."""
    angle = place.float() * (2 * math.pi / side)
    return torch.cat([wave(n * angle) for n in WAVES for wave in (torch.sin, torch.cos)], dim=-1)
