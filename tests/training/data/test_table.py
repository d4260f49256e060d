"""Tables by name: what is in them, their rules, and their folds."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.manifest.table import CategoryColumn, NumberColumn
from training.data import synthetic_tables as rules
from training.data.base import DataError
from training.data.table import copies_of, folds
from training.data.tables import available, is_table, load


@pytest.mark.parametrize(
    ("name", "rows", "columns", "labels"),
    [("iris", 150, 4, 3), ("wine", 178, 13, 3), ("breast-cancer", 569, 30, 2), ("diabetes", 442, 10, 0)],
)
def test_the_small_tables_are_whole(name: str, rows: int, columns: int, labels: int) -> None:
    found = load(name)
    assert found.train_x.shape == (rows, columns)
    assert found.train_x.dtype == torch.float32
    assert len(found.test_y) == 0
    assert len(found.labels) == labels
    assert (found.target is None) == bool(labels)
    for j, column in enumerate(found.table.columns):
        values = found.train_x[:, j]
        assert not column.missing
        if isinstance(column, NumberColumn):
            assert (values.min().item(), values.max().item()) == (np.float32(column.low), np.float32(column.high))
        else:
            assert set(values.tolist()) == set(range(len(column.categories)))


def test_names_are_clean_and_have_their_units() -> None:
    first, *_ = load("iris").table.columns
    assert isinstance(first, NumberColumn)
    assert (first.name, first.unit) == ("sepal length", "cm")
    patient = {column.name: column for column in load("diabetes").table.columns}
    assert isinstance(patient["sex"], CategoryColumn)
    pressure = patient["blood pressure"]
    assert isinstance(pressure, NumberColumn)
    assert pressure.unit == "mmHg"
    assert 60 < pressure.low < 70  # the real measurements, not scikit-learn's scaled ones
    assert not any("_" in column.name for column in load("wine").table.columns)


def test_the_drawn_tables_never_change() -> None:
    digests = {}
    for name in rules.SOURCES:
        found = load(name)
        x, y = found.everything()
        # Rounded, since logarithms differ in the last place between processors.
        stable = np.round(np.nan_to_num(np.column_stack([x.numpy(), y.numpy()]), nan=-1.0), 2).astype(np.float32)
        digests[name] = hashlib.sha256(stable.tobytes()).hexdigest()[:12]
        assert (len(found.train_y), len(found.test_y)) == (rules.ROWS, rules.TEST_ROWS)
    assert digests == DIGESTS


DIGESTS = {"pass": "629f0bc9653d", "grade": "c79fee8a7bda"}


def test_students_pass_as_often_as_the_rule_says() -> None:
    x, y = load("pass").everything()
    p = rules.truth("pass", x.numpy())
    assert p is not None
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):
        some = (p >= low) & (p < high)
        expected, n = p[some].mean(), some.sum()
        assert abs(y.numpy()[some].mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


def test_grades_lie_around_the_rule_as_far_as_it_says() -> None:
    x, y = load("grade").everything()
    found = rules.truth("grade", x.numpy())
    assert found is not None
    known = ~np.isnan(found[:, 0])
    z = (y.numpy() - found[:, 0])[known] / found[known, 1]
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * len(z))
    assert 0.05 < 1 - known.mean() < 0.07
    for reach, share in zip(rules.NORMAL_REACH, (0.5, 0.8, 0.9, 0.95), strict=True):
        assert abs((np.abs(z) <= reach).mean() - share) < 0.02


@settings(max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=10, max_size=80), st.integers(2, 6), st.integers(0, 5))
def test_folds_are_even_in_rows_and_in_every_class(labels: list[int], count: int, seed: int) -> None:
    y = torch.tensor(labels)
    found = folds(y, count, seed=seed)
    for part in (np.arange(len(y)), *(np.flatnonzero(y.numpy() == k) for k in set(labels))):
        sizes = np.bincount(found[part], minlength=count)
        assert sizes.max() - sizes.min() <= 1
    assert (found == folds(y, count, seed=seed)).all()


def test_copies_are_in_one_fold() -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    x[5] = x[31] = x[50]
    x[7, 1] = x[8, 1] = float("nan")
    x[8, [0, 2]] = x[7, [0, 2]]
    copies = copies_of(x)
    assert len(set(copies.tolist())) == 57
    for seed in range(20):
        found = folds(torch.zeros(60, dtype=torch.int64), 5, seed=seed, copies=copies)
        assert found[5] == found[31] == found[50]
        assert found[7] == found[8]
        assert np.bincount(found).min() >= 9


def test_rows_of_few_values_are_rows_of_their_own() -> None:
    x = torch.randint(0, 2, (60, 3), generator=torch.Generator().manual_seed(0)).float()
    assert copies_of(x).tolist() == list(range(60))


def test_folds_of_numbers_are_drawn_without_looking_at_them() -> None:
    y = torch.arange(100.0)
    assert (folds(y, 5, seed=1) == folds(-y, 5, seed=1)).all()
    assert (folds(y, 5, seed=1) != folds(y, 5, seed=2)).any()


def test_every_table_is_listed_and_known() -> None:
    names = [name for name, _, _ in available()]
    assert names[:6] == ["pass", "grade", "iris", "wine", "breast-cancer", "diabetes"]
    assert all(is_table(name) for name in names[:6])
    assert is_table("some/where.CSV")
    assert not is_table("mnist")


def test_what_is_for_files_only_is_refused_of_names() -> None:
    with pytest.raises(DataError, match="iris: predicts 'species', not 'petal width'"):
        load("iris", target_column="petal width")
    with pytest.raises(DataError, match="iris: is there to classify"):
        load("iris", task="regress")
    with pytest.raises(DataError, match="no such file, and no table of that name; there are pass, grade, iris"):
        load("irises")
