"""Muon for convolutions: momentum, made orthogonal by Newton-Schulz.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the weight of each
filter bank held at a fixed norm, as its CIFAR-10 recipe does, or free. `torch.optim.Muon` takes matrices only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, overload

import torch
from torch import Tensor

ADAM_RMS: Final = 0.2


def orthogonalise(g: Tensor, *, steps: int = 3, epsilon: float = 1e-7) -> Tensor:
    """The nearest (semi-)orthogonal matrix to `g` (M, N), roughly: its singular values end up near 1.

    The quintic's coefficients are the source's, chosen for slope at zero rather than for convergence.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm() + epsilon)
    if tall := len(g) > g.shape[1]:
        x = x.T
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    result: Tensor = x.T if tall else x
    return result


class OrthogonalMomentum(torch.optim.Optimizer):
    """Nesterov momentum on 4-D filters (O, I, kH, kW), orthogonalised as (O, I * kH * kW) matrices."""

    def descend(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        """Change `p` in place by its update `g` (O, I * kH * kW), which is not orthogonal yet."""
        raise NotImplementedError

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
                state: dict[str, Any] = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p.grad)
                buffer = state["momentum"].mul_(group["momentum"]).add_(p.grad)
                g = p.grad.add(buffer, alpha=group["momentum"])
                # contiguous rows, whatever the memory format of the filters
                self.descend(p, g.contiguous().reshape(len(g), -1), group)
        return loss


class Muon(OrthogonalMomentum):
    """`hold_norm` fixes the norm of each bank, as suits nets that normalise what comes after it."""

    def __init__(self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.6, hold_norm: bool = True) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "hold_norm": hold_norm})

    def descend(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        if group["hold_norm"]:
            p.mul_(len(p) ** 0.5 / p.norm())
        p.add_(orthogonalise(g).reshape(p.shape), alpha=-group["lr"])


class ScaledMuon(OrthogonalMomentum):
    """For nets whose weights are free to grow: steps as long as Adam's, filters of any norm, zero at first too.

    Source: Liu et al. 2025, "Muon is scalable for LLM training", arXiv:2502.16982, section 2.2: an orthogonal (M, N)
    matrix has a root mean square of 1 / sqrt(max(M, N)), Adam's step one of about 0.2.
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def descend(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        rate = group["lr"] * ADAM_RMS * max(g.shape) ** 0.5
        p.add_(orthogonalise(g, steps=5).reshape(p.shape), alpha=-rate)
