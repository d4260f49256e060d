"""Moving averages of weights: what is served in place of the last weights.

    average <- average + w (weights - average)

w is a function of the step: `constant_length`, or `power_function` where the length grows with the run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def average_of(network: Network, device: torch.device) -> Network:
    """A copy of `network` on `device` that takes no gradients: the average before the first step."""
    return copy.deepcopy(network).to(device).requires_grad_(False)


def constant_length(steps: float, *, position: int) -> float:
    """w = 1 / steps; larger at first, so that a short run's average has forgotten where the network began.

    Args:
        position: steps that were taken before this one.
    """
    return max(1 / steps, 9 / (10 + position))


def power_function(exponent: float, *, position: int) -> float:
    """w of an average whose length is in proportion to the run (Karras et al. 2024, arXiv:2312.02696, equation 1)."""
    return (exponent + 1) / (position + exponent + 1)


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, weight: float) -> None:
    """One step of `average`, of parameters and of running statistics; integers such as counters stay."""
    torch._foreach_lerp_(list(_floats(average)), list(_floats(network)), weight)


def _floats(network: nn.Module) -> Iterator[Tensor]:
    return (t for t in chain(network.parameters(), network.buffers()) if t.is_floating_point())
