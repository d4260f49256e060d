"""Photos of MNIST rows, and scikit-learn's digits upscaled, read by the codec and the shipped `cnn-mnist`."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.codecs.images.files import decode, encode_png
from app.core.manifest import DigitPicture
from tests.quality.photos import photo

pytestmark = [pytest.mark.quality, pytest.mark.data]
PICTURE = DigitPicture(kind="digit", height=28, width=28, box=20)
MODELS = Path(__file__).parents[2] / "models" / "cnn-mnist"
PHOTOS = 2000


def read(data: bytes) -> NDArray[np.uint8]:
    return decode(data, PICTURE, subject="image", max_pixels=1_000_000)


def idx(name: str, header: int) -> NDArray[np.uint8]:
    folder = os.environ.get("LECTERN_DATA", "")
    path = Path(folder) / "mnist" / name
    if not folder or not path.is_file():
        pytest.skip("LECTERN_DATA is not set to a folder with mnist/")
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def mnist() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    return idx("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28), idx("t10k-labels-idx1-ubyte.gz", 8)


def predicted(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    versions = sorted((p for p in MODELS.glob("*/manifest.json")), key=lambda p: int(p.parent.name))
    if not versions:
        pytest.skip("models/cnn-mnist is not there")
    graph = json.loads(versions[-1].read_text())["graphs"]["classifier"]
    session = runtime.InferenceSession(versions[-1].parent / graph["file"], providers=["CPUExecutionProvider"])
    parts = [session.run(None, {graph["inputs"][0]["name"]: rows[i : i + 100]})[0] for i in range(0, len(rows), 100)]
    best: NDArray[np.int64] = np.concatenate(parts).argmax(1)
    return best


def test_no_row_of_mnist_is_changed() -> None:
    rows, _ = mnist()
    changed = [i for i, row in enumerate(rows) if not np.array_equal(read(encode_png(row))[:, :, 0], row)]
    assert changed == []


def test_photos_of_mnist_rows_lose_at_most_half_a_point() -> None:
    rows, labels = mnist()
    rows, labels = rows[:PHOTOS], labels[:PHOTOS]
    raw = 100 * (predicted(rows[..., None]) == labels).mean()
    photos = 100 * (predicted(np.stack([read(photo(row, seed=i)) for i, row in enumerate(rows)])) == labels).mean()
    print(f"\nMNIST, {PHOTOS} test rows: {raw:.2f} %, as photos {photos:.2f} %, {raw - photos:.2f} points lost")
    assert raw - photos <= 0.5


def test_scikit_learns_digits_upscaled_are_read_at_95_percent() -> None:
    digits = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed").load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(row).resize((64, 64), Image.Resampling.BICUBIC)) for row in small]
    right = 100 * (predicted(np.stack([read(encode_png(row)) for row in large])) == digits.target).mean()
    print(f"\nscikit-learn's {len(small)} digits, 8x8 upscaled to 64x64: {right:.2f} %")
    assert right >= 95
