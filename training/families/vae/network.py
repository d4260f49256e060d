"""Residual convolutions between a picture and a short code, without norm layers.

    encoder: pixels -> 4x4 patches -> residual blocks -> linear, SiLU, linear -> mu, logvar
    decoder: latent -> linear, SiLU, linear -> residual blocks -> conv 3x3 -> 4x4 patches of logits

All convolutions work at a quarter of the picture's side: there a wide layer costs what a narrow one would at full size.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.networks.residual import Residual

PATCH: Final = 4


class GaussianEncoder(nn.Module):
    """Pixels in [0, 1], (B, C, H, W) -> mu and logvar of the posterior, (B, Z) each, float32.

    Args:
        shape: (C, H, W). latent: Z. width: channels of the residual blocks. hidden: of the layer before the code.
    """

    def __init__(self, shape: tuple[int, int, int], *, latent: int, width: int, blocks: int, hidden: int) -> None:
        super().__init__()
        channels, height, width_in = shape
        self.pad = (0, -width_in % PATCH, 0, -height % PATCH)
        self.patches = nn.Conv2d(channels, width, PATCH, stride=PATCH)
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        narrow = max(1, 3 * width // 4)
        self.narrow = nn.Conv2d(width, narrow, 1)
        self.hidden = nn.Linear(narrow * -(-height // PATCH) * -(-width_in // PATCH), hidden)
        self.code = nn.Linear(hidden, 2 * latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.blocks(self.patches(F.pad(x, self.pad)))
        x = F.silu(self.narrow(F.silu(x))).flatten(1)
        mu, logvar = self.code(F.silu(self.hidden(x))).float().chunk(2, dim=1)
        return mu, logvar


class PictureDecoder(nn.Module):
    """Latents (B, Z) -> logits of the pixels, (B, C, H, W), float32. Arguments as the encoder's."""

    def __init__(self, shape: tuple[int, int, int], *, latent: int, width: int, blocks: int, hidden: int) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        grid = (-(-self.height // PATCH), -(-self.width // PATCH))
        self.hidden = nn.Linear(latent, hidden)
        self.grid = nn.Linear(hidden, width * grid[0] * grid[1])
        self.unflatten = nn.Unflatten(1, (width, *grid))
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.patches = nn.Conv2d(width, channels * PATCH**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(PATCH)

    def forward(self, latent: Tensor) -> Tensor:
        x = self.unflatten(self.grid(F.silu(self.hidden(latent))))
        x = self.blocks(x)
        logits: Tensor = self.shuffle(self.patches(F.silu(x)))
        return logits[:, :, : self.height, : self.width].float()

    @torch.no_grad()
    def start_at(self, mean: float) -> None:
        """Begin with every pixel's probability near `mean`, in (0, 1)."""
        assert self.patches.bias is not None
        self.patches.bias.fill_(torch.logit(torch.tensor(mean)).item())
