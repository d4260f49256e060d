"""Latents against closed forms: the prior's draws, straight lines and arcs, planes, steps along one axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from app.core.manifest.latent import Latent
from app.core.sampling.latents import between, moved, plane, sample_prior, spread

PLAIN = Latent(size=3, low=(-1, 0, 10), high=(3, 1, 30))
NORMAL = Latent(size=3, low=(-1, 0, 10), high=(3, 1, 30), prior="normal")

vectors = arrays(np.float32, 4, elements=st.floats(-4, 4, width=32))


def share_below(z: float) -> float:
    """Of the standard normal distribution."""
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**53 - 1), n=st.integers(1, 20), more=st.integers(0, 20), size=st.integers(1, 40))
def test_a_row_of_a_seed_does_not_depend_on_how_many_are_drawn(seed: int, n: int, more: int, size: int) -> None:
    few, many = sample_prior(n, size, seed), sample_prior(n + more, size, seed)
    assert (few.dtype, few.shape) == (np.float32, (n, size))
    np.testing.assert_array_equal(few, many[:n])


def test_draws_are_standard_normal() -> None:
    sample = np.sort(sample_prior(10_000, 2, seed=1).ravel().astype(np.float64))
    shares = np.array([share_below(z) for z in sample])
    distance = np.abs(shares - (np.arange(20_000) + 0.5) / 20_000).max()  # Kolmogorov-Smirnov
    assert distance < 1.63 / math.sqrt(20_000)  # 1 % of samples are further away


def test_a_seed_means_the_same_numbers_for_good() -> None:
    np.testing.assert_array_equal(sample_prior(1, 2, seed=7), np.float32([[1.52196932, -1.14410579]]))


@settings(max_examples=30)
@given(a=vectors, b=vectors, frames=st.integers(2, 20), spherical=st.booleans())
def test_the_way_begins_and_ends_where_it_is_said(
    a: NDArray[Any], b: NDArray[Any], frames: int, spherical: bool
) -> None:
    way = between(a, b, frames, spherical=spherical)
    assert (way.dtype, way.shape) == (np.float32, (frames, 4))
    np.testing.assert_allclose(way[[0, -1]], [a, b], atol=1e-5)


@settings(max_examples=30)
@given(a=vectors, b=vectors)
def test_a_straight_way_has_even_steps(a: NDArray[Any], b: NDArray[Any]) -> None:
    steps = np.diff(between(a, b, 6, spherical=False).astype(np.float64), axis=0)
    np.testing.assert_allclose(steps, np.tile((b.astype(float) - a) / 5, (5, 1)), atol=1e-5)


@settings(max_examples=30)
@given(a=vectors, b=vectors)
def test_an_arc_keeps_the_length_and_turns_evenly(a: NDArray[Any], b: NDArray[Any]) -> None:
    if min(np.linalg.norm(a), np.linalg.norm(b)) < 0.1:
        return
    a, b = (2 * v / np.linalg.norm(v) for v in (a, b))
    cosine = float(a @ b) / 4
    if not -0.99 < cosine < 0.99:
        return
    way = between(a, b, 5, spherical=True).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 2, rtol=1e-4)
    np.testing.assert_allclose((way[:-1] * way[1:]).sum(axis=1) / 4, math.cos(math.acos(cosine) / 4), atol=1e-4)


@pytest.mark.parametrize("end", [[2.0, 2.0], [-1.0, -1.0], [0.0, 0.0]], ids=["the same way", "opposite", "nowhere"])
def test_where_there_is_no_arc_the_way_is_straight(end: list[float]) -> None:
    start = np.float32([1, 1])
    way = between(start, np.float32(end), 3, spherical=True)
    np.testing.assert_allclose(way[1], (start + np.float32(end)) / 2, atol=1e-6)


def test_a_plane_without_a_prior_is_even_over_what_held_out_rows_have() -> None:
    square = plane(PLAIN, 3, (2, 0)).reshape(3, 3, 3)
    np.testing.assert_array_equal(square[0, :, 2], [10, 20, 30])  # to the right
    np.testing.assert_array_equal(square[:, 0, 0], [3, 1, -1])  # upwards
    np.testing.assert_array_equal(square[:, :, 1], np.full((3, 3), 0.5))  # in the middle


def test_a_plane_of_a_normal_prior_has_the_same_share_of_draws_in_each_step() -> None:
    square = plane(NORMAL, 20, (0, 1)).reshape(20, 20, 3)
    middles = (np.arange(20) + 0.5) / 20
    np.testing.assert_allclose([share_below(z) for z in square[7, :, 0]], middles, atol=1e-6)
    np.testing.assert_allclose([share_below(z) for z in square[:, 7, 1]], middles[::-1], atol=1e-6)
    np.testing.assert_array_equal(square[:, :, 2], np.zeros((20, 20)))


def test_the_spread_is_that_of_a_normal_distribution() -> None:
    sigma = 2.5
    width = 2 * 2.3263479 * sigma  # holds 98 %
    latent = Latent(size=1, low=(-width / 2,), high=(width / 2,))
    assert spread(latent, 0) == pytest.approx(sigma, rel=1e-6)


def test_moving_changes_one_number_alone() -> None:
    rows = np.float32([[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(moved(rows, 1, [-1, 0.5]), [[[1, 1, 3], [1, 2.5, 3]], [[4, 4, 6], [4, 5.5, 6]]])
    np.testing.assert_array_equal(rows, [[1, 2, 3], [4, 5, 6]])
