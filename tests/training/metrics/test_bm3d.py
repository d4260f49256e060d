"""Block matching and non-local means against definitions and against what must hold for any denoiser."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.fft import dctn
from sklearn.metrics import mean_squared_error

from training.metrics import bm3d as module
from training.metrics.bm3d import bm3d, nlm


def stripes(n: int = 1, side: int = 32) -> np.ndarray:
    """Bars of 4 pixels, moved by one from picture to picture."""
    x = np.arange(side)
    return np.stack([np.tile(0.2 + 0.6 * ((x + k) // 4 % 2), (side, 1)) for k in range(n)]).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_most_of_the_noise_on_a_picture_that_repeats_itself_is_gone(sigma: float) -> None:
    clean = stripes(2)
    x = clean + sigma * np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    before = mean_squared_error(clean.ravel(), x.ravel())
    assert mean_squared_error(clean.ravel(), bm3d(x, sigma).ravel()) < before / 10
    assert mean_squared_error(clean.ravel(), nlm(x, sigma).ravel()) < before / 4


def test_pictures_are_done_each_for_itself() -> None:
    x = stripes(3) + 0.1 * np.random.default_rng(0).standard_normal((3, 32, 32), np.float32)
    for denoise in (bm3d, nlm):
        np.testing.assert_allclose(denoise(x, 0.1)[1], denoise(x[1:2], 0.1)[0], atol=1e-5)


def test_a_flat_picture_stays_and_no_side_is_preferred() -> None:
    flat = np.full((1, 17, 23), 0.3, np.float32)
    np.testing.assert_allclose(bm3d(flat, 0.1), flat, atol=1e-4)
    np.testing.assert_allclose(nlm(flat, 0.1), flat, atol=1e-5)


def test_spectra_and_groups_are_those_of_orthonormal_transforms() -> None:
    block = np.random.default_rng(0).random((1, 8, 8), np.float32)
    np.testing.assert_allclose(
        module._spectra(block, module._dct(8))[0, 0, 0], dctn(block[0], norm="ortho").ravel(), atol=1e-5
    )
    for size in (1, 2, 8, 32):
        np.testing.assert_allclose(module._haar(size) @ module._haar(size).T, np.eye(size), atol=1e-6)


def test_groups_hold_the_blocks_that_are_nearest_by_definition() -> None:
    x = np.random.default_rng(0).random((1, 14, 13), np.float32)
    blocks = {(y, c): x[0, y : y + 8, c : c + 8] for y, c in product(range(7), range(6))}
    seen = set()
    for places in module._groups(x, 3, most=4, alike=1e9):
        for group in places:
            (_, y, c), *others = group.tolist()
            near = [at for at in blocks if max(abs(at[0] - y), abs(at[1] - c)) <= 3]
            best = sorted(near, key=lambda at: float(((blocks[at] - blocks[y, c]) ** 2).sum()))[:4]
            assert {(y, c), *((b, d) for _, b, d in others)} == set(best)
            seen.add((y, c))
    assert seen == set(product((0, 3, 6), (0, 3, 5)))


def test_one_weight_of_non_local_means_by_hand() -> None:
    x = np.array([[[0.0, 1.0, 0.0]]], np.float32)
    near = np.exp(-(1 - 2 * 0.5**2) / (2 * 0.5) ** 2)  # one pixel at distance 1, sigma 0.5, h 2
    denoised = nlm(x, 0.5, patch=1, reach=1, h=2.0)
    np.testing.assert_allclose(denoised[0, 0, 1], 1 / (1 + 2 * near), rtol=1e-5)


def test_what_cannot_be_denoised_is_named() -> None:
    with pytest.raises(ValueError, match=r"of shape \(1, 7, 9\).*8 or more"):
        bm3d(np.zeros((1, 7, 9), np.float32), 0.1)
    with pytest.raises(ValueError, match=r"noise of 0"):
        bm3d(np.zeros((1, 8, 9), np.float32), 0)
