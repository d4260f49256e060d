"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 photos, 32x32, in 10 classes.

Read from the official `cifar-10-python.tar.gz`, or where that is not there from `cifar10-jpeg.tar.gz`: the same
photos as JPEG files, `train/<class>/0000.jpg`, slightly changed by the compression and named as such.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from app.core.manifest import PhotoPicture
from training.data.base import DataError, ImageDataset, cache_folder, stratified, tensor
from training.data.fetch import check_md5, find, find_or_fetch, write_atomically

DESCRIPTION = "CIFAR-10: 60,000 photos, 32x32, colour, 10 classes"
OFFICIAL, OFFICIAL_MD5 = "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"
JPEG = "cifar10-jpeg.tar.gz"
HOME = "https://www.cs.toronto.edu/~kriz/"
LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PICTURE = PhotoPicture(kind="photo", height=32, width=32, channels=3, resize="cover")
HELD_OUT_PER_CLASS = 500
SPLIT_SEED = 2009

BROKEN = (OSError, EOFError, zlib.error, tarfile.TarError, ValueError)

Rows = tuple[NDArray[np.uint8], NDArray[np.int64]]
PART_NAMES = ("train_x", "train_y", "test_x", "test_y")
Parts = dict[str, NDArray[Any]]
"""train_x, test_x uint8 (N, 32, 32, 3); train_y, test_y int64 (N,)."""


def where() -> Path | None:
    """The archive, or None."""
    return find("cifar10", OFFICIAL) or find("cifar10", JPEG)


def load() -> ImageDataset:
    """45,000 train, 5,000 held out (500 of each class), 10,000 test rows.

    Raises:
        DataError: no archive, and it cannot be fetched; or an archive that is not what its name says.
    """
    path = where() or find_or_fetch(
        "cifar10", OFFICIAL, url=HOME + OFFICIAL, check=partial(check_md5, want=OFFICIAL_MD5, where=OFFICIAL)
    )
    data = path.read_bytes()
    if path.name == OFFICIAL:
        check_md5(data, want=OFFICIAL_MD5, where=str(path))
    read, title = (read_official, "CIFAR-10") if path.name == OFFICIAL else (read_jpeg, "CIFAR-10 (JPEG)")
    parts = _cached(data, read, where=str(path))
    train, held = stratified(parts["train_y"], [HELD_OUT_PER_CLASS] * len(LABELS), seed=SPLIT_SEED)
    lossy = "" if path.name == OFFICIAL else "; compressed as JPEG, so figures differ a little from the original's"
    return ImageDataset(
        name="cifar10",
        title=title,
        labels=LABELS,
        picture=PICTURE,
        train_x=tensor(parts["train_x"][train]),
        train_y=tensor(parts["train_y"][train]),
        held_x=tensor(parts["train_x"][held]),
        held_y=tensor(parts["train_y"][held]),
        test_x=tensor(parts["test_x"]),
        test_y=tensor(parts["test_y"]),
        source="Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009), " + HOME + "cifar.html",
        licence="none stated; published for research, the citation is asked for",
        note="500 training rows of each class are held out for selection and calibration" + lossy,
    )


def read_jpeg(data: bytes, *, where: str) -> Parts:
    """`cifar10-jpeg.tar.gz`; rows in the order of their paths.

    Raises:
        DataError: cut off, a file that is no 32x32 JPEG, or a class that is not one of the ten.
    """
    found: dict[str, dict[str, tuple[NDArray[np.uint8], int]]] = {"train": {}, "test": {}}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for member in tqdm(archive, desc="CIFAR-10: decoding, once", total=60_022, unit="file", leave=False):
                if not member.isfile():
                    continue
                part, label, _ = member.name.split("/")
                content = archive.extractfile(member)
                assert content is not None
                with Image.open(content, formats=["JPEG"]) as picture:
                    found[part][member.name] = np.asarray(picture.convert("RGB")), LABELS.index(label)
        (train_x, train_y), (test_x, test_y) = _stack(found["train"]), _stack(found["test"])
        return {"train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y}
    except (*BROKEN, KeyError) as error:
        raise DataError(f"{where}: not CIFAR-10 as train|test/<class>/<number>.jpg ({error})") from error


def read_official(data: bytes, *, where: str) -> Parts:
    """`cifar-10-python.tar.gz`: pickled batches of uint8 (N, 3 * 32 * 32), channels first.

    Raises:
        DataError: cut off, a batch missing, or a pickle with anything but arrays in it.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            train = [_batch(archive, f"data_batch_{i}") for i in range(1, 6)]
            test = _batch(archive, "test_batch")
    except (*BROKEN, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise DataError(f"{where}: not the official CIFAR-10 archive ({error})") from error
    return {
        "train_x": np.concatenate([x for x, _ in train]),
        "train_y": np.concatenate([y for _, y in train]),
        "test_x": test[0],
        "test_y": test[1],
    }


class _ArraysOnly(pickle.Unpickler):
    """A pickle can call anything; these batches need a dictionary and an array."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return lambda _type, shape, code: np.ndarray.__new__(np.ndarray, shape, code)
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return lambda code, *_: np.dtype(code)
            case _:
                raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _batch(archive: tarfile.TarFile, name: str) -> Rows:
    content = archive.extractfile(f"cifar-10-batches-py/{name}")
    assert content is not None
    batch = _ArraysOnly(content, encoding="bytes").load()
    pixels = np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
    return pixels.transpose(0, 2, 3, 1), np.asarray(batch[b"labels"], dtype=np.int64)


def _stack(rows: dict[str, tuple[NDArray[np.uint8], int]]) -> Rows:
    ordered = [rows[name] for name in sorted(rows)]
    x = np.stack([pixels for pixels, _ in ordered])
    if x.shape[1:] != PICTURE.shape:
        raise ValueError(f"a picture is {x.shape[1:]}, not {PICTURE.shape}")
    return x, np.array([label for _, label in ordered], dtype=np.int64)


def _cached(data: bytes, read: Callable[..., Parts], *, where: str) -> Parts:
    """What `read` makes of the archive, kept under the archive's hash so that another archive is another entry."""
    path = cache_folder() / f"cifar10-{hashlib.sha256(data).hexdigest()[:16]}.npz"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in PART_NAMES}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        parts = read(data, where=where)  # not there, or not whole: made again
    # A cache that cannot be written costs seconds at the next start, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda out: np.savez(out, allow_pickle=False, **parts))
    return parts
