"""An encoder that looks at what its decoder makes: a network proposes a latent, a search over candidates disposes.

The encoder of an autoencoder shall find argmin_z |x - D(z)|^2. A network alone guesses it, and on pictures that it has
not seen its guess is the larger part of the error. Here the guess is one candidate among a few: the others are the
nearest entries of a fixed codebook of decoded latents (vector quantisation), and all are moved downhill by damped
Gauss-Newton steps on the decoder (Levenberg 1944). The latent with the least squared error is the code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.families.autoencoder.network import ConvEncoder, FourierDecoder

DAMPING = 0.1
LONGEST_STEP = 0.2
FLOOR = 1 / 784  # per pixel: holds a latent where its picture hardly changes, and rounding would move it
TIE = 2e-7  # of squared error: what a further step may cost


@dataclass(frozen=True, kw_only=True)
class Basis:
    """The first R principal directions of the pictures: distances between pictures are nearly those within it."""

    mean: Tensor  # (P,)
    directions: Tensor  # (P, R), orthonormal

    def project(self, x: Tensor) -> Tensor:
        """(B, P) -> (B, R)."""
        return (x - self.mean) @ self.directions

    @staticmethod
    def of(x: Tensor, rank: int) -> Basis:
        """The principal directions of flat pictures (N, P), at most `rank` of them."""
        mean = x.mean(0)
        centred = x - mean
        values = torch.linalg.svd(centred.T @ centred if len(x) > x.shape[1] else centred, full_matrices=False)
        return Basis(mean=mean, directions=values.Vh[:rank].T.contiguous())


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """K latents and where their decodings lie."""

    latents: Tensor  # (K, Z)
    projected: Tensor  # (K, R)
    square: Tensor  # (K,) squared distance of each decoding from the mean

    @staticmethod
    def of(latents: Tensor, decodings: Tensor, basis: Basis) -> Codebook:
        return Codebook(
            latents=latents, projected=basis.project(decodings), square=(decodings - basis.mean).square().sum(1)
        )

    def nearest(self, projected: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The `k` entries nearest to pictures, best first: latents (B, k, Z), and their squared distances (B, k) less
        the pictures' own squared distances from the mean."""
        distance, index = (self.square - 2 * projected @ self.projected.T).topk(k, dim=1, largest=False)
        return self.latents[index], distance


def solve(a: Tensor, b: Tensor) -> Tensor:
    """x of a x = b by Gauss and Jordan, unrolled in operations that ONNX has: (B, Z, Z) positive definite, (B, Z)."""
    rows = torch.cat([a, b.unsqueeze(2)], 2)
    size = a.shape[1]
    for i in range(size):
        pivot = rows[:, i : i + 1] / rows[:, i : i + 1, i : i + 1]
        others = torch.ones(size, device=a.device)
        others[i] = 0
        rows = (
            torch.cat([rows[:, :i], pivot, rows[:, i + 1 :]], 1) - rows[:, :, i : i + 1] * others.view(1, -1, 1) * pivot
        )
    return rows[:, :, -1]


def descend(
    decoder: FourierDecoder, z: Tensor, x: Tensor, *, damping: float = DAMPING, floor: float = FLOOR, bound: float
) -> tuple[Tensor, Tensor]:
    """One damped Gauss-Newton step on |x - D(z)|^2.

    Args:
        z, x: latents (B, Z) and flat pictures (B, P).
        damping: share of the mean curvature that is added to every direction's, and `floor` per pixel on top.
        bound: no coordinate leaves [-bound, bound].
    Returns: the moved latents (B, Z), and the mean squared errors (B,) before the step.
    """
    decoded, jacobian = decoder.linearise(z)
    residual = x - decoded
    curvature = jacobian @ jacobian.transpose(1, 2)  # (B, Z, Z)
    gradient = (jacobian @ residual.unsqueeze(2)).squeeze(2)
    unit = torch.eye(z.shape[1], device=z.device)
    mean_curvature = (curvature * unit).sum((1, 2)) / z.shape[1]
    step = solve(curvature + (damping * mean_curvature + floor * x.shape[1]).view(-1, 1, 1) * unit, gradient)
    length = step.square().sum(1, keepdim=True).sqrt()
    step = step * (LONGEST_STEP / length.clamp_min(LONGEST_STEP))
    return (z + step).clamp(-bound, bound), residual.square().mean(1)


class SearchingEncoder(nn.Module):
    """Pictures in [0, 1], (B, C, H, W) -> latents (B, Z) of the least squared error among the candidates tried.

    The proposal itself is among them, so its error is never exceeded (but by `TIE` a step). With `nearest=0, steps=0`
    it is the proposal.
    """

    basis_mean: Tensor
    basis_directions: Tensor
    codebook_latents: Tensor
    codebook_projected: Tensor
    codebook_square: Tensor

    def __init__(
        self,
        encoder: ConvEncoder,
        decoder: FourierDecoder,
        *,
        codebook: Codebook,
        basis: Basis,
        bound: float,
        nearest: int = 3,
        steps: int = 4,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        for name in ("latents", "projected", "square"):
            self.register_buffer(f"codebook_{name}", getattr(codebook, name))
        self.register_buffer("basis_mean", basis.mean)
        self.register_buffer("basis_directions", basis.directions)
        self.bound, self.nearest, self.steps = bound, nearest, steps

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.encoder(x).clamp(-self.bound, self.bound)
        if self.nearest == self.steps == 0:
            return z
        flat = x.flatten(1)
        z = z.unsqueeze(1)  # (B, 1, Z)
        if self.nearest:
            projected = self._basis().project(flat)
            z = torch.cat([z, self._codebook().nearest(projected, self.nearest)[0]], 1)
        rows, candidates, size = z.shape  # not len(x), which the exporter would take for a constant
        z = z.flatten(0, 1)
        flat = flat.unsqueeze(1).expand(-1, candidates, -1).flatten(0, 1)
        tried, errors = [], []
        for _ in range(self.steps):
            tried.append(z)
            z, error = descend(self.decoder, z, flat, bound=self.bound)
            errors.append(error)
        tried.append(z)
        errors.append((self.decoder(z).flatten(1) - flat).square().mean(1))
        found = torch.stack(tried, 1).view(rows, -1, size)  # (B, candidates * (steps + 1), Z)
        # Where steps no longer change the error, the last is taken: else rounding would choose among them.
        later = torch.arange(self.steps + 1, device=x.device) * TIE
        best = (torch.stack(errors, 1) - later).view(rows, -1).argmin(1)
        return found.gather(1, best.view(-1, 1, 1).expand(-1, 1, size)).squeeze(1)

    def _basis(self) -> Basis:
        return Basis(mean=self.basis_mean, directions=self.basis_directions)

    def _codebook(self) -> Codebook:
        return Codebook(latents=self.codebook_latents, projected=self.codebook_projected, square=self.codebook_square)
