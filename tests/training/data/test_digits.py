"""scikit-learn's digits: the first fifty, as reading them all takes a while."""

import numpy as np
import pytest

from training.data import digits

datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn")


def test_digits_are_read_as_mnist_was_made_and_keep_their_labels(monkeypatch):
    found = datasets.load_digits()
    found.images, found.target = found.images[:50], found.target[:50]
    monkeypatch.setattr(datasets, "load_digits", lambda: found)
    monkeypatch.setattr(digits, "PER_CLASS", 1)
    dataset = digits.load()
    assert dataset.test_y.bincount().tolist() == dataset.held_y.bincount().tolist() == [1] * 10

    x, y = dataset.everything()
    assert x.shape == (50, 28, 28, 1)
    assert y.bincount().tolist() == np.bincount(found.target).tolist()
    ink_by_label = [0.0] * 10
    for picture, label in zip(x[:, :, :, 0].double().numpy(), y.tolist(), strict=True):
        mass = picture.sum()
        centre = [(picture.sum(axis) * np.arange(28)).sum() / mass for axis in (1, 0)]
        assert centre == pytest.approx([13.5, 13.5], abs=1.0)
        rows, columns = np.nonzero(picture > 40)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 <= 21  # the box of 20, and half a pixel of shift
        assert picture.max() > 150
        # A ring is hollow in its middle, all the others have ink there.
        ink_by_label[label] += picture[12:16, 12:16].mean() / y.bincount()[label].item()
    assert ink_by_label.index(min(ink_by_label)) == 0
