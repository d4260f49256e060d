"""GRID's clips: what the index says, the label of each frame, and what is refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data import grid
from training.data.base import DataError

HEAD = "clip\tsplit\ttext\twords\n"
LINE = (
    "bbaf2n\ttest\tbin blue at f two now\tsil:0:23.75 bin:23.75:29.5 blue:29.5:34 at:34:35.5 f:35.5:41 "
    "two:41:47.25 sp:47.25:48 now:48:53 sil:53:74.5\n"
)


def index(folder: Path, *lines: str) -> Path:
    path = folder / grid.INDEX_FILE
    path.write_text(HEAD + "".join(lines), encoding="utf-8")
    return path


def animated(frames: np.ndarray) -> bytes:
    stream = io.BytesIO()
    first, *others = [Image.fromarray(frame) for frame in frames]
    first.save(stream, "AVIF", save_all=True, append_images=others, duration=40, quality=95)
    return stream.getvalue()


def archive(folder: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(folder / grid.VIDEO_FILE, "w:xz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"video/{name}.avif")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / grid.FOLDER).mkdir()
    return tmp_path / grid.FOLDER


def test_the_grammar_has_51_words_all_different_and_silence_comes_first() -> None:
    assert [len(place) for place in grid.GRAMMAR] == [4, 4, 4, 25, 10, 4]
    assert len(set(grid.LABELS)) == 52
    assert grid.LABELS[0] == "sil"


def test_the_label_of_a_frame_is_the_word_that_holds_its_middle(tmp_path: Path) -> None:
    (clip,) = grid.read_index(index(tmp_path, LINE))
    spoken = [("bin", 23.75, 29.5), ("blue", 29.5, 34), ("at", 34, 35.5), ("f", 35.5, 41), ("two", 41, 47.25)]
    spoken.append(("now", 48, 53))
    for k, label in enumerate(clip.labels()):
        held = [word for word, start, end in spoken if start <= k + 0.5 < end]
        assert grid.LABELS[label] == (held[0] if held else "sil"), k
    assert len(clip.labels()) == 75


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (LINE.replace("two:41", "ten:41"), "line 2: 'ten'"),
        (LINE.replace("41:47.25", "41"), "line 2"),
        (LINE.replace("f two", "g two"), "the words are not those of 'bin blue at g two now'"),
        (LINE.replace("test", "dev"), "the split is 'dev'"),
    ],
)
def test_a_line_that_is_no_clip_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        grid.read_index(index(tmp_path, line))


def test_clips_are_decoded_in_the_order_of_the_index_and_a_missing_last_frame_is_the_one_before(folder: Path) -> None:
    second = LINE.replace("bbaf2n\ttest", "bbaf3n\ttrain")
    index(folder, LINE, second)
    shades = np.arange(75, dtype=np.uint8)[:, None, None] * 3
    whole = np.broadcast_to(shades, (75, 96, 128))
    archive(folder, {"bbaf3n": animated(255 - whole), "bbaf2n": animated(whole[:74])})
    data = grid.load()
    assert data.rows("train").tolist() == [1]
    assert np.abs(data.frames[1].astype(int) - (255 - whole)).max() <= 3
    assert (data.frames[0, 74] == data.frames[0, 73]).all()
    assert data.labels.shape == (2, 75)
    assert (data.data_source.rows_train, data.data_source.rows_test) == (1, 1)


def test_a_clip_of_another_length_and_one_that_is_missing_are_named(folder: Path) -> None:
    index(folder, LINE)
    archive(folder, {"bbaf2n": animated(np.zeros((5, 96, 128), np.uint8))})
    with pytest.raises(DataError, match=r"bbaf2n: [1-5] frames of 128 x 96, expected 75"):
        grid.load()
    archive(folder, {})
    with pytest.raises(DataError, match="1 clips of the index are not in it, bbaf2n first"):
        grid.load()


def test_where_there_are_no_files_they_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"expected index\.tsv and video\.tar\.xz"):
        grid.load()
