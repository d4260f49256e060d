"""AdamW that spares vectors, beside the same optimiser put together by hand."""

from __future__ import annotations

import torch
from torch import nn

from training.optim.decay import adamw


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.GRU(4, 5))


def test_matrices_and_filters_decay_and_vectors_do_not() -> None:
    net = network()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = adamw(net.parameters(), lr=0.1, weight_decay=0.5)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)  # so that nothing but the decay moves them
    optimiser.step()
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (1 - 0.1 * 0.5 if p.ndim > 1 else 1))


def test_parameters_keep_the_order_in_which_checkpoints_have_their_state() -> None:
    net = network()
    optimiser = adamw(net.parameters(), lr=0.1, weight_decay=0.5, betas=(0.9, 0.98))
    matrices, vectors = (group["params"] for group in optimiser.param_groups)
    names = {id(p): name for name, p in net.named_parameters()}
    assert [names[id(p)] for p in matrices] == ["0.weight", "2.weight_ih_l0", "2.weight_hh_l0"]
    assert [names[id(p)] for p in vectors] == ["0.bias", "1.weight", "1.bias", "2.bias_ih_l0", "2.bias_hh_l0"]
    assert {group["betas"] for group in optimiser.param_groups} == {(0.9, 0.98)}
