"""Conformal intervals: the quantile by its definition, and the promise kept on exchangeable rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.manifest.table import Conformal
from training.families.tabular.crossfit import Folds, calibrate


@settings(max_examples=50)
@given(
    st.lists(st.floats(0, 100, width=32), min_size=1, max_size=60).map(sorted),
    st.integers(1, 99).map(lambda percent: percent / 100),
)
def test_the_quantile_is_the_smallest_score_that_enough_reach(scores: list[float], coverage: float) -> None:
    found = Conformal(method="cross", scores=tuple(scores))
    # With the new row's own score counted as one more, at least this share must not exceed the quantile.
    enough = [s for s in scores if sum(t <= s for t in scores) >= coverage * (len(scores) + 1) - 1e-9]
    if not enough:
        with pytest.raises(ValueError, match="promise at most"):
            found.quantile(coverage)
    else:
        assert found.quantile(coverage) == min(enough)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_exchangeable_scores_keep_the_promise(coverage: float) -> None:
    rng = np.random.default_rng(0)
    n, example_commands = 39, 20_000
    scores = rng.exponential(size=(example_commands, n + 1))
    k = np.ceil((n + 1) * coverage - 1e-9).astype(int)
    covered = scores[:, -1] <= np.sort(scores[:, :-1], axis=1)[:, k - 1]
    expected = k / (n + 1)  # exactly, for scores without ties
    assert abs(covered.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / example_commands)
    some = [Conformal(method="split", scores=tuple(np.sort(row[:-1]))).quantile(coverage) for row in scores[:50]]
    assert np.allclose(some, np.sort(scores[:50, :-1], axis=1)[:, k - 1])


def test_each_row_is_scored_by_nets_that_have_not_seen_it() -> None:
    y = torch.arange(10, dtype=torch.float32)
    rows = torch.arange(10)
    folds = Folds.of(y, rows, count=5, repeats=2, seed=0)
    assert len(folds) == 10
    assert not (folds.learns & folds.judges).any()
    assert (folds.judges.sum(0) == 2).all()  # once in each partition
    # A net answers 100 for every row that it learnt from and 0.5 too little for the others.
    values = torch.where(folds.learns, 100.0, y - 0.5)
    answers = torch.stack([values, torch.ones_like(values)], dim=-1)[None]  # (1, S, N, 2)
    found = calibrate(answers, y, folds, rows, classes=0, terms=torch.zeros(10, 0))
    assert found.scores.tolist() == [0.5] * 10
    assert found.losses == (0.25,)


def test_settings_that_cannot_be_told_from_the_best_vote_with_it() -> None:
    y = torch.tensor([0, 1] * 10)
    rows = torch.arange(20)
    folds = Folds.of(y, rows, count=5, repeats=1, seed=0)
    right = torch.nn.functional.one_hot(y, 2).float()

    def answers(p: float, wrong: slice) -> torch.Tensor:
        found = torch.log(right * p + (1 - right) * (1 - p))
        found[wrong] = found[wrong].flip(-1)
        return found.expand(len(folds), 20, 2)

    every = torch.stack([answers(0.8, slice(0, 14)), answers(0.9, slice(0, 2)), answers(0.9, slice(2, 4))])
    found = calibrate(every, y, folds, rows, classes=2, terms=torch.zeros(20, 0))
    assert found.kept == (1, 2)  # each wrong on two rows; the first is wrong on most
    assert found.losses[1] == pytest.approx(found.losses[2])
    given = found(every.double(), torch.zeros(20, 0))
    assert (given.argmax(1) == y)[4:].all()
    assert torch.allclose(given.exp().sum(1), torch.ones(20, dtype=torch.float64))
