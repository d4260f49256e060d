"""Muon for nets whose weights are free to grow: steps as long as Adam's, filters of any norm, zero at first too.

Source: Liu et al. 2025, "Muon is scalable for LLM training", arXiv:2502.16982, section 2.2: an orthogonal (M, N) matrix
has a root mean square of 1 / sqrt(max(M, N)), Adam's step one of about 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, overload

import torch
from torch import Tensor

from training.optim.muon import orthogonalise

ADAM_RMS: Final = 0.2


class ScaledMuon(torch.optim.Optimizer):
    """Nesterov momentum on 4-D filters (O, I, kH, kW), orthogonalised as (O, I * kH * kW) matrices."""

    def __init__(self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p.grad)
                buffer = state["momentum"].mul_(group["momentum"]).add_(p.grad)
                g = p.grad.add(buffer, alpha=group["momentum"]).contiguous().reshape(len(p), -1)
                update = orthogonalise(g, steps=5).reshape(p.shape)
                p.add_(update, alpha=-group["lr"] * ADAM_RMS * max(g.shape) ** 0.5)
        return loss
