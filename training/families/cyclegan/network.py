"""The two networks of a CycleGAN (Zhu et al. 2017) for small pictures.

    translator: pixels -> 2x2 patches -> residual blocks at half the side, more of them at a quarter -> 2x2 patches
    critic:     pixels -> 2x2 patches -> convolutions, one of stride 2 -> a logit for each of 7x7 overlapping regions

Without norm layers: blocks begin as the identity (their second convolution is zero), so the picture that comes in is at
first the one that goes out.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.residual import Residual

SHARPNESS: Final = 4.0  # logit of a white pixel that passes through unchanged


class Translator(nn.Module):
    """(B, C, H, W) in [0, 1] -> (B, D, H, W) in [0, 1], float32; H and W multiples of 4.

    Args:
        source, target: shapes (C, H, W) and (D, H, W).
        width, deep: channels at half and at a quarter of the side. blocks: residual blocks at a quarter.
        placed: whether each place has its own gains and offsets, as where one domain is a photograph of one scene.
    """

    def __init__(
        self,
        source: tuple[int, int, int],
        target: tuple[int, int, int],
        *,
        width: int,
        deep: int,
        blocks: int,
        placed: bool,
    ) -> None:
        super().__init__()
        C, H, W = source
        D = target[0]
        self.stem = nn.Conv2d(4 * C, width, 3, padding=1)
        self.first = Residual(width)
        self.down = nn.Conv2d(width, deep, 2, stride=2)
        self.blocks = nn.Sequential(*(Residual(deep) for _ in range(blocks)))
        self.up = nn.Conv2d(deep, 4 * width, 1)
        self.last = Residual(width)
        self.head = nn.Conv2d(width, 4 * D, 3, padding=1)
        for part in (self.head.weight, self.head.bias):
            assert part is not None
            nn.init.zeros_(part)
        gain = torch.eye(D) if C == D else torch.full((D, C), 1 / C)
        places = (H, W) if placed else (1, 1)
        self.gain = nn.Parameter((SHARPNESS * gain)[..., None, None].repeat(1, 1, *places), requires_grad=placed)
        self.offset = nn.Parameter(torch.zeros(D, *places), requires_grad=placed)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.first(self.stem(F.pixel_unshuffle(x, 2)))
        coarse = self.blocks(self.down(F.silu(fine)))
        fine = self.last(fine + F.pixel_shuffle(self.up(F.silu(coarse)), 2))
        change = F.pixel_shuffle(self.head(F.silu(fine)), 2).float()
        passed = (self.gain * (2 * x.float() - 1).unsqueeze(1)).sum(2) + self.offset  # (B, D, C, H, W) -> (B, D, H, W)
        return torch.sigmoid(change + passed)


class Critic(nn.Module):
    """(B, C, H, W) in [0, 1] -> logits (B, 1, H / 4, W / 4), float32: high where it looks like a real picture."""

    def __init__(self, channels: int, *, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(2 * x - 1)
        return logits.float()


def with_channels(x: Tensor, channels: int) -> Tensor:
    """Grey as three equal channels, colour as their mean; (B, C, H, W) -> (B, channels, H, W)."""
    if x.shape[1] == channels:
        return x
    return x.mean(1, keepdim=True).expand(-1, channels, -1, -1)
