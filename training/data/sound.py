"""Spoken words: GRID (one talker's sentences), the Free Spoken Digit Dataset and Speech Commands, as one set of clips.

Each is read from the archive as it came, by the codec that reads what the server is sent, at 16,000 samples a second.
"""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from app.codecs.audio import decode
from app.core.manifest import Sound
from training.data.base import DataError, data_folder
from training.data.fetch import find

RATE: Final = 16_000
FRAME_S: Final = 0.04  # of GRID's alignments, the video's 25 frames a second
QUIET_DB: Final = 30.0  # below a clip's loudest 20 ms there is no word
DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COMMANDS: Final = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "unknown", "silence")
GRID_PLACES: Final = (
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    tuple("abcdefghijklmnopqrstuvxyz"),
    DIGITS,
    ("again", "now", "please", "soon"),
)

Part = Literal["train", "held", "test"]
Spoken = tuple[str, float, float]  # a word, and when it begins and ends, in seconds


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """One recording: float32 samples (N,) at `RATE`, and the words in it, in order.

    `label` is what it is filed under, `speaker` who speaks ("" where nobody does).
    """

    corpus: str
    name: str
    part: Part
    speaker: str
    label: str
    words: tuple[Spoken, ...]
    samples: NDArray[np.float32]

    @property
    def text(self) -> str:
        return " ".join(word for word, _, _ in self.words)


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """A published collection of clips; where it is from and under which terms."""

    name: str
    title: str
    source: str
    licence: str
    clips: tuple[Clip, ...]

    def of(self, part: Part) -> list[Clip]:
        return [clip for clip in self.clips if clip.part == part]


def grid() -> Corpus:
    """GRID, talker s1: 1,000 sentences of three seconds with the corpus's own alignment. Raises: DataError."""
    parts: dict[str, Part] = {"train": "train", "val": "held", "test": "test"}
    files = _members("grid-s1", "audio.tar.xz", ".opus")
    clips = []
    for row in _index("grid-s1"):
        words = []
        for entry in row["words"].split():
            word, start, end = entry.split(":")
            if word not in ("sil", "sp"):
                words.append((word, float(start) * FRAME_S, float(end) * FRAME_S))
        name = row["clip"]
        clips.append(
            Clip(
                corpus="grid",
                name=name,
                part=parts[row["split"]],
                speaker="s1",
                label=row["text"],
                words=tuple(words),
                samples=files[name],
            )
        )
    return Corpus(
        name="grid",
        title="GRID, talker s1",
        source="Cooke, Barker, Cunningham, Shao 2006: GRID audiovisual sentence corpus, Zenodo record 3625687",
        licence="CC BY 4.0",
        clips=tuple(clips),
    )


def fsdd() -> Corpus:
    """3,000 spoken digits of six speakers; recordings 0 to 4 are the official test, 5 to 7 held out.

    Raises: DataError.
    """
    clips = []
    for name, samples in _members("fsdd", "fsdd-recordings.tar.xz", ".wav").items():
        digit, speaker, number = name.split("_")
        part: Part = "test" if int(number) < 5 else "held" if int(number) < 8 else "train"
        word = DIGITS[int(digit)]
        clips.append(
            Clip(
                corpus="fsdd",
                name=name,
                part=part,
                speaker=speaker,
                label=word,
                words=_whole(word, samples),
                samples=samples,
            )
        )
    return Corpus(
        name="fsdd",
        title="Free Spoken Digit Dataset",
        source="Jackson et al.: Free Spoken Digit Dataset, github.com/Jakobovski/free-spoken-digit-dataset",
        licence="CC BY-SA 4.0",
        clips=tuple(sorted(clips, key=lambda clip: clip.name)),
    )


def speech_commands() -> Corpus:
    """4,890 one-second clips of 35 words and of background noise, split by speaker. Raises: DataError."""
    parts: dict[str, Part] = {"train": "train", "val": "held", "test": "test"}
    files = _members("speech-commands", "clips.tar.xz", ".opus", whole_path=True)
    clips = []
    for row in _index("speech-commands"):
        samples = files[row["file"]]
        clips.append(
            Clip(
                corpus="speech-commands",
                name=row["file"].removeprefix("clips/").removesuffix(".opus"),
                part=parts[row["split"]],
                speaker=row["speaker"],
                label=row["label"],
                words=_whole(row["word"], samples) if row["word"] else (),
                samples=samples,
            )
        )
    return Corpus(
        name="speech-commands",
        title="Speech Commands v0.02, test files",
        source="Warden 2018: Speech Commands, arXiv:1804.03209 (its official test files alone)",
        licence="CC BY 4.0",
        clips=tuple(clips),
    )


CORPORA: Final[dict[str, Callable[[], Corpus]]] = {"grid": grid, "fsdd": fsdd, "speech-commands": speech_commands}


def words_of(corpora: Sequence[Corpus]) -> tuple[str, ...]:
    """All words that are spoken in them, in alphabetical order."""
    return tuple(sorted({word for corpus in corpora for clip in corpus.clips for word, _, _ in clip.words}))


def loud_part(samples: NDArray[np.float32], *, rate: int = RATE) -> tuple[float, float]:
    """Where the sound of a clip begins and ends, in seconds: from the first to the last 20 ms that are not `QUIET_DB`
    below the loudest."""
    size = rate // 50
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    if not len(frames):
        return 0.0, len(samples) / rate
    energy = np.square(frames, dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-QUIET_DB / 10))
    return float(loud[0]) * size / rate, float(loud[-1] + 1) * size / rate


def _whole(word: str, samples: NDArray[np.float32]) -> tuple[Spoken, ...]:
    return ((word, *loud_part(samples)),)


def _find(folder: str, file: str) -> Path:
    path = find(folder, file)
    if path is None:
        raise DataError(f"{data_folder() / folder / file}: is missing; put it there by hand (see docs/training.md)")
    return path


def _index(folder: str) -> Iterator[dict[str, str]]:
    path = _find(folder, "index.tsv")
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


def _members(folder: str, file: str, ending: str, *, whole_path: bool = False) -> dict[str, NDArray[np.float32]]:
    """The decoded clips of an archive by name. Raises: DataError where it is missing, or no archive."""
    path = _find(folder, file)
    sound = Sound(rate=RATE, max_s=60.0)
    found: dict[str, NDArray[np.float32]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(ending):
                    opened = archive.extractfile(member)
                    assert opened is not None
                    name = member.name if whole_path else Path(member.name).stem
                    found[name] = decode(opened.read(), sound, subject=member.name, max_s=60.0).samples
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataError(f"{path}: not a whole archive ({error})") from error
    return found
