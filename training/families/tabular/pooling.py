"""Nets and trees pooled into one answer; the same lines train, and are exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS: Final = tuple(tenth / 10 for tenth in range(11))
"""Weights of the trees that are compared: the rows of a small table cannot tell finer ones apart."""
LEAST_LOG: Final = -80.0  # of a probability: two members that are sure of different labels do not make infinities


@dataclass(frozen=True, kw_only=True)
class Share:
    """How much the trees weigh beside the nets, 0 to 1; of a regression also their error's `ratio` to the nets'."""

    trees: float = 0.0
    ratio: float = 1.0


def log_probabilities(scores: Tensor) -> Tensor:
    """(N, K) of trees' scores (N, O): two labels have one, the log-odds of the second."""
    if scores.shape[-1] > 1:
        return F.log_softmax(scores, dim=-1)
    return torch.cat([-F.softplus(scores), -F.softplus(-scores)], dim=-1)


def pool_labels(nets: Tensor | None, trees: Tensor | None, weight: float) -> Tensor:
    """(N, K): the weighted mean of the nets' log-probabilities (N, K) and those of the trees' scores (N, O)
    (logarithmic pool, Genest, Zidek 1986); no longer normalised. Of one kind alone, the other may be None."""
    if nets is None:
        assert trees is not None
        return log_probabilities(trees)
    if trees is None or weight == 0:
        return nets
    return (1 - weight) * nets.clamp(min=LEAST_LOG) + weight * log_probabilities(trees).clamp(min=LEAST_LOG)


def pool_values(nets: Tensor, trees: Tensor | None, share: Share) -> Tensor:
    """Mean and standard deviation (N, 2) of the mixture of the nets' (N, 2) and the trees' values (N, 1).

    Trees predict no spread: theirs is the nets', in proportion to their errors.
    """
    if trees is None or share.trees == 0:
        return nets
    w, value, scale = share.trees, nets[..., 0], nets[..., 1]
    apart = trees[..., 0] - value
    factor = 1 - w + w * share.ratio**2
    return torch.stack([value + w * apart, (factor * scale.square() + w * (1 - w) * apart.square()).sqrt()], dim=-1)
