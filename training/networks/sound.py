"""Sound as a net sees it: log-mel energies, and two strided convolutions to one vector every 40 ms.

All of it is in the graph, so that no client can get windows, mel bands or normalisation wrong. Frames need only the
samples up to their end, so the same layers serve whole recordings and pieces with the samples that came before them.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

RATE: Final = 16_000
WINDOW: Final = 400  # samples, 25 ms
HOP: Final = 160  # samples, 10 ms
BINS: Final = 512  # of the Fourier transform
BANDS: Final = 64
LOWEST_HZ, HIGHEST_HZ = 60.0, 7600.0
FLOOR: Final = 1e-5
"""Power of a band that is taken for silence: samples of some -75 dB, under the noise of a quiet room's recording."""

STEP: Final = 4 * HOP
"""Samples from one output of `Subsampling` to the next, 40 ms."""
REACH: Final = WINDOW + 6 * HOP
"""Samples that one output depends on."""
BEFORE: Final = REACH - STEP
"""Samples before a piece of n * STEP samples that its n outputs depend on."""


class LogMel(nn.Module):
    """(B, N) samples in [-1, 1] -> (B, 1 + (N - 400) // 160, 64) logarithms of mel band powers, about 0 +- 1."""

    def __init__(self) -> None:
        super().__init__()
        n = np.arange(WINDOW)
        window = 0.5 - 0.5 * np.cos(2 * math.pi * n / WINDOW)
        angles = 2 * math.pi / BINS * np.arange(BINS // 2 + 1)[:, None] * n
        basis = np.concatenate([window * np.cos(angles), window * np.sin(angles)])
        self.register_buffer("basis", torch.tensor(basis[:, None], dtype=torch.float32))  # (2 * 257, 1, 400)
        self.register_buffer("bands", torch.tensor(mel_bands(), dtype=torch.float32))  # (64, 257)

    def forward(self, sound: Tensor) -> Tensor:
        basis, bands = self.get_buffer("basis"), self.get_buffer("bands")
        spectrum = F.conv1d(sound[:, None], basis, stride=HOP)  # (B, 2 * 257, T)
        real, imaginary = spectrum.chunk(2, dim=1)
        power = (real * real + imaginary * imaginary).transpose(1, 2)  # (B, T, 257)
        # -11.5 is silence, some 6 the loudest speech.
        return (torch.log(power @ bands.T + FLOOR) + 3.0) / 4.0


class Subsampling(nn.Module):
    """(B, T, 64) log-mel frames -> (B, (T - 3) // 4, width): convolutions of 3x3, stride 2, unpadded in time."""

    def __init__(self, width: int, *, channels: tuple[int, int] = (32, 48), dropout: float = 0.1) -> None:
        super().__init__()
        first, second = channels
        self.layers = nn.Sequential(
            nn.Conv2d(1, first, 3, stride=2, padding=(0, 1)),
            nn.SiLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=(0, 1)),
            nn.SiLU(),
        )
        self.dense = nn.Sequential(nn.Linear(second * BANDS // 4, width), nn.LayerNorm(width), nn.Dropout(dropout))

    def forward(self, mel: Tensor) -> Tensor:
        maps = self.layers(mel[:, None])  # (B, C, T', 16)
        out: Tensor = self.dense(maps.permute(0, 2, 1, 3).flatten(2))
        return out


def padded(sound: Tensor, before: int) -> Tensor:
    """Zeros before and behind, so that (B, N) samples make ceil(N / STEP) outputs of `Subsampling`.

    With `before` = `BEFORE` no output depends on samples after its own step; with half of it each is in the middle of
    what it depends on.
    """
    # Up to a whole step behind, which no output reaches: the exporter cannot keep an axis free that is rounded up.
    zeros = torch.zeros_like(sound[:, :1])
    return torch.cat([zeros.expand(-1, before), sound, zeros.expand(-1, BEFORE - before + STEP - 1)], dim=1)


def steps(length: Tensor) -> Tensor:
    """How many outputs so many samples make."""
    return (length + STEP - 1) // STEP


def outputs(frames: int) -> int:
    """How many outputs `Subsampling` makes of so many log-mel frames."""
    return (frames - 3) // 4


def mel_bands() -> NDArray[np.float64]:
    """Triangles of equal width on the mel scale (O'Shaughnessy 1987), peak 1: (64, 257)."""
    edges = _hertz(np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 2))
    at = np.arange(BINS // 2 + 1) * RATE / BINS
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.clip(np.minimum((at - left) / (middle - left), (right - at) / (right - middle)), 0, None)


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return 700 * (10 ** (mel / 2595) - 1)
