"""Moving averages of weights: what is served in place of the last weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def follow(average: Iterable[Tensor], weights: Iterable[Tensor], *, steps: float, position: int) -> None:
    """average <- average + w (weights - average), w = 1 / steps; larger at first, so that the start is forgotten."""
    torch._foreach_lerp_(list(average), list(weights), max(1 / steps, 9 / (10 + position)))
