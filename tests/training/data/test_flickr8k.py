"""Flickr8k: pictures and their sentences belong together, and files that are not whole are named."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.photographs import COLOURS, COUNTS, write_flickr8k
from training.data import flickr8k
from training.data.base import DataError
from training.data.fetch import find
from training.data.flickr8k import plain

NEEDED = pytest.mark.skipif(
    find("flickr8k", "captions.tsv.gz") is None, reason="needs Flickr8k: set LECTERN_DATA to a folder with flickr8k/"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_flickr8k(tmp_path / "data") / "flickr8k"


@pytest.mark.usefixtures("home")
def test_each_picture_has_its_own_sentences() -> None:
    data = flickr8k.load()
    assert [len(part) for part in (data.train, data.held, data.test)] == list(COUNTS.values())
    paints = np.array(list(COLOURS.values()), float)
    for pixels, said in zip(data.test.pictures.numpy(), data.test.sentences, strict=True):
        bright = pixels[pixels.max(axis=2) > 120].mean(axis=0)
        nearest = list(COLOURS)[int(np.abs(paints - bright).sum(axis=1).argmin())]
        assert len(said) == 5
        assert all(nearest in one for one in said)
    assert data.data_source.rows_train == COUNTS["train"]


@pytest.mark.usefixtures("home")
def test_a_second_reading_is_the_same_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    one = flickr8k.load()

    def never(data: bytes, where: str) -> None:
        raise AssertionError("decoded twice")

    monkeypatch.setattr(flickr8k, "_decoded", never)
    again = flickr8k.load()
    assert torch.equal(one.train.pictures, again.train.pictures)
    assert one.train.sentences == again.train.sentences


@pytest.mark.usefixtures("home")
def test_pictures_are_resized_as_the_server_does() -> None:
    held = flickr8k.load().held.first(3)
    assert held.resized(112).shape == (3, 112, 112, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog runs .", "A dog runs."),
        ("two dogs , one black  .", "Two dogs, one black."),
        ("THE MAN IS A CLOWN", "The man is a clown."),
        ("A boy 's dog", "A boy's dog."),
        (" . ", ""),
        ("a", "A."),
    ],
)
def test_sentences_are_made_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_what_is_missing_or_broken_is_named(home: Path) -> None:
    table = gzip.decompress((home / "captions.tsv.gz").read_bytes()).decode()
    for wrong, message in (
        (table.replace("split", "part", 1), "its first line is"),
        (table.replace("\ttrain\t", "\ttrain", 1), r"line 2: 6 columns, expected 7"),
        (table.replace("0000\t", "none\t", 1), "lacks 1 pictures .* the first is none"),
        (table.replace("\tval\t", "\tdev\t"), "no picture of the split 'val'"),
    ):
        (home / "captions.tsv.gz").write_bytes(gzip.compress(wrong.encode()))
        with pytest.raises(DataError, match=message):
            flickr8k.load()
    (home / "captions.tsv.gz").write_bytes(b"\x1f\x8b nothing")
    with pytest.raises(DataError, match=r"captions\.tsv\.gz: not a whole file"):
        flickr8k.load()
    (home / "captions.tsv.gz").write_bytes(gzip.compress(table.encode()))
    whole = (home / "images.tar.xz").read_bytes()
    for broken in (whole[: len(whole) // 2], b"nothing"):
        (home / "images.tar.xz").write_bytes(broken)
        with pytest.raises(DataError, match=r"images\.tar\.xz: not a whole archive"):
            flickr8k.load()
    (home / "images.tar.xz").unlink()
    with pytest.raises(DataError, match=r"images\.tar\.xz: is missing"):
        flickr8k.load()


@pytest.mark.data
@NEEDED
def test_the_split_is_the_official_one() -> None:
    data = flickr8k.load()
    assert [len(part) for part in (data.train, data.held, data.test)] == [6000, 1000, 1000]
    assert all(len(said) == 5 for part in (data.train, data.held, data.test) for said in part.sentences)
    assert len({*data.train.names, *data.held.names, *data.test.names}) == 8000
