"""From moving pictures of a mouth to a word for each frame.

    frames -> half the size, the middle, each frame standardised
           -> convolution over 5 frames and 5x5 pixels -> [conv 3x3] x 4 -> dense        one vector a frame
           -> GRU, twice, from both sides (or, in the causal twin, from the past alone) -> a label for each frame

A convolution over five frames of one channel is one over two axes whose channels are the five frames, and is computed
so. After LipNet (Assael et al. 2016), with a deeper picture part and a label for each frame in place of CTC.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.recurrent import GRU

SPAN: Final = 5  # frames that the first convolution sees at once
HALF: Final = 2  # pixels of a side that become one
TOP, LEFT = 4, 9  # of the cut, in halved pixels: the mouth is there in all clips
HEIGHT, WIDTH = 32, 44  # of the cut


def halved(video: Tensor) -> Tensor:
    """(B, T, H, W) of 0 to 255, uint8 or float -> (B, T, H / 2, W / 2) float32, means of 2 x 2 pixels."""
    rows, frames, height, width = video.shape
    return video.float().reshape(rows, frames, height // HALF, HALF, width // HALF, HALF).mean((3, 5))


def prepared(video: Tensor) -> Tensor:
    """Whole frames (B, T, H, W) uint8 -> what the net takes, (B, T, HEIGHT, WIDTH)."""
    top, left = HALF * TOP, HALF * LEFT
    return standardised(halved(video[:, :, top : top + HALF * HEIGHT, left : left + HALF * WIDTH]))


def standardised(x: Tensor) -> Tensor:
    """(B, T, h, w) -> the same, every frame with mean 0 and deviation 1: how bright the room is tells no word."""
    centred = x - x.mean((2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean((2, 3), keepdim=True) + 1.0)


def middle(x: Tensor) -> Tensor:
    """(B, T, H / 2, W / 2) -> (B, T, HEIGHT, WIDTH)."""
    return x[:, :, TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]


class LipReader(nn.Module):
    """Standardised frames (B, T, HEIGHT, WIDTH) -> logits of the labels of each frame (B, T, labels).

    Args:
        widths: channels of the five convolutions.
        hidden: numbers of a GRU's state.
        causal: sees of no frame what comes after it.
    """

    def __init__(
        self,
        labels: int,
        *,
        widths: tuple[int, ...] = (24, 48, 64, 96, 128),
        features: int = 256,
        hidden: int = 256,
        dropout: float = 0.4,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal, self.hidden = causal, hidden
        one, two, three, four, five = widths
        self.picture = nn.Sequential(
            nn.Conv2d(SPAN, one, 5, stride=2, padding=2, bias=False),
            *_between(one),
            *_convolution(one, two, stride=2),
            *_convolution(two, three),
            *_convolution(three, four, stride=2),
            *_convolution(four, five),
        )
        places = -(-HEIGHT // 8) * -(-WIDTH // 8)
        self.dense = nn.Sequential(nn.Linear(five * places, features, bias=False), nn.BatchNorm1d(features), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        sides = 1 if causal else 2
        self.first = GRU(features, hidden, bidirectional=not causal)
        self.second = GRU(sides * hidden, hidden, bidirectional=not causal)
        self.head = nn.Linear(sides * hidden, labels)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        """Args: length: (B,) int64, the frames of each row; all where None. Outputs behind them are of no use."""
        if length is not None:
            inside = torch.arange(x.shape[1], device=x.device) < length[:, None]
            x = x * inside[:, :, None, None]  # as before the first frame, so after the last
        return self.recur(self.see(self.padded(x)), length)[0]

    def padded(self, x: Tensor) -> Tensor:
        """The frames before the first and, unless it is causal, after the last that the first convolution sees."""
        after = 0 if self.causal else SPAN // 2
        return F.pad(x, (0, 0, 0, 0, SPAN - 1 - after, after))

    def see(self, x: Tensor) -> Tensor:
        """(B, SPAN - 1 + T, HEIGHT, WIDTH) -> (B, T, features)."""
        rows, frames = x.shape[0], x.shape[1] - (SPAN - 1)
        windows = torch.stack([x[:, i : i + frames] for i in range(SPAN)], dim=2)
        windows = windows.reshape(rows * frames, SPAN, HEIGHT, WIDTH)
        seen = self.picture(windows.contiguous(memory_format=torch.channels_last))
        found: Tensor = self.dense(seen.flatten(1))
        return found.reshape(rows, frames, -1)

    def recur(
        self, x: Tensor, length: Tensor | None = None, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, T, features) -> logits (B, T, labels), and the states of both layers after the last frame."""
        one, two = (None, None) if state is None else state
        y, one = self.first(self.dropout(x), length, one)
        z, two = self.second(self.dropout(y), length, two)
        return self.head(self.dropout(z)), (one, two)

    @torch.no_grad()
    def inside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """To be shown, of the second layer forwards: the state after each frame, and the update gate, (B, T, hidden)
        each."""
        given = self.first(self.see(self.padded(x)))[0]
        state = self.second(given)[0][..., : self.hidden]
        before = torch.cat([torch.zeros_like(state[:, :1]), state[:, :-1]], dim=1)
        weights = dict(self.second.forwards.named_parameters())
        gates = given @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        gates = gates + before @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
        return state, torch.sigmoid(gates[..., self.hidden : 2 * self.hidden])


def _between(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]


def _convolution(inputs: int, outputs: int, *, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), *_between(outputs)]
