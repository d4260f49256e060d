"""Denoising as it is measured: PSNR by hand, yardsticks beside, the noise that every run meets again."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from training.families.diffusion import denoising
from training.families.diffusion.denoising import Array


def squares(n: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Black pictures of 12x12 with a white square, to the left or to the right, which is the label."""
    x, y = np.zeros((n, 12, 12, 1), np.uint8), np.arange(n) % 2
    for i, label in enumerate(y.tolist()):
        x[i, 3:9, 1 + 5 * label : 6 + 5 * label] = 255
    return x, y


def test_psnr_is_ten_log_of_one_over_the_mean_square() -> None:
    truth = np.array([[0, 255]], np.uint8)
    assert denoising.psnr(np.array([[0.1, 0.9]]), truth)[0] == pytest.approx(20.0)
    # What is out of range is clipped, as it would be in a file.
    assert denoising.psnr(np.array([[-3.0, 0.5]]), truth)[0] == pytest.approx(10 * math.log10(8))


def test_noise_is_as_strong_as_said_and_the_same_again() -> None:
    x, _ = squares(50)
    noisy = denoising.noised(x, 0.5)
    assert float((noisy - x / 255).std()) == pytest.approx(0.5, rel=0.03)
    np.testing.assert_array_equal(noisy[:10], denoising.noised(x[:10], 0.5))
    assert not np.array_equal(noisy, denoising.noised(x, 0.3))


def test_a_denoiser_that_knows_the_truth_gains_over_the_yardsticks_and_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = squares(6)
    monkeypatch.setattr(denoising, "LEVELS", (0.2, denoising.HEADLINE))
    truth = x.astype(np.float32) / 255

    def denoise(noisy: Array, sigma: Array) -> Array:
        # As far from the truth as the told level is from the real one.
        real = (noisy - truth).reshape(len(noisy), -1).std(axis=1)
        found: Array = truth + 0.01 + np.abs(sigma / real - 1)[:, None, None, None].astype(np.float32)
        return found

    def estimate(noisy: Array) -> Array:
        found: Array = 1.1 * (noisy - truth).reshape(len(noisy), -1).std(axis=1)
        return found

    def read(pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
        right, left = pictures[:, :, 6:], pictures[:, :, :6]
        more: NDArray[np.int64] = (right.mean(axis=(1, 2, 3)) > left.mean(axis=(1, 2, 3))).astype(np.int64)
        return more

    found = denoising.measured(denoise, estimate, x, y, read=read)
    at = denoising.LEVELS.index(denoising.HEADLINE)
    assert found.noisy[at] == pytest.approx(-10 * math.log10(0.5**2 / 2), abs=1.0)  # clipping halves it
    assert found.gain("bm3d") > 0
    assert found.gain("nlm") > 0
    assert found.lost_blind() > 0
    assert found.sigma_error[at] == pytest.approx(0.1, abs=0.05)
    assert found.read == 1.0
