"""Tiny corpora for tests: words that are tones, so that a net can tell them apart after a few steps."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import soundfile

from training.data.sound import COMMANDS, DIGITS, GRID_PLACES, RATE, Clip, Corpus, Part, Spoken

WORD_S = 0.2


def tone(word: str, seconds: float = WORD_S) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A tone of a frequency of its own for each word."""
    hertz = 200.0 + sum(map(ord, word)) * 7 % 2000
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def clip(corpus: str, name: str, part: Part, words: list[str], *, label: str = "", speaker: str = "a") -> Clip:
    """Half a word of near silence, then the words, each a tone with a short pause behind it."""
    hush = np.random.default_rng(len(name)).standard_normal(round(WORD_S / 2 * RATE)) * 1e-4
    waves = [hush.astype(np.float32)]
    spoken: list[Spoken] = []
    at = WORD_S / 2
    for word in words:
        waves += [tone(word), np.zeros(round(0.05 * RATE), np.float32)]
        spoken.append((word, at, at + WORD_S))
        at += WORD_S + 0.05
    return Clip(
        corpus=corpus,
        name=name,
        part=part,
        speaker=speaker,
        label=label or " ".join(words),
        words=tuple(spoken),
        samples=np.concatenate(waves),
    )


def corpora(*, each: int = 6) -> list[Corpus]:
    """GRID, FSDD and Speech Commands in small, with a few words of each place."""
    parts: tuple[Part, ...] = ("train", "held", "test")
    rng = np.random.default_rng(0)
    sentences = [
        clip("grid", f"g{part}{i}", part, [place[int(rng.integers(2))] for place in GRID_PLACES])
        for part in parts
        for i in range(each)
    ]
    digits = [
        clip("fsdd", f"{word}_{speaker}_{part}", part, [word], speaker=speaker)
        for part in parts
        for word in DIGITS
        for speaker in ("a", "b")
    ]
    commands = [
        clip("speech-commands", f"{label}{part}", part, [] if label == "silence" else [word], label=label)
        for part in parts
        for label in COMMANDS
        for word in ["tree" if label == "unknown" else label]
    ]
    about = {"source": "made for a test", "licence": "none"}
    return [
        Corpus(name="grid", title="GRID", clips=tuple(sentences), **about),
        Corpus(name="fsdd", title="FSDD", clips=tuple(digits), **about),
        Corpus(name="speech-commands", title="Speech Commands", clips=tuple(commands), **about),
    ]


def archive(
    path: Path, files: dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]], *, rate: int, form: str
) -> None:
    """A tar.xz of sound files in the form of the corpora: `form` is WAV or OPUS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz") as tar:
        for name, wave in files.items():
            data = io.BytesIO()
            kind, subtype = ("OGG", "OPUS") if form == "OPUS" else ("WAV", "PCM_16")
            soundfile.write(data, wave, rate, format=kind, subtype=subtype)
            entry = tarfile.TarInfo(name)
            entry.size = data.tell()
            data.seek(0)
            tar.addfile(entry, data)
