"""A plain three-or-four-stage convolutional net without residual paths, after airbench94.

    pixels -> frozen 2x2 whitening -> [conv 3x3, pool, norm, GELU, conv 3x3, norm, GELU] x stages -> max pool -> linear

Source: K. Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), section 3: whitening as the first
layer, identity initialisation, scaled head, norm layers with a bias and no gain. The shapes here follow from the
size of the picture: each stage halves it until 3 to 5 pixels are left.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

HEAD_SCALE = 1 / 9  # keeps the first logits small beside a head of unit scale (section 3.2 of the source)


class Block(nn.Module):
    """(B, C_in, H, W) -> (B, C_out, H // 2, W // 2)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm1 = _norm(channels_out)
        self.norm2 = _norm(channels_out)
        self.pool = nn.MaxPool2d(2)
        for conv in (self.conv1, self.conv2):
            # Identity start: the first C_in outputs pass their input on, the rest is the default noise.
            nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(self.norm1(self.pool(self.conv1(x))))
        return nn.functional.gelu(self.norm2(self.conv2(x)))


class ConvNet(nn.Module):
    """Pixels in [0, 1], (B, C, H, W) -> logits (B, K).

    Args:
        channels: 1 or 3.
        classes: K.
        widths: output channels of each stage.
    """

    def __init__(self, *, channels: int, classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        patch = channels * 4  # the values of a 2x2 patch
        self.whiten = nn.Conv2d(channels, 2 * patch, 2)
        self.whiten.weight.requires_grad_(False)
        self.blocks = nn.Sequential(*(Block(i, o) for i, o in zip((2 * patch, *widths[:-1]), widths, strict=True)))
        self.head = nn.Linear(widths[-1], classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(self.whiten(x))
        x = self.blocks(x)
        x = x.amax(dim=(2, 3))
        logits: Tensor = self.head(x) * HEAD_SCALE
        return logits

    @torch.no_grad()
    def whiten_from(self, x: Tensor, *, epsilon: float = 5e-4) -> None:
        """Set the first layer to the eigenvectors of the 2x2 patches of `x` (N, C, H, W in [0, 1]), over the
        square root of their eigenvalues, and their negatives."""
        channels = x.shape[1]
        patches = nn.functional.unfold(x, 2).transpose(1, 2).reshape(-1, channels * 4)
        patches = patches - patches.mean(0)
        covariance = patches.double().T @ patches.double() / len(patches)
        values, vectors = torch.linalg.eigh(covariance)
        filters = (vectors / torch.sqrt(values + epsilon)).T.flip(0).float().reshape(-1, channels, 2, 2)
        self.whiten.weight.copy_(torch.cat([filters, -filters]))
        assert self.whiten.bias is not None
        self.whiten.bias.zero_()


def widths_for(height: int, width: int, *, base: tuple[int, ...]) -> tuple[int, ...]:
    """As many stages as leave 3 to 5 pixels on the shorter side; the last width repeats."""
    stages, side = 0, min(height, width) - 1
    while side > 5:
        side //= 2
        stages += 1
    stages = max(1, stages)
    return (base + (base[-1],) * stages)[:stages]


def _norm(channels: int) -> nn.BatchNorm2d:
    # Running statistics follow fast (momentum 0.4), since the whole run is a few thousand steps.
    norm = nn.BatchNorm2d(channels, momentum=0.4, eps=1e-12)
    norm.weight.requires_grad_(False)
    return norm
