"""Nets that take white noise from a grey picture, told how strong it is, and one that says how strong it is.

    x, sigma -> 2x2 blocks of pixels as channels, and sigma as a plane -> U-Net of residual blocks -> the noise
    x -> local estimates of log sigma and how far each is to be trusted -> their weighted mean

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
    """x (B, 1, H, W) -> sigma (B,), in units of x. H and W are multiples of 4.

    Every 4x4 block gives an estimate of log sigma and a weight: smooth places tell noise best, and texture looks like
    noise, so what is averaged is the places that the net trusts.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(BLOCK**2, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width, size=2), nn.ReLU(),
            _conv(width, width), nn.ReLU(), _conv(width, 2, size=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        estimate, trust = self.layers(F.pixel_unshuffle(x, BLOCK)).float().flatten(2).unbind(1)  # (B, places) each
        log_sigma = (torch.softmax(trust, dim=1) * estimate).sum(1)
        return torch.exp(log_sigma - 3).clamp(FAINTEST, 10.0)  # about 13 of 255 at first


def _stage(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width) for _ in range(blocks)))


def _conv(inputs: int, outputs: int, *, size: int = 3) -> nn.Conv2d:
    """Orthogonal filters (Saxe et al. 2014), no bias at first; of size 2 it halves the picture."""
    conv = nn.Conv2d(inputs, outputs, size, stride=2 if size == 2 else 1, padding=size // 2 if size == 3 else 0)
    nn.init.orthogonal_(conv.weight, gain=2**0.5)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
