"""Whatever the bytes, a recording is read or refused by name: in time, and in memory that its sound needs."""

from __future__ import annotations

import importlib.util
import tracemalloc
from collections.abc import Callable
from functools import lru_cache
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codecs.audio import limits
from app.codecs.audio.limits import Limits
from app.codecs.audio.mp3 import header
from app.core.errors import ClientError, TooLarge, Unprocessable
from tests.app.codecs import sounds
from tests.app.codecs.sounds import FORMS, RATE, by_pyav, decoded, wav, written

DAMAGED = "but cannot be decoded, it is cut off or damaged"
SHORT_S = 1.0
"""Of processor time. Without the limits each of these takes many seconds."""


@lru_cache
def file(name: str, seconds: float = 0.3) -> bytes:
    form, coding, _, _ = FORMS[name]
    return written(sounds.burst(24_000, seconds + 0.5)[12_000 - 2400 :], 24_000, form, coding)


def flac() -> bytes:
    return file("FLAC of 16 bit")


def opus() -> bytes:
    return file("Ogg Opus")


def vorbis() -> bytes:
    return file("Ogg Vorbis")


def mp3() -> bytes:
    return written(sounds.tone(24_000), 24_000, "MP3")


def long_opus() -> bytes:
    return file("Ogg Opus", 2.5)


def noisy_mp3() -> bytes:
    """Every frame with its own header and another one's contents."""
    data, at = bytearray(mp3()), 0
    while frame := header(data, at):
        data[at + 40 : at + frame.size] = bytes(value * 37 & 127 for value in range(at + 40, at + frame.size))
        at += frame.size
    return bytes(data)


def announcing(samples: int) -> bytes:
    """The FLAC file with another number of samples in its header (36 bits)."""
    data = flac()
    head = int.from_bytes(data[18:26], "big") >> 36 << 36 | samples
    return data[:18] + head.to_bytes(8, "big") + data[26:]


def granule(data: bytes, value: int) -> bytes:
    """The Ogg file with another position in its last page, whose checksum is right again."""
    at = data.rindex(b"OggS")
    page = bytearray(data[at:])
    page[6:14] = value.to_bytes(8, "little", signed=True)
    page[22:26] = bytes(4)
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum & 0x80000000 else 0)) & 0xFFFFFFFF
    page[22:26] = checksum.to_bytes(4, "little")
    return data[:at] + bytes(page)


def floats(*values: float) -> bytes:
    return wav(np.array(values, "<f4").tobytes(), bits=32, tag=3)


