"""Small archives of both kinds made in the test, and the real one where it is."""

import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from training import data
from training.data import cifar10
from training.data.base import DataError

GREY = {label: 20 * k + 20 for k, label in enumerate(cifar10.LABELS)}


def archive(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def jpeg(level, side=32):
    out = io.BytesIO()
    Image.new("RGB", (side, side), (level, level, level)).save(out, "JPEG")
    return out.getvalue()


def jpeg_files(train_rows):
    counts = {"train": train_rows, "test": 1}
    return {
        f"{part}/{label}/{i:04d}.jpg": jpeg(GREY[label])
        for part, n in counts.items()
        for label in GREY
        for i in range(n)
    }


@pytest.fixture
def roots(tmp_path, monkeypatch):
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar10, "HELD_OUT_PER_CLASS", 1)
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    return tmp_path


def test_the_jpeg_archive_is_read_with_its_labels_and_kept_decoded(roots, monkeypatch):
    (roots / "data" / "cifar10" / cifar10.JPEG).write_bytes(archive(jpeg_files(3)))
    dataset = data.load("cifar10")
    assert dataset.title == "CIFAR-10 (JPEG)"
    assert dataset.train_x.shape == (20, 32, 32, 3)
    assert dataset.held_y.tolist() == list(range(10))
    np.testing.assert_allclose(dataset.test_x[:, 0, 0, 0], list(GREY.values()), atol=1)

    monkeypatch.setattr(cifar10, "read_jpeg", lambda *_, **__: pytest.fail("decoded a second time"))
    assert data.load("cifar10").train_x.equal(dataset.train_x)


def test_a_damaged_cache_is_made_again(roots):
    (roots / "data" / "cifar10" / cifar10.JPEG).write_bytes(archive(jpeg_files(2)))
    first = data.load("cifar10")
    (cached,) = (roots / "cache" / "lectern").iterdir()
    cached.write_bytes(cached.read_bytes()[:1000])
    assert data.load("cifar10").train_x.equal(first.train_x)
    assert cached.stat().st_size > 1000


def test_without_a_place_for_the_cache_it_is_read_all_the_same(roots):
    (roots / "cache").write_text("a file where the folder should be")
    (roots / "data" / "cifar10" / cifar10.JPEG).write_bytes(archive(jpeg_files(2)))
    assert len(data.load("cifar10").train_y) == 10


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"readme.txt": b"hello"},
        {"train/zebra/0000.jpg": jpeg(9)},
        {"train/cat/0000.jpg": b"no jpeg"},
        {"train/cat/0000.jpg": jpeg(9, side=31), "test/cat/0000.jpg": jpeg(9)},
    ],
    ids=["empty", "no-folders", "no-such-class", "no-picture", "another-size"],
)
def test_an_archive_of_something_else_is_one_line(files):
    with pytest.raises(DataError, match=r"^a: not CIFAR-10 as train"):
        cifar10.read_jpeg(archive(files), where="a")


@pytest.mark.parametrize("read", [cifar10.read_jpeg, cifar10.read_official])
def test_a_cut_off_archive_is_one_line(read):
    whole = archive({"noise": np.random.default_rng(0).bytes(50_000)} | jpeg_files(1))
    with pytest.raises(DataError, match=r"^a: not "):
        read(whole[: len(whole) // 2], where="a")


def official(batch):
    return archive({f"cifar-10-batches-py/{name}": batch for name in BATCHES})


BATCHES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]


def python_2_pickle(rows, labels):
    """The published batches' own form, opcode by opcode: protocol 2, where Python 2's strings are bytes."""
    n, width = rows.shape
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = b"(K\x01" + struct.pack("<cBcH", b"K", n, b"M", width) + b"\x86" + dtype + b"\x89"
    content = struct.pack("<cI", b"T", rows.size) + rows.tobytes()
    numbers = b"".join(b"K" + bytes([k]) for k in labels)
    return b"\x80\x02}(U\x04data" + array + state + content + b"tbU\x06labels](" + numbers + b"eu."


def test_the_official_archive_is_channels_first_and_comes_out_channels_last():
    planes = np.repeat(np.array([[10, 20, 30], [40, 50, 60]], np.uint8), 1024, axis=1)  # red, green, blue of two photos
    parts = cifar10.read_official(official(python_2_pickle(planes, [3, 7])), where="a")
    assert parts["train_x"].shape == (10, 32, 32, 3)
    assert parts["test_x"][:, 5, 6].tolist() == [[10, 20, 30], [40, 50, 60]]
    assert parts["train_y"].tolist() == [3, 7] * 5


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_a_pickle_that_calls_something_is_refused_and_does_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"it asks for (posix|nt)\.mkdir"):
        cifar10.read_official(official(pickle.dumps(Evil(), protocol=2)), where="a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.data
@pytest.mark.skipif(cifar10.where() is None, reason="needs CIFAR-10: set LECTERN_DATA to a folder with cifar10/")
def test_the_real_cifar10_has_the_published_counts_and_colours():
    dataset = data.load("cifar10")
    assert dataset.train_y.bincount().tolist() == [4500] * 10
    assert dataset.held_y.bincount().tolist() == [500] * 10
    assert dataset.test_y.bincount().tolist() == [1000] * 10
    colour_sums = dataset.train_x.sum(dim=(0, 1, 2)) + dataset.held_x.sum(dim=(0, 1, 2))
    # The customary means by channel; JPEG moves them in the fourth place.
    assert (colour_sums / (255 * 50_000 * 32 * 32)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-3)
