"""Spoken corpora: read from archives as they are published, with words, times and parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.sounds import archive, tone
from training.data import sound
from training.data.base import DataError
from training.data.sound import GRID_PLACES, RATE, loud_part, words_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_grid_has_51_words_in_six_places_and_no_w() -> None:
    assert [len(place) for place in GRID_PLACES] == [4, 4, 4, 25, 10, 4]
    assert "w" not in GRID_PLACES[3]


def test_a_sentence_of_grid_has_its_words_with_times_in_seconds(folder: Path) -> None:
    wave = np.tile(tone("x"), 15)[: 3 * RATE]
    archive(folder / "grid-s1/audio.tar.xz", {"audio/bbaf2n.opus": wave}, rate=RATE, form="OPUS")
    (folder / "grid-s1/index.tsv").write_text(
        "clip\tsplit\ttext\twords\nbbaf2n\tval\tbin blue at f two now\t"
        "sil:0:23.75 bin:23.75:29.5 sp:29.5:30 blue:30:34 at:34:35.5 f:35.5:41 two:41:47.25 now:47.25:53 sil:53:74.5\n"
    )
    (clip,) = sound.grid().clips
    assert (clip.part, clip.text, clip.speaker) == ("held", "bin blue at f two now", "s1")
    assert clip.words[0] == ("bin", pytest.approx(0.95), pytest.approx(1.18))
    assert clip.words[-1] == ("now", pytest.approx(1.89), pytest.approx(2.12))
    assert abs(len(clip.samples) - 3 * RATE) <= 0.02 * RATE


def test_the_first_five_recordings_of_each_digit_are_the_test_and_8_khz_becomes_16(folder: Path) -> None:
    eight = np.sin(2 * np.pi * 440 * np.arange(4000) / 8000).astype(np.float32) * 0.5
    files = {f"recordings/7_theo_{i}.wav": eight for i in (0, 4, 5, 7, 8, 49)}
    archive(folder / "fsdd/fsdd-recordings.tar.xz", files, rate=8000, form="WAV")
    clips = {clip.name: clip for clip in sound.fsdd().clips}
    parts = {name.rpartition("_")[2]: clip.part for name, clip in clips.items()}
    assert parts == {"0": "test", "4": "test", "5": "held", "7": "held", "8": "train", "49": "train"}
    one = clips["7_theo_0"]
    assert (one.label, one.speaker, len(one.samples)) == ("seven", "theo", 8000)
    spectrum = np.abs(np.fft.rfft(one.samples))
    assert abs(spectrum.argmax() * RATE / len(one.samples) - 440) < 3


def test_a_clip_of_silence_has_no_words_and_an_unknown_one_its_real_word(folder: Path) -> None:
    files = {"clips/silence/1.opus": np.zeros(RATE, np.float32), "clips/unknown/2.opus": np.tile(tone("tree"), 5)}
    archive(folder / "speech-commands/clips.tar.xz", files, rate=RATE, form="OPUS")
    (folder / "speech-commands/index.tsv").write_text(
        "file\tlabel\tword\tspeaker\tsplit\nclips/silence/1.opus\tsilence\t\t\ttrain\n"
        "clips/unknown/2.opus\tunknown\ttree\tabc\ttest\n"
    )
    corpus = sound.speech_commands()
    silence, other = corpus.clips
    assert (silence.words, silence.label) == ((), "silence")
    assert (other.text, other.label, other.part) == ("tree", "unknown", "test")
    assert words_of([corpus]) == ("tree",)


def test_a_missing_archive_is_one_sentence_that_names_the_file(folder: Path) -> None:
    with pytest.raises(DataError, match=r"fsdd/fsdd-recordings\.tar\.xz: is missing"):
        sound.fsdd()


def test_a_broken_archive_is_one_sentence_that_names_the_file(folder: Path) -> None:
    (folder / "fsdd").mkdir()
    (folder / "fsdd/fsdd-recordings.tar.xz").write_bytes(b"not a tar")
    with pytest.raises(DataError, match="not a whole archive"):
        sound.fsdd()


def test_the_loud_part_of_a_word_between_silences_is_the_word() -> None:
    wave = np.concatenate([np.zeros(4000), tone("one", 0.3), np.zeros(4000)]).astype(np.float32)
    start, end = loud_part(wave)
    assert abs(start - 0.25) <= 0.02
    assert abs(end - 0.55) <= 0.02
