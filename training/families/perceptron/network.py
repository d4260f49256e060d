"""One unit: z = b + w · x, y = f(z). Its weights are given, or trained by gradient descent.

With a sigmoid and cross-entropy it is logistic regression, as the identity with squared error it is linear regression;
Rosenblatt's perceptron (1958) had a step for f, which has no slope to descend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["sigmoid", "tanh", "relu", "identity"]
FUNCTIONS: Final[dict[Activation, Callable[[Tensor], Tensor]]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "identity": lambda z: z,
}
SQUASHING: Final = ("sigmoid", "tanh")  # their outputs can be read as the probability of one of two classes
FLAT: Final = 1e-9  # a gradient no longer than this is none


class Unit(nn.Module):
    """Rows (N, D) -> y (N,)."""

    weights: Tensor  # (D,)
    bias: Tensor  # ()

    def __init__(self, weights: Tensor, bias: Tensor, activation: Activation) -> None:
        super().__init__()
        self.register_buffer("weights", weights.float())
        self.register_buffer("bias", bias.float())
        self.activation = activation

    def net_input(self, x: Tensor) -> Tensor:
        """z (N,)."""
        return (x * self.weights).sum(-1) + self.bias

    def forward(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.activation](self.net_input(x))


class NetInput(nn.Module):
    """A unit without its activation: rows (N, D) -> z (N,)."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        return self.unit.net_input(x)


class TwoClasses(nn.Module):
    """A squashing unit on two classes: rows (N, D) -> probabilities (N, 2), the second is that of the unit's class."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        z = self.unit.net_input(x)
        if self.unit.activation == "tanh":
            z = 2 * z  # (1 + tanh z) / 2 is the sigmoid of 2z
        return torch.stack([torch.sigmoid(-z), torch.sigmoid(z)], dim=-1)


@dataclass(frozen=True, kw_only=True)
class TrainedUnit:
    """The weights at the end, in units of the rows given, and the loss before each step."""

    weights: Tensor  # (D,) float64
    bias: Tensor  # () float64
    losses: list[float]


def train_unit(x: Tensor, y: Tensor, activation: Activation, *, l2: float, steps: int = 5000) -> TrainedUnit:
    """Full-batch gradient descent with Nesterov's momentum (1983) from all zeros, in steps of one over the curvature.

    The loss is the mean over the rows, cross-entropy for a squashing unit and squared error for the others, plus
    l2 / 2 * |w|^2 with w in units of standardised columns; the bias is free. Momentum starts anew where it points
    uphill (O'Donoghue & Candès 2015). It ends when the gradient is flat, after `steps` at the latest.

    Args:
        x: (N, D), finite. y: (N,), 0 or 1 for a squashing unit.
    """
    x, y = x.double(), y.double()
    mean, scale = x.mean(0), x.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    rows = torch.cat([(x - mean) / scale, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)  # (N, D + 1)
    loss, steepest = _loss(activation)
    curvature = steepest * float(torch.linalg.matrix_norm(rows, 2)) ** 2 / len(rows) + l2
    w = torch.zeros(rows.shape[1], dtype=torch.float64)
    if activation == "relu":
        w[-1] = y.mean()  # from zero a ReLU has no slope
    ahead, speed, losses = w.clone(), 0, list[float]()
    for _ in range(steps):
        point = ahead.clone().requires_grad_()
        value = loss(rows @ point, y) + l2 / 2 * point[:-1].square().sum()
        (gradient,) = torch.autograd.grad(value, point)
        losses.append(float(value.detach()))
        if float(gradient.abs().max()) < FLAT:
            break
        new = ahead - gradient / curvature
        speed = 0 if float(gradient @ (new - w)) > 0 else speed + 1
        ahead = new + speed / (speed + 3) * (new - w)
        w = new
    weights = ahead[:-1] / scale
    return TrainedUnit(weights=weights, bias=ahead[-1] - weights @ mean, losses=losses)


def _loss(activation: Activation) -> tuple[Callable[[Tensor, Tensor], Tensor], float]:
    """The loss as a function of z and y, and the most that it curves in z."""
    if activation == "sigmoid":
        return F.binary_cross_entropy_with_logits, 0.25
    if activation == "tanh":
        return lambda z, y: F.binary_cross_entropy_with_logits(2 * z, y), 1.0
    function = FUNCTIONS[activation]
    return lambda z, y: (function(z) - y).square().mean() / 2, 1.0
