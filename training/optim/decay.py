"""AdamW whose decay spares biases and the parameters of normalisation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def adamw(
    parameters: Iterable[Tensor], *, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """Decoupled decay (Loshchilov and Hutter 2019) of matrices and filters, none of vectors: two groups, in this order.

    Args:
        parameters: of a network; in each group they keep their order.
        weight_decay: of the parameters with two axes or more.
        betas: of the means of the gradient and of its square.
    """
    every = list(parameters)
    return torch.optim.AdamW(
        [
            {"params": [p for p in every if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=lr,
        betas=betas,
    )
