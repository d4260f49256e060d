"""The shipped `photo-denoiser` and the yardstick beside it, on photos that neither has seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.data import photos
from training.data.base import DataError
from training.families.photo_denoiser.metrics import PublishedPhotoDenoiser, noisy, psnr, scores
from training.metrics import onnx_model
from training.metrics.bm3d import bm3d

pytestmark = [pytest.mark.quality, pytest.mark.data]
MODELS = Path(__file__).parents[2] / "models" / "photo-denoiser"
# Zhang et al. 2017 (DnCNN), table 3, noise 25: BM3D on pictures 1, 2 and 7 of Set12.
PUBLISHED = {0: 29.45, 1: 32.85, 6: 28.93}


@pytest.fixture(scope="module")
def data() -> photos.Photos:
    try:
        return photos.load()
    except DataError as missing:
        pytest.skip(str(missing))


def test_the_yardstick_is_as_good_as_published(data: photos.Photos) -> None:
    for number, published in PUBLISHED.items():
        x = noisy(data.set12[number], 25 / 255, number=number)
        assert psnr(bm3d(x[None], 25 / 255)[0], data.set12[number]) > published - 0.4


@pytest.mark.parametrize("level", [15, 25, 50])
def test_it_does_better_than_the_yardstick_and_as_well_when_it_is_not_told(data: photos.Photos, level: int) -> None:
    folder = sorted(MODELS.iterdir(), key=lambda p: int(p.name))[-1]
    model = PublishedPhotoDenoiser(folder, onnx_model.load_manifest(folder))
    some = data.bsd68[:4]
    given, blind, estimated = scores(model, some, level)
    beside = [psnr(bm3d(noisy(p, level / 255, number=i)[None], level / 255)[0], p) for i, p in enumerate(some)]
    assert np.mean(given) > np.mean(beside)
    assert np.mean(blind) > np.mean(given) - 0.1
    assert np.allclose(estimated, level, rtol=0.15)
