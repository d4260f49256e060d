"""MNIST (LeCun, Cortes, Burges 1998): 60,000 + 10,000 handwritten digits, 28x28, grey, in four gzipped IDX files."""

from __future__ import annotations

import gzip
import zlib
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import DigitPicture
from training.data.base import DataError, ImageDataset, shuffled, tensor
from training.data.fetch import check_md5, find, find_or_fetch

DESCRIPTION = "MNIST: 70,000 handwritten digits, 28x28, grey, 10 classes"
HOME = "https://ossci-datasets.s3.amazonaws.com/mnist/"
PICTURE = DigitPicture(kind="digit", height=28, width=28, box=20)
HELD_OUT_ROWS = 5000
SPLIT_SEED = 1998

# MD5 of the content without gzip: the same for every compression of the files.
FILES = {
    "train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
}


def where() -> Path | None:
    """The folder of all four files, or None where one is missing."""
    paths = [find("mnist", file) for file in FILES]
    return paths[0].parent if paths[0] is not None and None not in paths else None


def load() -> ImageDataset:
    """55,000 train, 5,000 held out, 10,000 test rows.

    Raises:
        DataError: a file is missing and cannot be fetched, or is not the published one.
    """
    images, labels, test_images, test_labels = (_read(file, md5) for file, md5 in FILES.items())
    order = shuffled(len(labels), seed=SPLIT_SEED)
    train, held = np.sort(order[HELD_OUT_ROWS:]), np.sort(order[:HELD_OUT_ROWS])
    return ImageDataset(
        name="mnist",
        title="MNIST",
        labels=tuple("0123456789"),
        picture=PICTURE,
        train_x=tensor(images[train, :, :, None]),
        train_y=tensor(labels[train].astype(np.int64)),
        held_x=tensor(images[held, :, :, None]),
        held_y=tensor(labels[held].astype(np.int64)),
        test_x=tensor(test_images[..., None]),
        test_y=tensor(test_labels.astype(np.int64)),
        source="LeCun, Cortes, Burges: The MNIST database of handwritten digits, " + HOME,
        licence="CC BY-SA 3.0",
        note=f"{HELD_OUT_ROWS} of the 60,000 training rows are held out for selection and calibration",
    )


def parse_idx(data: bytes, *, where: str) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes: magic 00 00 08 <axes>, big-endian uint32 sizes, then the values.

    Raises:
        DataError: another magic number, cut off, or bytes after the end.
    """
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or not data[3]:
        raise DataError(f"{where}: not an IDX file of bytes: it begins with {data[:4].hex() or 'nothing'}, not 000008")
    header = 4 + 4 * data[3]
    shape = tuple(int(size) for size in np.frombuffer(data[4:header], dtype=">u4", count=(len(data[4:header])) // 4))
    want = header + prod(shape)
    if len(shape) != data[3] or len(data) != want:
        what = "cut off" if len(data) < want or len(shape) != data[3] else "too long"
        raise DataError(f"{where}: {what}: {len(data)} bytes, its header says {want} for the shape {shape}")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


def unzip(data: bytes, *, where: str) -> bytes:
    """Raises DataError for what is not gzip or is cut off."""
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{where}: not a whole gzip file ({error})") from error


def _check(data: bytes, *, want: str, where: str) -> None:
    check_md5(unzip(data, where=where), want=want, where=where)


def _read(file: str, md5: str) -> NDArray[np.uint8]:
    path = find_or_fetch("mnist", file, url=HOME + file, check=partial(_check, want=md5, where=file))
    content = unzip(path.read_bytes(), where=str(path))
    check_md5(content, want=md5, where=str(path))
    return parse_idx(content, where=str(path))
