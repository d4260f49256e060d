"""The losses of a generator against a discriminator, on scores of pairs of a real and a generated picture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def critic_loss(real: Tensor, generated: Tensor) -> Tensor:
    """Mean of softplus(drawn - real): the discriminator's, scores (B,) of pairs (Huang et al. 2024, equation 2)."""
    return F.softplus(generated - real).mean()


def generator_loss(real: Tensor, generated: Tensor) -> Tensor:
    """Mean of softplus(real - drawn): the generator's, the same game seen from the other side."""
    return F.softplus(real - generated).mean()


def squared_slope(scores: Tensor, x: Tensor) -> Tensor:
    """|d score / d x|^2 of each row, to be differentiated again: scores (B,) of x (B, ...) -> (B,)."""
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return slope.float().square().flatten(1).sum(1)