PCM = bytes(2 * RATE)
# What it is, the file, the error and its status; None where it is read as far as it goes.
HOSTILE: list[tuple[str, Callable[[], bytes], int, str | None]] = [
    ("empty", lambda: b"", 422, r"is empty, expected a recording \(WAV, FLAC, Ogg Opus, Ogg Vorbis or MP3\)"),
    ("WAV: twelve bytes", lambda: b"RIFF\0\0\0\0WAVE", 422, DAMAGED),
    ("WAV: cut off", lambda: wav(PCM)[:20_000], 422, "is cut off: its data chunk announces 32000 bytes, 19956 came"),
    ("WAV: too many bytes announced", lambda: wav(PCM, size=40_000), 422, "announces 40000 bytes, 32000 came"),
    ("WAV: no samples", lambda: wav(b""), 422, "is WAV without sound: 0 samples came"),
    ("WAV: no channels", lambda: wav(PCM, channels=0), 422, DAMAGED),
    ("WAV: nine channels", lambda: wav(PCM, channels=9), 413, "has 9 channels, the limit is 8"),
    ("WAV: 65,535 channels", lambda: wav(PCM, channels=65_535), 422, DAMAGED),
    ("WAV: a rate of zero", lambda: wav(PCM, rate=0), 422, DAMAGED),
    ("WAV: one sample a second", lambda: wav(PCM, rate=1), 422, "has 1 samples a second, it must be 1000 to 384000"),
    ("WAV: a rate of 2 billion", lambda: wav(PCM, rate=2**31 - 1), 413, "has 2147483647 samples a second"),
    ("WAV: no bits", lambda: wav(PCM, bits=0), 422, DAMAGED),
    ("WAV: 200 bits", lambda: wav(PCM, bits=200), 422, DAMAGED),
    ("WAV: a coding that nobody has", lambda: wav(PCM, tag=0x1234), 422, DAMAGED),
    ("WAV: NaN", lambda: floats(0, 0.5, float("nan")), 422, r"sample 2 \(0.000 s\) of channel 0 is nan"),
    (
        "WAV: infinity",
        lambda: floats(*[0] * RATE, float("-inf")),
        422,
        r"sample 16000 \(1.000 s\) of channel 0 is -inf",
    ),
    ("WAV: floats beyond all bounds", lambda: floats(0, 3e38, -3e38), 200, None),
    ("WAV: a million chunks", lambda: wav(b"") + b"LIST\0\0\0\0" * 1_000_000, 422, "has more than 1000 chunks"),
    (
        "WAV: a sample that a lower rate leaves none of",
        lambda: wav(b"\1\0", rate=96_000),
        422,
        "is WAV without sound: 1",
    ),
    ("FLAC: four bytes", lambda: b"fLaC", 422, DAMAGED),
    ("FLAC: cut off", lambda: flac()[: len(flac()) // 2], 422, DAMAGED),
    ("FLAC: more samples announced than come", lambda: announcing(48_000), 422, "announces 48000 samples, 9600 came"),
    ("FLAC: fewer", lambda: announcing(4_800), 200, None),
    ("FLAC: no number", lambda: announcing(0), 200, None),
    ("FLAC: 69 billion", lambda: announcing(2**36 - 1), 413, "holds 2863311.5 s of sound, the limit is 30 s"),
    ("FLAC: garbage in frames", lambda: flac()[:9000] + bytes(range(256)) * 8 + flac()[11_048:], 422, DAMAGED),
    ("FLAC: a gigabyte of padding", lambda: flac()[:42] + b"\x01\xff\xff\xff" + flac()[46:], 422, DAMAGED),
    ("Ogg Opus: its first page alone", lambda: opus()[: opus().index(b"OggS", 4)], 422, DAMAGED),
    ("Ogg Opus: cut off", lambda: opus()[: len(opus()) - 9], 422, "is cut off: its last page announces"),
    ("Ogg Opus: a gap", lambda: opus()[:400] + opus()[700:], 422, DAMAGED),
    ("Ogg Opus: a position before its start", lambda: granule(opus(), -(2**62)), 422, DAMAGED),
    (
        "Ogg Opus: a position of 6 million years",
        lambda: granule(long_opus(), 2**62),
        413,
        "of sound, the limit is 30 s",
    ),
    ("Ogg Opus: a position of an hour", lambda: granule(long_opus(), 48_000 * 3600), 413, "the limit is 30 s"),
    ("Ogg Opus: 255 channels", lambda: opus().replace(b"OpusHead\1\1", b"OpusHead\1\xff"), 422, DAMAGED),
    ("Ogg Vorbis: its first page alone", lambda: vorbis()[: vorbis().index(b"OggS", 4)], 422, DAMAGED),
    ("Ogg Vorbis: cut off", lambda: vorbis()[: len(vorbis()) - 9], 422, "is cut off: its last page announces"),
    ("Ogg Vorbis: without its books", lambda: vorbis()[:300], 422, "is cut off|" + DAMAGED),
    ("Ogg Vorbis: garbage", lambda: vorbis()[:60] + bytes(range(256)) * 20, 422, DAMAGED),
    ("Ogg Vorbis: a position of a year", lambda: granule(vorbis(), 24_000 * 86_400 * 365), 200, None),
    ("Ogg Vorbis: a rate of zero", lambda: vorbis().replace((24_000).to_bytes(4, "little"), bytes(4), 1), 422, DAMAGED),
    ("MP3: one frame cut off", lambda: mp3()[:100], 422, DAMAGED),
    ("MP3: a tag of 200 MB", lambda: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + mp3(), 415, "expected a recording"),
    ("MP3: sound, then a megabyte of zeros", lambda: mp3() + bytes(1 << 20), 200, None),
    ("MP3: garbage between frames", lambda: mp3()[:600] + bytes(1 << 17) + mp3()[600:], 422, DAMAGED),
    ("MP3: a million sync words", lambda: mp3()[:2000] + b"\xff\xfb" * 1_000_000, 200, None),
    ("MP3: frames of noise", lambda: noisy_mp3(), 200, None),
]


@pytest.mark.parametrize(
    ("make", "status", "error"), [pytest.param(make, status, error, id=name) for name, make, status, error in HOSTILE]
)
def test_a_hostile_file_is_refused_by_name_or_read_as_far_as_it_goes(
    make: Callable[[], bytes], status: int, error: str | None
) -> None:
    data = make()
    began = process_time()
    if error is None:
        samples = decoded(data).samples
        assert 0 < len(samples) < 3 * RATE
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 1
    else:
        with pytest.raises(ClientError, match=error) as caught:
            decoded(data)
        assert caught.value.status == status
        assert caught.value.subject == "file[0]"
        assert caught.value.detail.startswith("file[0]")
    assert process_time() - began < SHORT_S


@lru_cache
def silence() -> bytes:
    """Ten minutes in 50 KB."""
    return written(np.zeros(600 * 8_000, np.int16), 8_000, "FLAC", "PCM_16")


def test_minutes_of_silence_in_a_few_kilobytes_are_refused_before_they_are_decoded() -> None:
    assert len(silence()) < 50_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=r"file\[0\]: holds 600.0 s of sound, the limit is 30 s"):
            decoded(silence())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_where_the_header_does_not_say_how_long_it_is_decoding_stops_at_the_limit() -> None:
    data = bytearray(silence())
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # no number of samples
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=r"file\[0\]: holds more than 30 s of sound, the limit is 30 s"):
            decoded(bytes(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * 4 * 30 * RATE + (1 << 20)  # the samples that were made until then


def test_more_sound_than_bytes_can_hold_is_refused_whatever_its_length() -> None:
    size = 10_000
    most = limits.FREE_SAMPLES + limits.SAMPLES_PER_BYTE * size
    Limits("file[0]", size, 1e9).check_header(rate=48_000, channels=2, samples=most // 2)
    with pytest.raises(TooLarge, match=f"its 10000 bytes become at least {most + 2} samples, the limit is {most}"):
        Limits("file[0]", size, 1e9).check_header(rate=48_000, channels=2, samples=most // 2 + 1)
    counted = Limits("file[0]", size, 1e9)
    counted.count(most - 1, rate=48_000, channels=1)
    with pytest.raises(TooLarge, match="no recording is compressed as much"):
        counted.count(2, rate=48_000, channels=1)


def test_a_recording_of_exactly_the_longest_length_is_read() -> None:
    assert len(decoded(wav(PCM), max_s=1.0).samples) == RATE
    with pytest.raises(TooLarge, match=r"holds 1.0 s of sound, the limit is 0.99"):
        decoded(wav(PCM), max_s=0.9999)


def test_a_wav_file_that_announces_fewer_bytes_is_as_long_as_it_says() -> None:
    assert len(decoded(wav(PCM, size=1_000)).samples) == 500


def test_the_channel_with_the_wrong_sample_is_named() -> None:
    body = np.zeros((RATE, 3), "<f4")
    body[12_000, 2] = np.nan
    with pytest.raises(Unprocessable, match=r"sample 12000 \(0.750 s\) of channel 2 is nan"):
        decoded(wav(body.tobytes(), channels=3, bits=32, tag=3))


MAGICS = (
    b"RIFF\xff\xff\xff\xffWAVEfmt ",
    b"fLaC\0\0\0\x22",
    b"OggS\0\2",
    b"ID3\4\0\0",
    b"\xff\xfb\x90\x64",
    b"\xff\xf1",
)
MAGICS_OF_PYAV = (b"\x1aE\xdf\xa3", b"\0\0\0\x14ftypisom", b"#!AMR\n")


@settings(deadline=None, max_examples=50)
@given(st.sampled_from((b"", *MAGICS, *MAGICS_OF_PYAV)), st.binary(max_size=600))
def test_random_bytes_are_refused_and_nothing_else(magic: bytes, tail: bytes) -> None:
    try:
        decoded(magic + tail)
    except ClientError as error:
        assert error.subject == "file[0]"  # noqa: PT017 - noise that happens to be a recording is read


@lru_cache
def seeds() -> tuple[bytes, ...]:
    names = ("WAV of 16 bit", "extensible WAV", "WAV in mu-law", "FLAC of 16 bit", "Ogg Opus", "Ogg Vorbis", "MP3")
    ours = tuple(file(name, 0.1) for name in names)
    if importlib.util.find_spec("av") is None:
        return ours
    fragmented = {"movflags": "frag_keyframe+empty_moov"}
    return (
        *ours,
        by_pyav("webm", "libopus", 48_000, 0.1),
        by_pyav("mp4", "aac", 48_000, 0.1),
        by_pyav("mp4", "libopus", 48_000, 0.1, **fragmented),
        by_pyav("ogg", "flac", 48_000, 0.1),
        by_pyav("adts", "aac", 48_000, 0.1),
    )


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 11),
    st.lists(st.tuples(st.integers(0, 400) | st.integers(0, 20_000), st.binary(min_size=1, max_size=4)), max_size=4),
    st.none() | st.integers(0, 20_000),
    st.tuples(st.integers(0, 20_000), st.integers(0, 300)) | st.none(),
)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    which: int, wrong: list[tuple[int, bytes]], end: int | None, gap: tuple[int, int] | None
) -> None:
    data = bytearray(seeds()[which % len(seeds())])
    for at, values in wrong:
        at %= len(data)
        data[at : at + len(values)] = values
    if gap:
        start = gap[0] % len(data)
        del data[start : start + gap[1]]
    if end is not None:
        del data[end % (len(data) + 1) :]
    began = process_time()
    try:
        clip = decoded(bytes(data))
    except ClientError as error:
        assert error.subject == "file[0]"  # noqa: PT017 - either is right
    else:
        assert np.isfinite(clip.samples).all()
        assert len(clip.samples) <= 30 * RATE
    assert process_time() - began < SHORT_S
