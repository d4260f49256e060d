"""The split, which must never move, and what a data set tells its manifest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import data
from training.data import mnist
from training.data.base import DataError, data_folder, shuffled, stratified


def test_the_order_of_a_seed_is_fixed_for_good():
    # Written down from NumPy 2.4; another order would move rows between training and selection.
    assert shuffled(8, seed=1998).tolist() == ORDER_1998
    assert shuffled(8, seed=1999).tolist() != ORDER_1998


ORDER_1998 = [4, 1, 7, 5, 6, 0, 3, 2]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(0, 2**32))
def test_a_stratified_split_takes_what_was_asked_of_each_class_and_loses_no_row(classes, seed):
    y = np.array(classes, dtype=np.int64)
    want = [min(2, classes.count(k)) for k in range(4)]
    kept, taken = stratified(y, want, seed=seed)
    assert np.bincount(y[taken], minlength=4).tolist() == want
    assert sorted([*kept, *taken]) == list(range(len(classes)))


def test_the_data_folder_is_the_settings_or_data_here(monkeypatch):
    monkeypatch.setenv("LECTERN_DATA", "/elsewhere")
    assert str(data_folder()) == "/elsewhere"
    monkeypatch.setenv("LECTERN_DATA", "")
    assert str(data_folder()) == "data"


def test_every_data_set_is_listed_with_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for file in mnist.FILES:
        (tmp_path / "data" / "mnist" / file).touch()
    listed = {name: place for name, _, place in data.available()}
    assert listed == {
        "cifar10": "fetched when first asked for",
        "digits": "in scikit-learn",
        "mnist": f"in {tmp_path / 'data' / 'mnist'}",
        "path/to/folder": "yours",
    }


def test_a_name_that_is_nothing_is_refused_with_the_names_that_exist():
    with pytest.raises(
        DataError, match=r"^minst: no such folder, and no data set .*; there are cifar10, digits, mnist$"
    ):
        data.load("minst")


def test_a_size_for_a_named_data_set_is_refused():
    with pytest.raises(DataError, match="mnist: has its own picture size"):
        data.load("mnist", size=32)
