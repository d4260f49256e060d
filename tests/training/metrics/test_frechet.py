"""Distances between sets of pictures, against closed forms, SciPy and sets made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from training.metrics.frechet import (
    frechet_distance,
    gaussian_distance,
    memorisation,
    moments,
    nearest,
    precision_recall,
)

Matrix = NDArray[np.float64]


def covariance(rng: np.random.Generator, size: int) -> Matrix:
    root = rng.normal(size=(size, size))
    return root @ root.T


def test_diagonal_gaussians_have_the_distance_of_their_means_and_deviations() -> None:
    """Commuting covariances: |m1 - m2|^2 + sum of (s1 - s2)^2."""
    rng = np.random.default_rng(0)
    m1, m2, s1, s2 = rng.normal(size=7), rng.normal(size=7), rng.random(7), rng.random(7)
    want = ((m1 - m2) ** 2).sum() + ((s1 - s2) ** 2).sum()
    assert gaussian_distance((m1, np.diag(s1**2)), (m2, np.diag(s2**2))) == pytest.approx(want, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 12))
def test_any_gaussians_have_the_distance_that_scipys_matrix_root_gives(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = covariance(rng, size), covariance(rng, size)
    m1, m2 = rng.normal(size=size), rng.normal(size=size)
    want = ((m1 - m2) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert gaussian_distance((m1, a), (m2, b)) == pytest.approx(want, rel=1e-5, abs=1e-6)
    assert gaussian_distance((m2, b), (m1, a)) == pytest.approx(want, rel=1e-5, abs=1e-6)


def test_a_feature_that_is_always_0_adds_nothing() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(500, 4)), 2 * rng.normal(size=(400, 4)) + 1
    with_zeros = [np.insert(x, 2, 0.0, axis=1) for x in (a, b)]
    assert frechet_distance(*with_zeros) == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_a_set_is_no_distance_from_itself() -> None:
    x = np.random.default_rng(2).normal(size=(300, 20)).astype(np.float32)
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-9)


def test_moments_are_those_of_numpy_even_far_from_zero() -> None:
    x = np.random.default_rng(3).normal(size=(200, 5)) + 1e4
    mean, cov = moments(x)
    np.testing.assert_allclose(mean, x.mean(axis=0))
    np.testing.assert_allclose(cov, np.cov(x, rowvar=False), rtol=1e-9)


def test_one_row_has_no_covariance() -> None:
    with pytest.raises(ValueError, match=r"at least 2 rows, got \(1, 5\)"):
        moments(np.zeros((1, 5)))


# Precision and recall


def test_precision_and_recall_of_sets_on_a_line() -> None:
    """Real at 0, 1, 2, 3; generated at 0.5, 2.5, 9, 10. With the nearest neighbour alone, real balls have radius 1:
    0.5 and 2.5 are inside. Generated ones have radii 2, 2, 1, 1: all four real rows are within 2 of 0.5 or 2.5."""
    real = np.array([[0.0], [1.0], [2.0], [3.0]])
    generated = np.array([[0.5], [2.5], [9.0], [10.0]])
    assert precision_recall(real, generated, neighbours=1) == (0.5, 1.0)
    assert precision_recall(generated, real, neighbours=1) == (1.0, 0.5)


def test_a_model_of_one_mode_is_precise_and_recalls_half() -> None:
    rng = np.random.default_rng(4)
    left, right = rng.normal(size=(400, 3)), rng.normal(size=(400, 3)) + 50
    precision, recall = precision_recall(np.concatenate([left, right]), rng.normal(size=(800, 3)))
    assert precision > 0.95
    assert recall == pytest.approx(0.5, abs=0.02)


def test_a_model_that_repeats_one_picture_recalls_nothing() -> None:
    rng = np.random.default_rng(5)
    real = rng.normal(size=(200, 3))
    precision, recall = precision_recall(real, np.repeat(real[:1] + 0.01, 200, axis=0))
    assert precision == 1.0
    assert recall == 0.0


def test_more_rows_than_one_portion_change_nothing() -> None:
    """Against the definition, written out in NumPy."""
    rng = np.random.default_rng(6)
    real, generated = rng.normal(size=(1300, 2)), rng.normal(size=(1100, 2)) * 1.3
    radius, own = (np.sort(np.linalg.norm(x[:, None] - x[None], axis=-1), axis=1)[:, 5] for x in (real, generated))
    far = np.linalg.norm(generated[:, None] - real[None], axis=-1)
    want = ((far <= radius).any(axis=1).mean(), (far <= own[:, None]).any(axis=0).mean())
    assert precision_recall(real, generated) == pytest.approx(want, abs=2e-3)


def test_too_few_rows_have_no_neighbours() -> None:
    with pytest.raises(ValueError, match="generated: expected more than 5 rows, got 5"):
        precision_recall(np.zeros((9, 2)), np.zeros((5, 2)))


# Neighbours


def test_the_nearest_are_found_with_their_distances_in_order() -> None:
    rng = np.random.default_rng(7)
    queries, others = rng.normal(size=(30, 4, 2)), rng.normal(size=(1500, 4, 2))
    far = np.linalg.norm(queries.reshape(30, 1, 8) - others.reshape(1, 1500, 8), axis=-1)
    distances, index = nearest(queries, others, limit=3)
    np.testing.assert_array_equal(index, np.argsort(far, axis=1)[:, :3])
    np.testing.assert_allclose(distances, np.sort(far, axis=1)[:, :3], rtol=1e-5)


def test_a_copy_is_at_no_distance_exactly() -> None:
    x = np.random.default_rng(8).integers(0, 256, (50, 28, 28), np.uint8)
    distances, index = nearest(x[10:20], x)
    np.testing.assert_array_equal(index[:, 0], np.arange(10, 20))
    assert (distances == 0).all()


def test_fresh_draws_have_memorised_nothing_and_copies_all() -> None:
    rng = np.random.default_rng(9)
    train, test, fresh = (rng.normal(size=(800, 6)) for _ in range(3))
    assert memorisation(fresh, train, test) == pytest.approx(1, abs=0.05)
    assert memorisation(train, train, test) == 0
    assert memorisation(train + 0.05 * rng.normal(size=train.shape), train, test) < 0.3


def test_memorisation_needs_equally_many() -> None:
    with pytest.raises(ValueError, match="equally many pictures, got 9 and 8"):
        memorisation(np.zeros((3, 2)), np.zeros((9, 2)), np.zeros((8, 2)))
