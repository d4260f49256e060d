"""How probable a latent-variable model finds the data: the ELBO's two terms and the importance-weighted bound.

One layer of latents with prior N(0, I) and posterior q(z | x) = N(mu, exp(logvar)). Shapes throughout: rows B,
latents Z, samples per row K. All figures are natural logarithms (nats).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.floating[Any]]
Decode = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Latents (n, Z) to the probability of ink at each pixel (n, ...)."""

FLOOR: Final = 2.0**-24  # below it, 1 - p is no longer distinct from 1 in float32: the model's own figures end here


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each latent: (..., Z) -> (..., Z). Kingma and Welling 2014, appendix B."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def bernoulli_log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """ln p(x | z), summed over pixels: logits (..., B, C, H, W) and x (B, C, H, W) in [0, 1] -> (..., B).

    For grey x this is the expected log-likelihood of pictures whose pixels are 1 with probability x.
    """
    return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum((-3, -2, -1))


def log_weights(log_likelihood: Tensor, z: Tensor, noise: Tensor, logvar: Tensor) -> Tensor:
    """ln p(x | z) + ln p(z) - ln q(z | x) of samples z = mu + exp(logvar / 2) * noise.

    Args:
        log_likelihood: (K, B). z, noise: (K, B, Z). logvar: (B, Z).
    Returns: (K, B); the normal densities' constants cancel.
    """
    return log_likelihood + 0.5 * (noise.square() - z.square() + logvar).sum(-1)


def importance_bound(log_w: Tensor) -> Tensor:
    """ln of the mean weight over the K samples: (K, B) -> (B,). Burda et al. 2016, equation 8.

    In expectation at most ln p(x), and never falling in K; with K = 1 a sample of the ELBO.
    """
    return torch.logsumexp(log_w, dim=0) - math.log(len(log_w))


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Of each row scored: the ELBO's two terms, and ln of every sample's weight in float32."""

    reconstruction: NDArray[np.float64]  # (B,), E_q[ln p(x | z)], the mean over the samples
    kl: NDArray[np.float64]  # (B, Z), closed form
    log_w: NDArray[np.float32]  # (B, K)

    @property
    def elbo(self) -> float:
        """Mean over rows: the reconstruction term less the KL divergence."""
        return float((self.reconstruction - self.kl.sum(axis=1)).mean())

    def nll(self, samples: int | None = None) -> float:
        """Mean over rows of the negative importance-weighted bound with `samples` of the K samples (default: all).

        The K samples are used in groups of that size, all of them where it divides K, so that few samples are not
        a noisier figure than many.
        """
        return float(-self.bounds(samples).mean())

    def bounds(self, samples: int | None = None) -> NDArray[np.float64]:
        """The bound of each row, (B,). Raises `ValueError` for more samples than there are."""
        rows, total = self.log_w.shape
        size = total if samples is None else samples
        if not 1 <= size <= total:
            raise ValueError(f"samples: expected 1 to {total}, got {size}")
        groups = self.log_w[:, : total // size * size].astype(np.float64).reshape(rows, -1, size)
        peak = groups.max(axis=2, keepdims=True)
        found = np.log(np.exp(groups - peak).mean(axis=2)) + peak[..., 0]
        return np.asarray(found.mean(axis=1))


def posterior_samples(mu: Floats, logvar: Floats, samples: int, *, seed: int, row: int) -> tuple[Floats, Floats]:
    """`samples` draws of one row's posterior: z (K, Z) and the noise they were made of (K, Z), float32.

    The noise depends on the seed and the row's number alone: rows may be scored in any order and portion.
    """
    noise = np.random.Generator(np.random.PCG64([seed, row])).standard_normal((samples, len(mu)), dtype=np.float32)
    return (mu + np.exp(logvar / 2) * noise).astype(np.float32), noise


def score_row(
    decode: Decode, x: Floats, mu: Floats, logvar: Floats, *, samples: int, seed: int, row: int
) -> Likelihood:
    """Score one picture x, any shape, values in [0, 1], by `samples` draws of its posterior mu, logvar (Z,).

    Probabilities within 2**-24 of 0 or 1 are taken to be that: nearer ones a float32 cannot tell from them.
    """
    z, noise = posterior_samples(mu, logvar, samples, seed=seed, row=row)
    log_likelihood = _bernoulli(decode(z.astype(np.float32)).reshape(samples, -1), x.reshape(-1).astype(np.float32))
    priors = 0.5 * (noise.astype(np.float64) ** 2 - z.astype(np.float64) ** 2 + logvar).sum(axis=1)
    kl = 0.5 * (mu.astype(np.float64) ** 2 + np.exp(logvar.astype(np.float64)) - 1 - logvar)
    return Likelihood(
        reconstruction=log_likelihood.mean(keepdims=True),
        kl=kl[None],
        log_w=(log_likelihood + priors).astype(np.float32)[None],
    )


def _bernoulli(p: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float64]:
    """x ln p + (1 - x) ln (1 - p), summed over pixels: p (K, P), x (P,) -> (K,)."""
    low = np.float32(FLOOR)
    if np.isin(x, (0, 1)).all():
        # The probability given to what is there, p or 1 - p: one logarithm instead of two.
        return np.asarray(np.log(np.maximum(np.abs(p - (1 - x)), low)).sum(axis=1, dtype=np.float64))
    ink, paper = (np.log(np.maximum(q, low)).astype(np.float64) for q in (p, 1 - p))
    return np.asarray(ink @ x + paper @ (1 - x))


def joined(parts: Iterable[Likelihood]) -> Likelihood:
    """Rows scored one after another, together."""
    found = list(parts)
    return Likelihood(
        reconstruction=np.concatenate([f.reconstruction for f in found]),
        kl=np.concatenate([f.kl for f in found]),
        log_w=np.concatenate([f.log_w for f in found]),
    )
