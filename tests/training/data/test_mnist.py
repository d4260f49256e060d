"""IDX files made by hand, and the real ones where they are."""

import contextlib
import gzip
import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from training import data
from training.data import mnist
from training.data.base import DataError


def idx(array):
    """By the format's description: two zeros, type 8, number of axes, sizes in big-endian, values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3, max_side=5)))
def test_an_idx_file_gives_back_the_array(array):
    np.testing.assert_array_equal(mnist.parse_idx(idx(array), where="f"), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "f: not an IDX file of bytes: it begins with nothing, not 000008"),
        (b"\x89PNG", "f: not an IDX file of bytes: it begins with 89504e47, not 000008"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", "f: not an IDX file of bytes: it begins with 00000d01, not 000008"),
        (b"\x00\x00\x08\x03\x00\x00", r"f: cut off: 6 bytes"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"f: cut off: 17 bytes, its header says 18 for the shape \(2, 3\)"),
        (idx(np.zeros((2, 3), np.uint8)) + b"!", r"f: too long: 19 bytes, its header says 18 for the shape \(2, 3\)"),
    ],
    ids=["empty", "another-format", "another-type", "cut-off-header", "cut-off", "trailing-byte"],
)
def test_a_wrong_idx_file_is_refused_with_what_is_wrong(content, message):
    with pytest.raises(DataError, match=message):
        mnist.parse_idx(content, where="f")


@given(st.binary(max_size=40))
def test_any_bytes_are_an_array_or_a_data_error(content):
    with contextlib.suppress(DataError):
        array = mnist.parse_idx(b"\x00\x00\x08" + content, where="f")
        assert idx(array) == b"\x00\x00\x08" + content


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Four files in the data folder, 6,000 and 10 rows, whose checksums are the expected ones."""
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mnist").mkdir()
    numbers = np.arange(6000)
    arrays = [
        (numbers[:, None, None] % 251 * np.ones((1, 2, 2))).astype(np.uint8),
        (numbers % 10).astype(np.uint8),
        np.zeros((10, 2, 2), np.uint8),
        np.arange(10, dtype=np.uint8),
    ]
    digests = {}
    for name, array in zip(mnist.FILES, arrays, strict=True):
        digests[name] = hashlib.md5(idx(array)).hexdigest()
        (tmp_path / "mnist" / name).write_bytes(gzip.compress(idx(array)))
    monkeypatch.setattr(mnist, "FILES", digests)
    return tmp_path / "mnist"


def test_pictures_and_labels_stay_together_through_the_split(small_mnist):
    dataset = mnist.load()
    assert dataset.train_x.shape == (1000, 2, 2, 1)
    assert dataset.held_x.shape == (5000, 2, 2, 1)
    assert dataset.test_y.tolist() == list(range(10))
    x, y = dataset.everything()
    pairs = {(int(p), int(k)) for p, k in zip(x[:6000, 0, 0, 0], y[:6000], strict=True)}
    assert pairs == {(n % 251, n % 10) for n in range(6000)}


def test_a_file_that_was_changed_is_refused_by_name(small_mnist):
    path = small_mnist / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(6000, np.uint8))))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: not the published file: the content's MD5 is"):
        mnist.load()


def test_a_cut_off_file_is_refused_by_name(small_mnist):
    path = small_mnist / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: not a whole gzip file"):
        mnist.load()


@pytest.mark.data
@pytest.mark.skipif(mnist.where() is None, reason="needs MNIST: set LECTERN_DATA to a folder with mnist/")
def test_the_real_mnist_has_the_published_counts_and_brightness():
    dataset = data.load("mnist")
    x, y = dataset.everything()
    # The published counts by digit, of the 60,000 and of the 10,000; the customary mean and deviation 0.1307, 0.3081.
    assert y[:60_000].bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert y[60_000:].bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert dataset.test_y[:5].tolist() == [7, 2, 1, 0, 4]
    scaled = x[:60_000].double() / 255
    assert scaled.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert scaled.std().item() == pytest.approx(0.3081, abs=5e-5)
    assert (dataset.data_source.rows_train, dataset.data_source.rows_held_out) == (55_000, 5_000)
