"""A residual block without norm layers.

It adds its second convolution, zero at first (Goyal et al. 2017, section 5.1), so that a fresh net is as deep as its
stem and head alone and needs no norm.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """(B, C, H, W) -> the same shape: x + conv(SiLU(conv(SiLU(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.silu(self.conv1(F.silu(x))))
        return out
