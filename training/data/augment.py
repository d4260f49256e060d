"""Augmentation on whole tensors: (B, C, H, W) in [0, 1] in, the same out; all randomness from one generator."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def mirror_alternately(x: Tensor, index: Tensor, *, epoch: int) -> Tensor:
    """Mirror each row in every second epoch, which half begins decided by a hash of its index, so that a pair of
    epochs shows every row both ways (Jordan 2024, section 3.6)."""
    # Knuth's multiplicative hash: neighbours in the file fall on both sides.
    side = ((index * 2654435761) >> 16) & 1
    flip = ((side + epoch) & 1).bool().view(-1, 1, 1, 1)
    return torch.where(flip, x.flip(-1), x)


def shift(x: Tensor, generator: Generator, *, pixels: int) -> Tensor:
    """Move each row by up to `pixels` in both directions, the border reflected."""
    b, _, h, w = x.shape
    padded = F.pad(x, (pixels,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * pixels + 1, (2, b), generator=generator, device=x.device)
    out = torch.empty_like(x)
    for dy in range(2 * pixels + 1):
        for dx in range(2 * pixels + 1):
            rows = (top == dy) & (left == dx)
            out[rows] = padded[rows, :, dy : dy + h, dx : dx + w]
    return out


def cut_out(x: Tensor, generator: Generator, *, side: int) -> Tensor:
    """Blank one `side` x `side` square per row with the batch's mean colour (DeVries and Taylor 2017)."""
    b, _, h, w = x.shape
    cy = torch.randint(0, h, (b, 1, 1), generator=generator, device=x.device)
    cx = torch.randint(0, w, (b, 1, 1), generator=generator, device=x.device)
    rows = torch.arange(h, device=x.device).view(1, h, 1)
    columns = torch.arange(w, device=x.device).view(1, 1, w)
    inside = ((rows - cy + side // 2) // side == 0) & ((columns - cx + side // 2) // side == 0)
    return torch.where(inside.unsqueeze(1), x.mean((0, 2, 3), keepdim=True), x)


def handwrite(x: Tensor, generator: Generator, *, strength: float = 1.0) -> Tensor:
    """Turn, scale, shear, move and bend each row as another hand would have (Simard et al. 2003), and write a part
    of them with a thicker or softer pen."""
    b, _, h, w = x.shape

    def uniform(limit: float, *shape: int) -> Tensor:
        return (torch.rand(b, *shape, generator=generator, device=x.device) * 2 - 1) * (limit * strength)

    angle = uniform(math.radians(12))
    scale_x, scale_y = torch.exp(uniform(0.12)), torch.exp(uniform(0.12))
    shear = uniform(0.22)
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.zeros(b, 2, 3, device=x.device)
    theta[:, 0, 0], theta[:, 0, 1] = cos * scale_x, (shear * cos - sin) * scale_x
    theta[:, 1, 0], theta[:, 1, 1] = sin * scale_y, (shear * sin + cos) * scale_y
    theta[:, :, 2] = uniform(2 * 2.0 / w, 2)
    grid = F.affine_grid(theta, [b, 1, h, w], align_corners=False)
    # A coarse random field, smoothly interpolated: an elastic bend of up to about 1.2 pixels.
    bend = F.interpolate(uniform(1.2 * 2 / w, 2, 5, 5), (h, w), mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    pen = torch.rand(b, 1, 1, 1, generator=generator, device=x.device)
    thick = F.max_pool2d(moved, 3, stride=1, padding=1)
    soft = F.avg_pool2d(moved, 3, stride=1, padding=1, count_include_pad=False)
    soft = soft / soft.amax((2, 3), keepdim=True).clamp_min(1e-3)
    amount = torch.rand(b, 1, 1, 1, generator=generator, device=x.device) * 0.8
    written = torch.where(pen < 0.06, torch.lerp(moved, thick, amount), moved)
    return torch.where(pen > 0.94, torch.lerp(written, soft, amount), written)


def reframe(x: Tensor, generator: Generator, *, side: int, least: float) -> Tensor:
    """Cut another part out of each row, `least` to all of each of its sides, mirror half of them, change light and
    contrast by up to a fifth, and bring them to `side` pixels: (B, C, H, W) -> (B, C, side, side)."""
    b = len(x)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(b, *shape, generator=generator, device=x.device)

    share = uniform(least, 1, 2)
    theta = torch.zeros(b, 2, 3, device=x.device)
    mirrored = torch.where(torch.rand(b, generator=generator, device=x.device) < 0.5, -1.0, 1.0)
    theta[:, 0, 0], theta[:, 1, 1] = share[:, 0] * mirrored, share[:, 1]
    theta[:, :, 2] = (1 - share) * uniform(-1, 1, 2)
    grid = F.affine_grid(theta, [b, x.shape[1], side, side], align_corners=False)
    cut = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    middle = cut.mean((1, 2, 3), keepdim=True)
    contrast, light = uniform(0.8, 1.2, 1, 1, 1), uniform(-0.1, 0.1, 1, 1, 1)
    return ((cut - middle) * contrast + middle + light).clamp(0, 1)
