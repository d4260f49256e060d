"""Pictures as data sets hold them and as networks take them."""

from __future__ import annotations

from torch import Tensor


def pixels(x: Tensor) -> Tensor:
    """(B, H, W, C) uint8 -> (B, C, H, W) in [0, 1]; the strides stay, so the result is channels-last."""
    return x.permute(0, 3, 1, 2).float() / 255
