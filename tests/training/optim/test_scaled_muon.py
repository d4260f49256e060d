"""Muon with steps as long as Adam's."""

from __future__ import annotations

import torch

from training.optim.muon import ADAM_RMS, ScaledMuon


def test_a_step_is_as_long_as_adams_whatever_the_shape() -> None:
    torch.manual_seed(0)
    for shape in ((16, 16, 3, 3), (64, 8, 1, 1), (8, 64, 1, 1)):
        p = torch.nn.Parameter(torch.zeros(shape))
        p.grad = torch.randn(shape)
        ScaledMuon([p], lr=0.01).step()
        matrix = p.detach().reshape(len(p), -1)
        # Of all singular values 1 the root mean square would be exactly that; the iteration leaves them near 1.
        expected = 0.01 * ADAM_RMS * (min(matrix.shape) / matrix.numel() * max(matrix.shape)) ** 0.5
        assert 0.7 * expected < float(matrix.square().mean().sqrt()) < 1.2 * expected


def test_filters_that_are_zero_begin_to_move_against_their_gradient() -> None:
    p = torch.nn.Parameter(torch.zeros(4, 4, 3, 3))
    p.grad = torch.randn(4, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    ScaledMuon([p], lr=0.01).step()
    assert float((p.detach() * p.grad).sum()) < 0


def test_the_least_square_of_a_filter_bank_is_found() -> None:
    torch.manual_seed(0)
    target = 0.1 * torch.randn(4, 3, 3, 3)
    p = torch.nn.Parameter(torch.zeros_like(target))
    optimiser = ScaledMuon([p], lr=0.02, momentum=0.9)
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.02 * (1 - step / 200)
        optimiser.zero_grad()
        (p - target).square().sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        optimiser.step()
    assert float((p.detach() - target).abs().max()) < 0.01
