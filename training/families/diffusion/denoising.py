"""A denoiser of small pictures beside the yardsticks that learn nothing: with the noise level given, and estimated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.metrics.bm3d import bm3d, nlm

Array = NDArray[np.float32]
Denoise = Callable[[Array, NDArray[np.float32]], Array]
"""Noisy x (N, H, W, C) and sigma (N,) -> (N, H, W, C)."""

LEVELS: Final = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
HEADLINE: Final = 0.5
NOISE_SEED: Final = 0
CURVE_ROWS: Final = 2000
"""Rows at the other levels than `HEADLINE`."""
BESIDE_ROWS: Final = 500
"""Rows that the yardsticks are run on; they take seconds a hundred pictures."""


@dataclass(frozen=True, kw_only=True)
class Denoised:
    """Mean PSNR in dB at each of `LEVELS`: over all rows at `HEADLINE`, over the first `CURVE_ROWS` elsewhere.

    Attributes:
        noisy, told, blind: of the noisy pictures, and of the denoiser given sigma and given its estimate.
        beside: by yardstick on the first `BESIDE_ROWS`; and `told`, the denoiser on the same.
        sigma_error: mean |estimate / sigma - 1|.
        read: share of rows whose class a classifier reads from what is denoised blind at `HEADLINE`, if there is one.
    """

    noisy: list[float]
    told: list[float]
    blind: list[float]
    beside: dict[str, list[float]]
    sigma_error: list[float]
    read: float | None

    def gain(self, yardstick: str, level: float = HEADLINE) -> float:
        """dB over a yardstick on the same rows."""
        i = LEVELS.index(level)
        return self.beside["told"][i] - self.beside[yardstick][i]

    def lost_blind(self, level: float = HEADLINE) -> float:
        """dB that are lost where sigma is not given."""
        i = LEVELS.index(level)
        return self.told[i] - self.blind[i]


def noised(x: NDArray[np.uint8], sigma: float) -> Array:
    """x / 255 + sigma * noise, not clipped: (N, H, W, C). A row has the same noise whatever N is."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(NOISE_SEED, spawn_key=(round(1000 * sigma),))))
    return x.astype(np.float32) / 255 + np.float32(sigma) * rng.standard_normal(x.shape, dtype=np.float32)


def psnr(found: NDArray[np.floating[Any]], truth: NDArray[np.uint8]) -> NDArray[np.float64]:
    """10 log10(1 / MSE) of each row, pixels in [0, 1], `found` clipped to that: (N, ...) twice -> (N,) in dB."""
    error = np.clip(found, 0, 1).astype(np.float64) - truth / 255
    mse = np.square(error).reshape(len(error), -1).mean(axis=1)
    found_db: NDArray[np.float64] = -10 * np.log10(np.maximum(mse, 1e-12))
    return found_db


def measured(
    denoise: Denoise,
    estimate: Callable[[Array], Array],
    x: NDArray[np.uint8],
    y: NDArray[np.int64],
    *,
    read: Callable[[NDArray[np.uint8]], NDArray[np.int64]] | None,
) -> Denoised:
    """All figures on test rows x (N, H, W, C), y (N,)."""
    few = min(len(x), BESIDE_ROWS)
    rows: dict[str, list[float]] = {name: [] for name in ("noisy", "told", "blind", "sigma_error")}
    beside: dict[str, list[float]] = {"told": [], **{name: [] for name in YARDSTICKS}}
    seen: float | None = None
    for sigma in LEVELS:
        truth = x if sigma == HEADLINE else x[:CURVE_ROWS]
        noisy = noised(truth, sigma)
        found = estimate(noisy)
        told, blind = denoise(noisy, np.full(len(truth), sigma, np.float32)), denoise(noisy, found)
        for name, pictures in (("noisy", noisy), ("told", told), ("blind", blind)):
            rows[name].append(_mean(pictures, truth))
        rows["sigma_error"].append(float(np.abs(found / sigma - 1).mean()))
        beside["told"].append(_mean(told[:few], x[:few]))
        for name, yardstick in YARDSTICKS.items():
            planes = np.moveaxis(noisy[:few], -1, 1).reshape(-1, *x.shape[1:3])
            clean = yardstick(planes, sigma).reshape(few, x.shape[3], *x.shape[1:3])
            beside[name].append(_mean(np.moveaxis(clean, 1, -1), x[:few]))
        if sigma == HEADLINE and read is not None:
            seen = float((read(np.rint(np.clip(blind, 0, 1) * 255).astype(np.uint8)) == y).mean())
    return Denoised(**rows, beside=beside, read=seen)


YARDSTICKS: Final[Mapping[str, Callable[[Array, float], Array]]] = {"bm3d": bm3d, "nlm": nlm}


def _mean(found: NDArray[np.floating[Any]], truth: NDArray[np.uint8]) -> float:
    return float(psnr(found, truth).mean())
