"""The metrics against scikit-learn, and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as truth
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.metrics import classification as c


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def draw(rows: int, classes: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return softmax(2 * rng.standard_normal((rows, classes))), rng.integers(0, classes, rows)


sizes = {"rows": st.integers(1, 200), "classes": st.integers(2, 12), "seed": st.integers(0, 2**32 - 1)}


@settings(max_examples=20, deadline=None)
@given(**sizes)
def test_the_metrics_are_those_of_scikit_learn(rows: int, classes: int, seed: int) -> None:
    p, y = draw(rows, classes, seed)
    names = list(range(classes))
    guess = p.argmax(axis=1)
    assert c.accuracy(p, y) == pytest.approx(truth.accuracy_score(y, guess))
    assert c.negative_log_likelihood(p, y) == pytest.approx(truth.log_loss(y, p, labels=names))
    assert c.brier_score(p, y) == pytest.approx(truth.brier_score_loss(y, p, labels=names, scale_by_half=False))
    assert (c.confusion_matrix(p, y) == truth.confusion_matrix(y, guess, labels=names)).all()
    precision, recall = c.precision_recall(c.confusion_matrix(p, y))
    want = truth.precision_recall_fscore_support(y, guess, labels=names, zero_division=np.nan)
    np.testing.assert_allclose(precision, want[0])
    np.testing.assert_allclose(recall, want[1])


@settings(max_examples=20, deadline=None)
@given(**sizes)
def test_bins_hold_every_row_once_and_equal_mass_means_equal(rows: int, classes: int, seed: int) -> None:
    p, y = draw(rows, classes, seed)
    mass, width = c.equal_mass_bins(p, y), c.equal_width_bins(p, y)
    for bins in (mass, width):
        assert sum(b.rows for b in bins) == rows
        assert sum(b.rows * b.accuracy for b in bins) / rows == pytest.approx(c.accuracy(p, y))
        assert all(b.low - 1e-12 <= b.confidence <= b.high + 1e-12 for b in bins)
    assert max(b.rows for b in mass) - min(b.rows for b in mass) <= 1
    assert len(mass) == min(15, rows)
    shuffled = np.random.default_rng(seed).permutation(rows)
    assert c.expected_calibration_error(p[shuffled], y[shuffled]) == pytest.approx(c.expected_calibration_error(p, y))


def test_ece_of_four_rows_in_two_bins_is_what_pencil_and_paper_say() -> None:
    # Sorted: 0.6 right, 0.7 wrong | 0.8 right, 0.9 right. Gaps: |0.5 - 0.65| and |1 - 0.85|, half the rows each.
    p = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    y = np.array([0, 0, 0, 1])
    assert c.expected_calibration_error(p, y, bins=2) == pytest.approx(0.15)
    # One bin: |0.75 - 0.75|; four bins: 0.4, 0.7, 0.2, 0.1.
    assert c.expected_calibration_error(p, y, bins=1) == pytest.approx(0.0)
    assert c.expected_calibration_error(p, y, bins=4) == pytest.approx(0.35)


def test_rows_of_equal_confidence_share_their_correctness_between_bins() -> None:
    # All at 0.75, half of them right, the right ones first: each of two bins is right half of the time.
    p = np.tile([0.75, 0.25], (8, 1))
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert [b.accuracy for b in c.equal_mass_bins(p, y, bins=2)] == [0.5, 0.5]
    assert c.expected_calibration_error(p, y, bins=2) == pytest.approx(0.25)


def test_a_confidence_on_an_edge_belongs_to_the_lower_bin_and_one_to_the_last() -> None:
    p = np.array([[0.5, 0.5], [0.0, 1.0]])
    bins = c.equal_width_bins(p, np.array([0, 1]), bins=2)
    assert [(b.low, b.high, b.rows) for b in bins] == [(0.0, 0.5, 1), (0.5, 1.0, 1)]


def test_a_certain_mistake_costs_minus_ln_of_the_floor_and_not_infinity() -> None:
    p = np.array([[1.0, 0.0]], dtype=np.float32)
    assert c.negative_log_likelihood(p, np.array([1])) == pytest.approx(27.6310, abs=1e-4)


def test_mistakes_come_with_the_most_confident_first_and_no_right_answer_among_them() -> None:
    p = np.array([[0.6, 0.4], [0.9, 0.1], [0.8, 0.2], [0.01, 0.99]])
    y = np.array([1, 0, 1, 0])
    assert c.most_confident_mistakes(p, y, limit=10).tolist() == [3, 2, 0]
    assert c.most_confident_mistakes(p, y, limit=2).tolist() == [3, 2]
    assert c.most_confident_mistakes(p, p.argmax(axis=1), limit=10).tolist() == []


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_by_which_logits_were_scaled_is_found_again(scale: float) -> None:
    rng = np.random.default_rng(7)
    logits = 2 * rng.standard_normal((10_000, 5))
    p = softmax(logits)
    y = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1)  # labels drawn from p: T = 1 is the truth
    assert c.fit_temperature(scale * logits, y) == pytest.approx(scale, rel=0.04)
    assert c.fit_temperature(scale * logits, y) == pytest.approx(scale * c.fit_temperature(logits, y), rel=1e-5)


def test_the_fitted_temperature_is_a_minimum_of_the_nll() -> None:
    p, y = draw(500, 4, seed=3)
    logits = np.log(p)
    logits[np.arange(500), y] += 2.0
    t = c.fit_temperature(logits, y)
    best = c.negative_log_likelihood(softmax(logits / t), y)
    assert all(c.negative_log_likelihood(softmax(logits / (t * f)), y) > best for f in (0.9, 0.99, 1.01, 1.1))


@pytest.mark.parametrize("rows", [1, 18, 998])
def test_where_all_of_n_rows_are_right_confidence_becomes_one_minus_one_in_n_plus_two(rows: int) -> None:
    # Two classes and one margin for all rows: the minimum is where the probability is the target (Platt 1999).
    logits = np.tile([[3.0, 0.0]], (rows, 1))
    t = c.fit_temperature(logits, np.zeros(rows, np.int64))
    assert softmax(logits / t)[0, 0] == pytest.approx(1 - 1 / (rows + 2), abs=1e-5)


def test_the_wilson_interval_is_the_textbook_one() -> None:
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    assert c.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert c.wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        (np.zeros((0, 3)), np.zeros(0, np.int64), r"scores: expected \(N, K\).*got \(0, 3\)"),
        (np.zeros((2, 3)), np.zeros(3, np.int64), r"labels: expected \(2,\).*got \(3,\)"),
        (np.zeros((2, 3)), np.array([0, 3]), "labels: expected 0 to 2, got 0 to 3"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(
    scores: NDArray[np.float64], labels: NDArray[np.int64], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        c.accuracy(scores, labels)
