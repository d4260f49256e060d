"""Nets that take white noise from a grey picture, given its level, and one that estimates the level.

    x, sigma -> 2x2 blocks of pixels as channels, and sigma as a plane -> U-Net of residual blocks -> the noise
    x -> answers of small filters -> local estimates of log sigma and how far each is to be trusted -> weighted mean

Sources: predicting the noise, Zhang et al. 2017 (DnCNN, arXiv:1608.03981); half resolution and the plane of sigma,
Zhang et al. 2018 (FFDNet, arXiv:1710.04026); a U-Net of residual blocks without norms, Zhang et al. 2021 (DRUNet,
arXiv:2008.13751). The blocks' order is the plain one: x + conv(relu(conv(x))).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK: Final = 2  # pixels on a side that become channels
BRANCH: Final = 0.3  # of a residual branch's second filters at the beginning, so that depth does not swell the signal
FAINTEST: Final = 1e-4  # noise that the estimator still tells from none


class Restorer(nn.Module):
    """x (B, 1, H, W), clean pixels in [0, 1], and sigma (B,) in the same units -> the posterior mean (B, 1, H, W).

    H and W are multiples of `stride`.

    Args:
        widths: channels at half resolution, at a quarter, and so on.
        blocks: residual blocks at each of these on the way down, and on the way up but for the coarsest.
    """

    def __init__(self, widths: Sequence[int] = (48, 64, 96), blocks: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__()
        self.stride = BLOCK ** len(widths)
        self.head = _conv(BLOCK**2 + 1, widths[0])
        self.down = nn.ModuleList(_stage(w, n) for w, n in zip(widths, blocks, strict=True))
        self.up = nn.ModuleList(_stage(w, n) for w, n in zip(widths[:-1], blocks[:-1], strict=True))
        self.coarser = nn.ModuleList(_conv(fine, coarse, size=2) for fine, coarse in pairwise(widths))
        self.finer = nn.ModuleList(_conv(coarse, 4 * fine, size=1) for fine, coarse in pairwise(widths))
        self.tail = _conv(widths[0], BLOCK**2)
        nn.init.zeros_(self.tail.weight)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        h = F.pixel_unshuffle(x, BLOCK)
        plane = sigma.view(-1, 1, 1, 1).expand(-1, 1, h.shape[2], h.shape[3])
        h = self.head(torch.cat([h, plane], dim=1))
        passed = []
        for stage, coarser in zip(self.down, self.coarser, strict=False):  # the coarsest stage is the turning point
            h = stage(h)
            passed.append(h)
            h = coarser(h)
        h = self.down[-1](h)
        for i in reversed(range(len(self.up))):
            h = self.up[i](F.pixel_shuffle(self.finer[i](h), 2) + passed[i])
        return x - F.pixel_shuffle(self.tail(h), BLOCK).to(x.dtype)


class Block(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)
        with torch.no_grad():
            self.second.weight.mul_(BRANCH)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(F.relu(self.first(x)))
        return out


class NoiseEstimator(nn.Module):
    """x (B, 1, H, W) -> sigma (B,), in units of x. H and W are multiples of 8.

    Filters of length one that sum to zero answer white noise with its own standard deviation, and texture with more.
    Every 8x8 block's answers give an estimate of log sigma and a weight, and what is averaged is the blocks that the
    net trusts. Brighter pictures change nothing, and contrast k times as strong makes it k sigma.
    """

    def __init__(self, filters: int = 16, width: int = 32) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.randn(filters, 1, 5, 5))
        self.layers = nn.Sequential(
            _conv(filters, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, 2, size=1)
        )
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]  # of a convolution it is a tensor

    def forward(self, x: Tensor) -> Tensor:
        filters = self.filters - self.filters.mean((2, 3), keepdim=True)
        answers = F.conv2d(x, filters / filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
        energy = F.avg_pool2d(F.pad(answers.square(), (2, 2, 2, 2), mode="replicate"), 8)
        # Not their sum: the exporter takes so small a number for nothing and leaves it out.
        logs = torch.log(energy.clamp(min=FAINTEST**2)) / 2  # (B, filters, H / 8, W / 8)
        middle = logs.mean((1, 2, 3), keepdim=True)
        change, trust = self.layers(logs - middle).flatten(2).unbind(1)  # (B, blocks) each
        estimates = logs.mean(1).flatten(1) + change
        return torch.exp((torch.softmax(trust, dim=1) * estimates).sum(1))


def _stage(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width) for _ in range(blocks)))


def _conv(inputs: int, outputs: int, *, size: int = 3) -> nn.Conv2d:
    """Orthogonal filters (Saxe et al. 2014), no bias at first; of size 2 it halves the picture."""
    conv = nn.Conv2d(inputs, outputs, size, stride=2 if size == 2 else 1, padding=size // 2 if size == 3 else 0)
    nn.init.orthogonal_(conv.weight, gain=2**0.5)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
