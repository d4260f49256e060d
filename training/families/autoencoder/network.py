"""Encoder and decoder of an autoencoder: a small convolutional net, and a sheet of pictures folded by Fourier features.

    pixels -> [conv 3x3, stride 2] x 2 or more -> dense -> latent
    latent -> sines and cosines -> dense, residual -> coarse map -> conv 3x3 -> pixel shuffle -> pixels

Sources: random Fourier features of few coordinates, Tancik et al. 2020; pixel shuffle, Shi et al. 2016. The decoder
also gives its own derivative by the latent, carried forward through the layers beside the values, in plain operations
that ONNX has: one pass costs as much as decoding Z + 1 latents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CELL: Final = 4  # pixels on a side that one position of the decoder's coarse map paints


class ConvEncoder(nn.Module):
    """Pictures in [0, 1], (B, C, H, W) -> (B, outputs).

    Args:
        widths: channels of each halving of the picture; the last repeats until 4 pixels or fewer are left.
        hidden: width of the dense layer before the outputs.
    """

    def __init__(
        self, *, picture: tuple[int, int, int], outputs: int, widths: Sequence[int] = (32, 64), hidden: int = 256
    ) -> None:
        super().__init__()
        channels, height, width = picture
        height, width, depth = -(-height // 2), -(-width // 2), 4 * channels
        layers: list[nn.Module] = []
        self.pad = (2 * width - picture[2], 2 * height - picture[1])
        while not layers or min(height, width) > 4:
            wider = widths[min(len(layers) // 2, len(widths) - 1)]
            layers += [nn.Conv2d(depth, wider, 3, stride=2, padding=1), nn.SiLU()]
            height, width, depth = -(-height // 2), -(-width // 2), wider
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Linear(depth * height * width, hidden)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        right, below = self.pad
        x = F.pixel_unshuffle(F.pad(x, (0, right, 0, below)), 2)
        x = self.convolutions(x).flatten(1)
        out: Tensor = self.head(F.silu(self.dense(x)))
        return out


class FourierDecoder(nn.Module):
    """Latents (B, Z) -> pictures in [0, 1], (B, C, H, W).

    Args:
        frequencies: how many random directions the latent is seen through, each as a sine and a cosine.
        fold: their standard deviation, in half turns per unit of the latent: how finely the sheet may be folded.
        hidden: widths of the dense layers; equal neighbours are bridged by a residual path.
        channels: of the coarse map, one position for every 4x4 pixels.
    """

    directions: Tensor

    def __init__(
        self,
        *,
        latent: int,
        picture: tuple[int, int, int],
        frequencies: int = 64,
        fold: float = 1.0,
        hidden: Sequence[int] = (512, 512),
        channels: int = 16,
    ) -> None:
        super().__init__()
        self.picture = picture
        colours, height, width = picture
        self.coarse = (channels, -(-height // CELL), -(-width // CELL))
        self.register_buffer("directions", torch.randn(latent, frequencies) * fold * math.pi)
        widths = [latent + 2 * frequencies, *hidden]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.to_map = nn.Linear(widths[-1], math.prod(self.coarse))
        self.paint = nn.Conv2d(channels, colours * CELL**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        angle = z @ self.directions
        x = torch.cat([z, angle.sin(), angle.cos()], 1)
        for layer in self.layers:
            y = F.silu(layer(x))
            x = x + y if x.shape == y.shape else y
        return torch.sigmoid(self._paint(F.silu(self.to_map(x))).float())

    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures and their derivative by each coordinate of the latent: (B, P) and (B, Z, P), P = C * H * W."""
        b, size = z.shape
        angle = z @ self.directions
        sin, cos = angle.sin(), angle.cos()
        x = torch.cat([z, sin, cos], 1)
        unit = torch.eye(size, device=z.device).expand(b, -1, -1)
        t = torch.cat([unit, self.directions * cos.unsqueeze(1), -self.directions * sin.unsqueeze(1)], 2)  # (B, Z, ..)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            y, slope = _silu_and_slope(layer(x))
            dy = slope.unsqueeze(1) * F.linear(t, layer.weight)
            x, t = (x + y, t + dy) if x.shape == y.shape else (y, dy)
        y, slope = _silu_and_slope(self.to_map(x))
        t = slope.unsqueeze(1) * F.linear(t, self.to_map.weight)
        picture = torch.sigmoid(self._paint(y).float()).flatten(1)
        t = self._paint(t.flatten(0, 1), bias=False).flatten(1).view(b, size, -1).float()
        return picture, (picture * (1 - picture)).unsqueeze(1) * t

    def _paint(self, x: Tensor, *, bias: bool = True) -> Tensor:
        channels, height, width = self.coarse
        # The coarse map lies channels-last in the dense layer's outputs, as convolutions on a CPU like it best.
        x = x.view(-1, height, width, channels).permute(0, 3, 1, 2)
        x = F.conv2d(x, self.paint.weight, self.paint.bias if bias else None, padding=1)
        return F.pixel_shuffle(x, CELL)[:, :, : self.picture[1], : self.picture[2]]


def _silu_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    gate = torch.sigmoid(x)
    return x * gate, gate * (1 + x * (1 - gate))
