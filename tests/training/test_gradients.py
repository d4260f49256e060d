"""Gradients by autograd, against the chain rule written out by hand and against finite differences.

The net is the lecture's: x -> w1 -> sigmoid -> w2 -> sigmoid -> squared error, two weights and no biases.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from training.lessons.optimisers import two_weight_loss

ORDINARY = st.floats(min_value=-3, max_value=3, allow_nan=False)
TARGETS = st.floats(min_value=0, max_value=1, allow_nan=False)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def loss_by_hand(w1: float, w2: float, x: float, y: float) -> float:
    return (sigmoid(w2 * sigmoid(w1 * x)) - y) ** 2


def gradient_by_hand(w1: float, w2: float, x: float, y: float) -> tuple[float, float]:
    """The chain rule, factor by factor: with z1 = w1 x, h = sigmoid(z1), z2 = w2 h, p = sigmoid(z2), E = (p - y)^2."""
    h = sigmoid(w1 * x)
    p = sigmoid(w2 * h)
    error_by_p = 2 * (p - y)
    p_by_z2 = p * (1 - p)
    z2_by_w2, z2_by_h = h, w2
    h_by_z1 = h * (1 - h)
    z1_by_w1 = x
    return error_by_p * p_by_z2 * z2_by_h * h_by_z1 * z1_by_w1, error_by_p * p_by_z2 * z2_by_w2


def gradient_by_autograd(w1: float, w2: float, x: float, y: float) -> tuple[float, float]:
    w = torch.tensor([w1, w2], dtype=torch.float64, requires_grad=True)
    loss = two_weight_loss(w, torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss, w)
    return float(gradient[0]), float(gradient[1])


@settings(max_examples=50, deadline=None)
@given(w1=ORDINARY, w2=ORDINARY, x=ORDINARY, y=TARGETS)
def test_the_two_weight_net_has_the_gradient_of_the_chain_rule(w1: float, w2: float, x: float, y: float) -> None:
    assert gradient_by_autograd(w1, w2, x, y) == pytest.approx(gradient_by_hand(w1, w2, x, y), rel=1e-9, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(w1=ORDINARY, w2=ORDINARY, x=ORDINARY, y=TARGETS)
def test_it_is_the_slope_of_central_differences(w1: float, w2: float, x: float, y: float) -> None:
    step = 1e-5
    slopes = (
        (loss_by_hand(w1 + step, w2, x, y) - loss_by_hand(w1 - step, w2, x, y)) / (2 * step),
        (loss_by_hand(w1, w2 + step, x, y) - loss_by_hand(w1, w2 - step, x, y)) / (2 * step),
    )
    assert gradient_by_autograd(w1, w2, x, y) == pytest.approx(slopes, rel=1e-5, abs=1e-8)


def test_a_worked_example_comes_out_to_nine_digits() -> None:
    # Computed with 50 digits.
    assert gradient_by_autograd(2.0, -1.0, 0.5, 1.0) == pytest.approx(
        (0.0291138016338814, -0.2165066391452438), rel=1e-9
    )


def test_over_several_rows_the_gradient_is_the_mean_of_theirs() -> None:
    rows = [(0.5, 1.0), (-1.0, 0.0), (2.0, 0.3)]
    w = torch.tensor([1.5, -0.5], dtype=torch.float64, requires_grad=True)
    x, y = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    (together,) = torch.autograd.grad(two_weight_loss(w, x, y), w)
    alone = torch.tensor([gradient_by_hand(1.5, -0.5, *row) for row in rows], dtype=torch.float64)
    assert torch.allclose(together, alone.mean(0), rtol=1e-12)


def test_a_step_down_the_gradient_lowers_the_loss_by_what_the_slope_says() -> None:
    w = torch.tensor([2.0, -1.0], dtype=torch.float64, requires_grad=True)
    x, y = torch.tensor([0.5], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    loss = two_weight_loss(w, x, y)
    (gradient,) = torch.autograd.grad(loss, w)
    rate = 1e-4
    fell = float((loss - two_weight_loss(w - rate * gradient, x, y)).detach())
    assert fell == pytest.approx(rate * float(gradient @ gradient), rel=1e-3)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: F.cross_entropy(z, y),
        lambda z, y: F.binary_cross_entropy_with_logits(z[:, 0], (y > 0).double()),
        lambda z, y: F.mse_loss(z[:, 0], y.double()),
    ],
    ids=["softmax cross-entropy", "binary cross-entropy", "squared error"],
)
def test_every_weight_of_a_deeper_net_has_the_slope_of_finite_differences(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 3)).double()
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.arange(7) % 3
    loss(net(x), y).backward()
    step = 1e-6
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        flat, gradient = parameter.data.view(-1), parameter.grad.reshape(-1)
        for i in range(len(flat)):
            before = float(flat[i])
            flat[i] = before + step
            above = float(loss(net(x), y).detach())
            flat[i] = before - step
            below = float(loss(net(x), y).detach())
            flat[i] = before
            assert float(gradient[i]) == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-8), (name, i)
