"""The protocol for generated pictures, on small sets whose figures are known beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.pictures import dataset_of
from training.data.base import ImageDataset
from training.metrics import reference_classifiers as judging
from training.metrics.generated import PROTOCOLS, cas_gap, class_share, fidelity, quick_fd
from training.metrics.reference_classifiers import (
    EXTRACTORS,
    SETTINGS,
    ReferenceClassifiers,
    as_bytes,
    reference_classifiers,
)

QUICK = tuple(replace(s, epochs=min(s.epochs, 2), precision="fp32", handwriting=0.0) for s in SETTINGS)


def bars(n: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures 12 x 12 of a bar, upright (0) or flat (1), of any place, grey and noise."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    x = rng.integers(0, 40, (n, 12, 12))
    place, grey = rng.integers(1, 10, n), rng.integers(120, 216, n)
    for i in range(n):
        if y[i]:
            x[i, place[i], 1:11] += grey[i]
        else:
            x[i, 1:11, place[i]] += grey[i]
    return torch.from_numpy(x.astype(np.uint8)[..., None]), torch.from_numpy(y.astype(np.int64))


@pytest.fixture(scope="module")
def data() -> ImageDataset:
    train, held, test = bars(1200, seed=1), bars(200, seed=2), bars(300, seed=3)
    return dataset_of("bars", ("upright", "flat"), train=train, held=held, test=test, box=8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judges")


@pytest.fixture(scope="module")
def judge(cache: Path, data: ImageDataset) -> ReferenceClassifiers:
    return reference_classifiers(cache, data, settings=QUICK)


def test_fresh_pictures_are_at_the_noise_floor(judge: ReferenceClassifiers) -> None:
    found = fidelity(bars(1500, seed=4)[0], judge, rows=300)
    assert set(found.fd_ratio) == set(EXTRACTORS)
    for extractor, ratio in found.fd_ratio.items():
        assert 0.3 < ratio < 6, extractor  # of 300 pictures the shares of two classes alone differ that much
    assert found.precision > 0.8
    assert found.recall > 0.8
    assert found.memorisation == pytest.approx(1, abs=0.05)
    assert found.copied == pytest.approx(0, abs=0.25)
    assert set(found.figures) <= set(PROTOCOLS)


def test_a_model_of_one_class_is_far_away_and_recalls_half(judge: ReferenceClassifiers) -> None:
    x, y = bars(3000, seed=5)
    found = fidelity(x[y == 0], judge, rows=300)
    assert min(found.fd_ratio.values()) > 5
    assert found.precision > 0.8
    assert found.recall < 0.7


def test_copies_of_the_training_rows_are_found_out(judge: ReferenceClassifiers) -> None:
    """The pictures are the rows that one resample in four draws; of all real ones a training row is the nearest."""
    x = judge.data.train_x
    found = fidelity(x, judge, rows=300, resamples=4)
    assert found.copied == pytest.approx(1)
    whole = fidelity(
        x[:300], ReferenceClassifiers(judge.networks, replace(judge.data, train_x=x[:300]), judge.folder), rows=300
    )
    assert whole.memorisation == 0


def test_too_few_pictures_are_refused(judge: ReferenceClassifiers) -> None:
    with pytest.raises(ValueError, match="pictures: expected at least 300, got 299"):
        fidelity(bars(299, seed=6)[0], judge, rows=300)


def test_a_glance_tells_good_pictures_from_bad_ones(judge: ReferenceClassifiers) -> None:
    x, y = bars(200, seed=7)
    good, bad = quick_fd(x, judge), quick_fd(torch.where(x > 100, x // 2, x), judge)
    narrow = quick_fd(x[y == 1].repeat(2, 1, 1, 1), judge)
    assert good.mean_fd_ratio < 2 < bad.mean_fd_ratio
    assert good.recall > 0.7 > narrow.recall
    for extractor in EXTRACTORS:
        assert good.excess[extractor] < bad.excess[extractor]


def test_pictures_in_any_form_are_judged_alike(judge: ReferenceClassifiers) -> None:
    x = bars(20, seed=8)[0]
    want = judge.features(x)
    for form in (x.numpy(), x[..., 0], x[..., 0].numpy(), x.float() / 255, (x / 255).double().numpy()):
        found = judge.features(form)
        for extractor in EXTRACTORS:
            np.testing.assert_array_equal(found[extractor], want[extractor])


def test_pictures_of_another_size_are_named(judge: ReferenceClassifiers) -> None:
    with pytest.raises(ValueError, match=r"expected rows of \(12, 12, 1\), got \(3, 12, 11\)"):
        as_bytes(np.zeros((3, 12, 11)), judge.data)
    with pytest.raises(ValueError, match="some that are not finite"):
        as_bytes(np.full((3, 12, 12), np.nan), judge.data)


def test_the_judges_read_what_is_drawn(judge: ReferenceClassifiers) -> None:
    x, y = bars(400, seed=9)
    assert class_share(x, y, judge) > 0.97
    assert class_share(x, 1 - y, judge) < 0.03


def test_a_judge_is_trained_once(cache: Path, judge: ReferenceClassifiers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "train_classifier", None)  # called, it would raise
    again = reference_classifiers(cache, judge.data, settings=QUICK)
    x = bars(5, seed=10)[0]
    for extractor, features in judge.features(x).items():
        np.testing.assert_array_equal(again.features(x)[extractor], features)


def test_other_settings_or_rows_make_another_judge(cache: Path, judge: ReferenceClassifiers) -> None:
    def trained() -> int:
        return len(list(cache.glob("pooled-*.pt")))

    before = trained()
    one = replace(QUICK[0], epochs=1)
    reference_classifiers(cache, judge.data, settings=(one,))
    assert trained() == before + 1
    reference_classifiers(cache, replace(judge.data, train_x=judge.data.train_x.flip(0)), settings=(one,))
    assert trained() == before + 2


def test_the_judges_differ_in_architecture_and_the_third_learnt_nothing(judge: ReferenceClassifiers) -> None:
    kinds = [{type(m).__name__ for m in judge.networks[name].modules()} for name in ("pooled", "strided")]
    assert "BatchNorm2d" in kinds[0] - kinds[1]
    assert "GroupNorm" in kinds[1] - kinds[0]
    assert class_share(judge.data.test_x, judge.data.test_y, judge) > 0.97
    random = judge.networks["random"]
    assert judging.accuracy(random, judge.data.test_x, judge.data.test_y) < 0.8


@pytest.mark.slow
def test_wrong_labels_cost_a_classifier_that_learns_from_them(judge: ReferenceClassifiers) -> None:
    settings = replace(QUICK[0], seed=9, epochs=3)
    x, y = bars(1400, seed=11)
    right = cas_gap(x, y, judge, settings=settings)
    assert right.real > 0.95
    assert abs(right.gap) < 5
    assert cas_gap(x, 1 - y, judge, settings=settings).gap > 80
