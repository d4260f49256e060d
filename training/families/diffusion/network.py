"""A small U-Net that sees a noisy picture, its noise level and its label: F of Karras et al. 2022, and D around it.

Two resolutions only: pixels come four to a position (pixel-unshuffle), because that is where small pictures have
their strokes, and once more halved. No attention: at the lower resolution of a digit each position sees all others
through four convolutions.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES: Final = 32
GROUPS: Final = 8


class Block(nn.Module):
    """A residual block conditioned on the noise and the label by a scale and a shift of its channels."""

    def __init__(self, width: int, conditioning: int) -> None:
        super().__init__()
        self.into = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, width, affine=False)
        self.tell = nn.Linear(conditioning, 2 * width)
        self.out = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.tell.weight)
        nn.init.zeros_(self.tell.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # a Conv2d's bias is there unless refused

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """x (B, C, H, W), conditioning (B, T) -> (B, C, H, W)."""
        scale, shift = self.tell(conditioning)[:, :, None, None].chunk(2, 1)
        h = self.norm(self.into(F.silu(x))) * (1 + scale) + shift
        return x + self.out(F.silu(h))  # type: ignore[no-any-return]  # a Module's call is untyped


class UNet(nn.Module):
    """F(x, noise, label): all magnitudes near 1, in and out. Label `classes` says: none."""

    frequencies: Tensor

    def __init__(
        self, *, channels: int, classes: int, widths: tuple[int, int], blocks: tuple[int, int], conditioning: int
    ) -> None:
        super().__init__()
        high, low = widths
        self.register_buffer("frequencies", torch.logspace(-2, 4, FREQUENCIES, base=2.0) * math.pi, persistent=False)
        self.level = nn.Linear(2 * FREQUENCIES, conditioning)
        self.label = nn.Embedding(classes + 1, conditioning)
        self.mix = nn.Linear(conditioning, conditioning)
        self.first = nn.Conv2d(4 * channels, high, 3, padding=1)
        self.before = nn.ModuleList(Block(high, conditioning) for _ in range(blocks[0]))
        self.down = nn.Conv2d(high, low, 2, stride=2)
        self.below = nn.ModuleList(Block(low, conditioning) for _ in range(blocks[1]))
        self.up = nn.Conv2d(low, 4 * high, 1)
        self.after = nn.ModuleList(Block(high, conditioning) for _ in range(blocks[0]))
        self.last = nn.Conv2d(high, 4 * channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]  # as above

    def forward(self, x: Tensor, noise: Tensor, label: Tensor) -> Tensor:
        """x (B, C, H, W) with H and W multiples of 4, noise (B,), label int64 (B,) -> (B, C, H, W)."""
        angles = noise[:, None] * self.frequencies
        conditioning = self.level(torch.cat([angles.sin(), angles.cos()], 1)) + self.label(label)
        conditioning = F.silu(self.mix(F.silu(conditioning)))
        h = self.first(F.pixel_unshuffle(x, 2))
        for block in self.before:
            h = block(h, conditioning)
        kept = h
        h = self.down(h)
        for block in self.below:
            h = block(h, conditioning)
        h = kept + F.pixel_shuffle(self.up(F.silu(h)), 2)
        for block in self.after:
            h = block(h, conditioning)
        return F.pixel_shuffle(self.last(F.silu(h)), 2)


class Denoiser(nn.Module):
    """D(x, sigma, label) = c_skip x + c_out F(c_in x, c_noise, label), Karras et al. 2022, equation 7 and table 1.

    Pixels are in [0, 1]; about their `mean` and in units of their spread `sigma_data`, both of the whole data set,
    the coefficients keep what F sees and what it is asked for at unit variance at all levels.
    """

    def __init__(self, network: nn.Module, *, mean: float, sigma_data: float) -> None:
        super().__init__()
        self.network = network
        self.mean, self.sigma_data = mean, sigma_data

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """x (B, C, H, W), sigma (B,) above 0, label int64 (B,) -> E[x0 | x] (B, C, H, W)."""
        wide = sigma[:, None, None, None]
        total = (wide**2 + self.sigma_data**2).sqrt()
        centred = x - self.mean
        answer = self.network(centred / total, sigma.log() / 4, label).float()
        skip, out = (self.sigma_data / total) ** 2, wide * self.sigma_data / total
        return self.mean + skip * centred + out * answer  # type: ignore[no-any-return]  # as above

    def weight(self, sigma: Tensor) -> Tensor:
        """lambda(sigma) = 1 / c_out^2: with it the loss of F is a plain mean square. Same shape as sigma."""
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2
