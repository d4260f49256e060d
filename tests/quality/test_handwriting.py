"""Photos and sheets of MNIST rows, and scikit-learn's digits upscaled, read by the codec and by `cnn-mnist`."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.codecs.images.files import decode, encode_png
from app.core.errors import SeveralPieces, Unprocessable
from app.core.manifest import DigitPicture
from tests.quality.photos import photo
from tests.quality.sheets import CONDITIONS, HELD_OUT, sheet

pytestmark = [pytest.mark.quality, pytest.mark.data]
PICTURE = DigitPicture(kind="digit", height=28, width=28, box=20)
MODELS = Path(__file__).parents[2] / "models" / "cnn-mnist"
PHOTOS = 2000
SHEETS = 120  # of each condition; their rows are the second half of the test set, the first helped to make the reader
# Right at least, and wrong with a probability above 0.9 at most, in percent: what is held. The goal is 98.5 and 0.5.
HELD = {
    "plain": (98.5, 0.9),
    "shadow": (94.0, 2.5),
    "ruling": (98.0, 0.9),
    "glare": (95.0, 1.7),
    "shadow and ruling": (92.0, 2.5),
    "shadow and glare": (84.0, 4.2),
    "shadow, other shapes": (89.0, 2.5),
    "ruling, other kinds": (98.5, 0.5),
    "glare, other shapes": (94.0, 1.7),
    "all, other kinds": (72.5, 5.0),
}
BLANK: Final = {
    "plain": 100.0,
    "shadow": 98.0,
    "ruling": 98.0,
    "glare": 98.0,
    "shadow and ruling": 84.0,
    "shadow and glare": 84.0,
    "shadow, other shapes": 83.0,
    "ruling, other kinds": 97.0,
    "glare, other shapes": 78.0,
    "all, other kinds": 65.0,
}
"""Blank sheets that are said to be blank at least, in percent: what is held."""


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
    best: NDArray[np.int64] = probabilities(rows).argmax(1)
    return best


def probabilities(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    versions = sorted((p for p in MODELS.glob("*/manifest.json")), key=lambda p: int(p.parent.name))
    if not versions:
        pytest.skip("models/cnn-mnist is not there")
    graph = json.loads(versions[-1].read_text())["graphs"]["classifier"]
    session = runtime.InferenceSession(versions[-1].parent / graph["file"], providers=["CPUExecutionProvider"])
    parts = [session.run(None, {graph["inputs"][0]["name"]: rows[i : i + 100]})[0] for i in range(0, len(rows), 100)]
    return np.concatenate(parts)


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


def test_sheets_outdoors_are_read() -> None:
    rows, labels = mnist()
    missed = []
    for name, condition in (CONDITIONS | HELD_OUT).items():
        seen = np.zeros((SHEETS, 28, 28, 1), np.uint8)
        refused, several = np.zeros(SHEETS, bool), 0
        for i in range(SHEETS):
            data, _ = sheet([rows[5000 + i]], condition, seed=5000 + i)
            try:
                seen[i] = read(data)
            except Unprocessable as error:
                refused[i] = True
                several += isinstance(error, SeveralPieces)
        found, truth = probabilities(seen), labels[5000 : 5000 + SHEETS]
        right = ~refused & (found.argmax(1) == truth)
        sure = ~refused & ~right & (found.max(1) > 0.9)
        print(
            f"\n{name}: {100 * right.mean():.1f} % right, {100 * sure.mean():.1f} % wrong with more than 0.9, "
            f"{100 * refused.mean():.1f} % refused, {100 * several / SHEETS:.1f} % as several pieces",
            end="",
        )
        least, most = HELD[name]
        if 100 * right.mean() < least or 100 * sure.mean() > most:
            missed.append(name)
    assert missed == []


def test_blank_sheets_are_said_to_be_blank() -> None:
    missed = []
    for name, condition in (CONDITIONS | HELD_OUT).items():
        refused, sure = 0, 0
        for i in range(SHEETS):
            data, _ = sheet([], condition, seed=9000 + i)
            try:
                sure += probabilities(read(data)[None]).max() > 0.9
            except SeveralPieces:
                pass
            except Unprocessable:
                refused += 1
        print(f"\n{name}, blank: {100 * refused / SHEETS:.1f} % said so, {100 * sure / SHEETS:.1f} % above 0.9", end="")
        if 100 * refused / SHEETS < BLANK[name]:
            missed.append(name)
    assert missed == []


def test_sheets_with_two_digits_are_said_so() -> None:
    rows, _ = mnist()
    conditions = list(CONDITIONS.values())
    said, near = 0, 0
    for i in range(SHEETS):
        data, bounds = sheet([rows[5000 + 2 * i], rows[5001 + 2 * i]], conditions[i % len(conditions)], seed=i)
        try:
            read(data)
        except SeveralPieces as error:
            said += 1
            near += len(error.boxes) == 2 and np.allclose(sorted(error.boxes), sorted(bounds), atol=40)
        except Unprocessable:
            pass
    print(f"\nTwo digits: {100 * said / SHEETS:.1f} % of {SHEETS} said so, {100 * near / SHEETS:.1f} % with both boxes")
    assert said >= 0.88 * SHEETS
