"""Colours as brightness and opponent colours, and back."""

from __future__ import annotations

import numpy as np
import pytest

from app.core.imaging import opponent_colours as opponent


def test_a_picture_comes_back() -> None:
    for channels in (1, 3):
        picture = np.random.default_rng(0).random((7, 5, channels), np.float32)
        np.testing.assert_allclose(opponent.to_picture(opponent.to_planes(picture)), picture, atol=1e-6)


def test_a_grey_photo_has_its_own_brightness_and_no_colour() -> None:
    grey = np.random.default_rng(0).random((7, 5, 1), np.float32)
    planes = opponent.to_planes(np.repeat(grey, 3, axis=2))
    np.testing.assert_allclose(planes[0], grey[..., 0], atol=1e-6)
    np.testing.assert_allclose(planes[1:], 0.5, atol=1e-6)
    np.testing.assert_array_equal(opponent.to_planes(grey)[0], grey[..., 0])


def test_white_noise_stays_white_and_is_as_strong_as_said() -> None:
    picture = np.random.default_rng(0).standard_normal((400, 400, 3), np.float32)
    covariance = np.cov(opponent.to_planes(picture).reshape(3, -1))
    np.testing.assert_allclose(covariance, np.diag(opponent.noise(3) ** 2), atol=0.01)
    np.testing.assert_array_equal(opponent.noise(1), [1])


def test_other_numbers_of_channels_are_named() -> None:
    with pytest.raises(ValueError, match=r"of shape \(4, 4, 2\), expected 1 channel or 3"):
        opponent.to_planes(np.zeros((4, 4, 2), np.float32))
    with pytest.raises(ValueError, match=r"of shape \(4, 4\), expected 1 channel or 3"):
        opponent.to_picture(np.zeros((4, 4), np.float32))
