"""GRID (Cooke, Barker, Cunningham, Shao 2006), talker s1: 1,000 clips of one man's mouth, and the word of each frame.

Every sentence has six words, one of each place: "bin blue at f two now".
"""

from __future__ import annotations

import io
import lzma
import math
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from app.core.manifest import DataSource
from training.data.base import DataError, data_folder
from training.data.fetch import find

FOLDER: Final = "grid-s1"
INDEX_FILE: Final = "index.tsv"
VIDEO_FILE: Final = "video.tar.xz"
RATE: Final = 25.0  # frames a second
FRAMES: Final = 75  # of every clip
MISSING: Final = 1  # frames that some clips (5 of 1,000) lack at their end: their last one stays on
HEIGHT, WIDTH = 96, 128
HOME: Final = "https://zenodo.org/records/3625687"

SILENCE: Final = "sil"
PAUSES: Final = (SILENCE, "sp")  # what the corpus calls them
GRAMMAR: Final = (
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    tuple("abcdefghijklmnopqrstuvxyz"),  # no w
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)
"""The words of each place of a sentence."""
LABELS: Final = (SILENCE, *(word for place in GRAMMAR for word in place))
"""Of a frame, 52."""
SPLITS: Final = ("train", "val", "test")
_NUMBER: Final = {label: number for number, label in enumerate(LABELS)}


@dataclass(frozen=True)
class Word:
    """A word of a clip, from `start` to `end` in frames of which each is 1 / RATE seconds long; `label` of LABELS."""

    label: int
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One line of the index; `words` are those that are spoken, six of them, without the silence between them."""

    name: str
    split: str
    text: str
    words: tuple[Word, ...]

    def labels(self, frames: int = FRAMES) -> NDArray[np.int64]:
        """(frames,): of frame k the word that holds k + 0.5, or silence."""
        found = np.zeros(frames, np.int64)
        for word in self.words:
            found[first_frame(word.start) : first_frame(word.end)] = word.label
        return found


def first_frame(time: float) -> int:
    """The first k whose k + 0.5 is not before `time`, in frames."""
    return max(0, math.ceil(time - 0.5))


@dataclass(frozen=True, kw_only=True, eq=False)
class LipClips:
    """All clips in the order of the index."""

    clips: Sequence[Clip]
    frames: NDArray[np.uint8]  # (N, FRAMES, H, W)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Of each frame: (N, FRAMES)."""
        return np.stack([clip.labels(self.frames.shape[1]) for clip in self.clips])

    def rows(self, split: str) -> NDArray[np.int64]:
        """The numbers of the clips of one split, ascending."""
        return np.flatnonzero([clip.split == split for clip in self.clips])

    @property
    def data_source(self) -> DataSource:
        """The manifest's field `data`; rows are clips."""
        rows = {split: len(self.rows(split)) for split in SPLITS}
        return DataSource(
            name="GRID audiovisual sentence corpus, talker s1",
            spec=FOLDER,
            source=f"Cooke, Barker, Cunningham, Shao 2006, JASA 120(5), 2421-2424, {HOME}; frames and alignments as "
            "in LipNet's repository",
            licence="CC BY 4.0",
            rows_train=rows["train"],
            rows_held_out=rows["val"],
            rows_test=rows["test"],
            note="rows are clips of three seconds, all of one man: the model knows his face and no other; our split",
        )


def where() -> Path | None:
    """The folder with index and video, or None where one is missing."""
    paths = [find(FOLDER, file) for file in (INDEX_FILE, VIDEO_FILE)]
    return paths[0].parent if paths[0] is not None and None not in paths else None


def load() -> LipClips:
    """Every clip, its frames decoded: 0.92 GB.

    Raises:
        DataError: a file is missing or not whole, or a clip is not what the index says.
    """
    folder = where()
    if folder is None:
        wanted = data_folder() / FOLDER
        raise DataError(f"{wanted}: expected {INDEX_FILE} and {VIDEO_FILE} there (GRID, talker s1, {HOME})")
    clips = read_index(folder / INDEX_FILE)
    number = {clip.name: i for i, clip in enumerate(clips)}
    frames = np.zeros((len(clips), FRAMES, HEIGHT, WIDTH), np.uint8)
    missing = set(number)
    with ThreadPoolExecutor(2) as pool:
        for name, found in pool.map(_decoded, _files(folder / VIDEO_FILE)):
            if name in number:
                frames[number[name]] = found
                missing.discard(name)
    if missing:
        raise DataError(f"{folder / VIDEO_FILE}: {len(missing)} clips of the index are not in it, {min(missing)} first")
    return LipClips(clips=clips, frames=frames)


def read_index(path: Path) -> list[Clip]:
    """The clips that a tab-separated index lists: clip, split, text, words (word:start:end in frames).

    Raises: DataError, naming the line.
    """
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    if head.split("\t") != ["clip", "split", "text", "words"]:
        raise DataError(f"{path}: its first line is {head!r}, expected clip, split, text, words with tabs between them")
    return [_clip(line, f"{path}, line {number}") for number, line in enumerate(lines, 2)]


def _clip(line: str, where: str) -> Clip:
    try:
        name, split, text, words = line.split("\t")
        timed = [word.rsplit(":", 2) for word in words.split(" ")]
        spoken = tuple(Word(_NUMBER[w], float(start), float(end)) for w, start, end in timed if w not in PAUSES)
    except (ValueError, KeyError) as error:
        raise DataError(f"{where}: {error}; expected clip, split, text and word:start:end ...") from error
    if [LABELS[word.label] for word in spoken] != text.split() or len(spoken) != len(GRAMMAR):
        raise DataError(f"{where}: the words are not those of {text!r}, or not {len(GRAMMAR)}")
    if split not in SPLITS:
        raise DataError(f"{where}: the split is {split!r}, expected one of {', '.join(SPLITS)}")
    return Clip(name=name, split=split, text=text, words=spoken)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names without folder and ending, and bytes."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)) is not None:
                    yield Path(member.name).stem, file.read()
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a whole tar archive ({error})") from error


def _decoded(file: tuple[str, bytes]) -> tuple[str, NDArray[np.uint8]]:
    """A clip's name and grey frames (FRAMES, HEIGHT, WIDTH)."""
    name, data = file
    try:
        with Image.open(io.BytesIO(data)) as image:
            there = getattr(image, "n_frames", 1)
            if image.size != (WIDTH, HEIGHT) or not FRAMES - MISSING <= there <= FRAMES:
                found = f"{there} frames of {image.size[0]} x {image.size[1]}"
                raise DataError(f"{name}: {found}, expected {FRAMES} of {WIDTH} x {HEIGHT}")
            frames = np.empty((FRAMES, HEIGHT, WIDTH), np.uint8)
            for k in range(there):
                image.seek(k)
                frames[k:] = np.asarray(image.convert("L"))
    except (OSError, EOFError, UnidentifiedImageError) as error:
        raise DataError(f"{name}: cannot be read as a moving picture ({error})") from error
    return name, frames
