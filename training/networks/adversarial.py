"""Generator and discriminator of small pictures: every convolution at half or a quarter of the picture's side.

    latent [, label] -> dense -> map at a quarter -> conv 3x3 -> pixel shuffle -> conv 3x3 -> pixel shuffle -> picture
    picture -> pixel unshuffle -> conv 3x3 -> [conv, stride 2] x 2 -> dense -> score

Sources: features scaled by the latent, after Karras et al. 2019 (arXiv:1812.04948); pixel shuffle, Shi et al. 2016;
the spread within a few rows as a feature, Karras et al. 2018 (arXiv:1710.10196, section 3); the label by projection,
Miyato and Koyama 2018 (arXiv:1802.05637).
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELL: Final = 4  # pixels on a side that one position of the coarse map stands for
SLOPE: Final = 0.2
TOGETHER: Final = 8  # rows whose spread the discriminator sees


class Generator(nn.Module):
    """Latents (B, Z) and, with `classes`, labels (B,) -> pictures (B, C, H, W) in [0, 1].

    Args:
        picture: C, H, W.
        classes: 0 where it takes no label.
        width: channels of the coarse map; half as many of the fine one.
        hidden: units of the dense layers, which also scale the channels.
    """

    def __init__(self, *, picture: tuple[int, int, int], latent: int, classes: int, width: int, hidden: int) -> None:
        super().__init__()
        self.picture = picture
        colours, height, width_px = picture
        self.coarse = (-(-height // CELL), -(-width_px // CELL), width)
        fine = width // 2
        self.label = nn.Embedding(classes, latent) if classes else None
        self.dense = nn.ModuleList([nn.Linear(latent * (2 if classes else 1), hidden), nn.Linear(hidden, hidden)])
        self.to_map = nn.Linear(hidden, math.prod(self.coarse))
        self.scale_coarse, self.scale_fine = nn.Linear(hidden, width), nn.Linear(hidden, fine)
        for scale in (self.scale_coarse, self.scale_fine):
            nn.init.zeros_(scale.weight)
            nn.init.ones_(scale.bias)
        self.conv_coarse = nn.Conv2d(width, width, 3, padding=1)
        self.widen = nn.Conv2d(width, 4 * fine, 1)
        self.conv_fine = nn.Conv2d(fine, fine, 3, padding=1)
        self.paint = nn.Conv2d(fine, 4 * colours, 3, padding=1)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        h = latent
        if self.label is not None:
            h = torch.cat([h, self.label(label)], 1)
        for layer in self.dense:
            h = _bent(layer(h))
        # The map lies channels-last in the dense layer's outputs, as convolutions on a CPU like it best.
        x = _bent(self.to_map(h)).view(-1, *self.coarse).permute(0, 3, 1, 2)
        x = x + _bent(self.conv_coarse(x) * self.scale_coarse(h)[:, :, None, None])
        x = _bent(F.pixel_shuffle(self.widen(x), 2)).contiguous(memory_format=torch.channels_last)
        x = x + _bent(self.conv_fine(x) * self.scale_fine(h)[:, :, None, None])
        drawn = torch.sigmoid(F.pixel_shuffle(self.paint(x).float(), 2))
        return drawn[:, :, : self.picture[1], : self.picture[2]]


class Discriminator(nn.Module):
    """Pictures (B, C, H, W) in [0, 1] and, with `classes`, labels (B,) -> scores (B,), higher for what seems real.

    It looks at eight rows in a row together, all of them real or all drawn: how much they differ is one of its
    features. B is a multiple of eight, or fewer.
    """

    def __init__(self, *, picture: tuple[int, int, int], classes: int, width: int, hidden: int) -> None:
        super().__init__()
        colours, height, width_px = picture
        self.pad = (-width_px % CELL, -height % CELL)
        positions = -(-height // (2 * CELL)) * -(-width_px // (2 * CELL))
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(4 * colours, width // 2, 3, padding=1),
                nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
                nn.Conv2d(width, width, 3, padding=1),
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            ]
        )
        self.dense = nn.Linear(2 * width * positions + 1, hidden)
        self.score = nn.Linear(hidden, 1)
        self.label = nn.Embedding(classes, hidden) if classes else None
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=hidden**-0.5)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        right, below = self.pad
        x = F.pixel_unshuffle(F.pad(x, (0, right, 0, below)) * 2 - 1, 2).contiguous(memory_format=torch.channels_last)
        first, halve, stay, halve_again = self.convolutions
        x = _bent(halve(_bent(first(x))))
        x = x + _bent(stay(x))
        x = _bent(halve_again(x)).flatten(1)
        h = _bent(self.dense(torch.cat([x, _spread(x)], 1)))
        score: Tensor = self.score(h)[:, 0]
        if self.label is not None:
            score = score + (h * self.label(label)).sum(1)
        return score.float()


def _bent(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def _spread(x: Tensor) -> Tensor:
    """(B, F) -> (B, 1): the mean over features of the standard deviation among each row's neighbours."""
    size = min(TOGETHER, len(x))
    groups = x.view(-1, size, x.shape[1]).float()
    spread = (groups.var(1, correction=0) + 1e-6).sqrt().mean(1)
    return spread.repeat_interleave(size).unsqueeze(1).to(x.dtype)
