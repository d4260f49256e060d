"""How much white noise is in a picture: a tiny net, for denoisers that are not given it."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FILTERS: Final = 12
HIDDEN: Final = 48
LEAST: Final = 1e-6  # of a mean square, so that its logarithm is finite: 0.001 in units of pixels


class NoiseLevel(nn.Module):
    """Pictures (B, H, W, C), clean pixels in [0, 1] -> sigma (B,), the standard deviation of their noise.

    Mean squares are what noise adds sigma^2 to: of the pixels about the data set's mean, under maps that learn where
    pictures are empty, and of what small filters leave of the strokes. Their logarithms go through two dense layers.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        height, width, channels = shape
        self.maps = nn.Parameter(torch.zeros(4, height * width))
        nn.init.normal_(self.maps)
        self.filters = nn.Conv2d(channels, FILTERS, 3, bias=False)
        self.hidden = nn.Linear(4 + 2 * FILTERS, HIDDEN)
        self.level = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.square().mean(3).flatten(1)  # (B, H * W)
        under = flat @ self.maps.softmax(1).T  # (B, 4)
        found = self.filters(x.permute(0, 3, 1, 2)).flatten(2)  # (B, FILTERS, positions)
        energies = torch.cat([under, found.square().mean(2), found.abs().mean(2).square()], 1)
        h = F.silu(self.hidden((energies + LEAST).log()))
        sigma: Tensor = self.level(h)[:, 0].exp()
        return sigma


def train_estimator(
    x: Tensor, *, low: float, high: float, steps: int = 1500, rows: int = 256, lr: float = 5e-3, seed: int = 0
) -> NoiseLevel:
    """A net that tells noise between `low` and `high` on pictures like x (N, H, W, C) uint8: half a minute on a core.

    The loss is the squared error of the logarithm, so a twentieth too much counts the same at every level.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        height, width, channels = x.shape[1:]
        network = NoiseLevel((height, width, channels))
        optimiser = torch.optim.Adam(network.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)
        for _ in range(steps):
            clean = x[torch.randint(len(x), (rows,))].float() / 255
            sigma = low * (high / low) ** torch.rand(rows)
            found = network(clean + sigma[:, None, None, None] * torch.randn_like(clean))
            loss = (found / sigma).log().square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()
