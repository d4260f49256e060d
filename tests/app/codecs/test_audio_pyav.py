"""What browsers and phones record, by PyAV: the sound stays where it was, without what a codec puts around it."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest

from app.codecs import audio
from app.codecs.audio.formats import WITH_PYAV
from app.core.errors import ClientError, TooLarge, Unprocessable, UnsupportedMedia
from tests.app.codecs import sounds
from tests.app.codecs.sounds import RATE, by_pyav, decoded

pytest.importorskip("av", reason="the extra media is not installed")

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
# container, codec, rate, options of the container; True where the file says how long its sound is
FILES = [
    pytest.param("webm", "libopus", 48_000, {}, True, id="WebM, Opus"),
    pytest.param("mp4", "libopus", 48_000, {}, True, id="MP4, Opus"),
    pytest.param("mp4", "libopus", 48_000, FRAGMENTED, True, id="fragmented MP4, Opus"),
    pytest.param("ogg", "libopus", 48_000, {}, True, id="Ogg Opus"),
    pytest.param("mp4", "aac", 48_000, {}, True, id="MP4, AAC"),
    pytest.param("ipod", "aac", 44_100, {}, True, id="M4A, AAC"),
    pytest.param("mp4", "aac", 48_000, FRAGMENTED, True, id="fragmented MP4, AAC"),
    pytest.param("matroska", "aac", 48_000, {}, False, id="Matroska, AAC"),
    pytest.param("adts", "aac", 44_100, {}, False, id="AAC"),
    pytest.param("ogg", "flac", 44_100, {}, True, id="Ogg FLAC"),
    pytest.param("matroska", "flac", 22_050, {}, True, id="Matroska, FLAC"),
    pytest.param("ipod", "alac", 44_100, {}, True, id="M4A, ALAC"),
    pytest.param("matroska", "pcm_s16le", 48_000, {}, True, id="WebM, PCM, which Chromium writes"),
    pytest.param("mp4", "libmp3lame", 48_000, {}, True, id="MP4, MP3"),
    pytest.param("mp4", "libmp3lame", 16_000, FRAGMENTED, True, id="fragmented MP4, MP3"),
    pytest.param("mp3", "libmp3lame", 44_100, {}, True, id="MP3"),
    pytest.param("mp3", "libmp3lame", 44_100, {"write_xing": "0"}, False, id="MP3 without a tag"),
]


@pytest.mark.parametrize(("container", "codec", "rate", "options", "says"), FILES)
def test_the_sound_stays_where_it_was(
    container: str, codec: str, rate: int, options: dict[str, str], says: bool
) -> None:
    clip = decoded(by_pyav(container, codec, rate, **options))
    assert sounds.onset_s(clip.samples, RATE) == pytest.approx(sounds.onset_s(sounds.burst(rate), rate), abs=0.001)
    if says:
        assert len(clip.samples) == RATE
    else:  # padded to a whole frame
        assert RATE <= len(clip.samples) < 1.05 * RATE
    assert clip.source_rate == rate


@pytest.mark.parametrize(("container", "codec", "rate", "options", "says"), FILES)
def test_a_tone_keeps_its_frequency_and_its_level(
    container: str, codec: str, rate: int, options: dict[str, str], says: bool
) -> None:
    samples = decoded(by_pyav(container, codec, rate, signal=sounds.tone, **options)).samples
    assert sounds.frequency(samples, RATE) == pytest.approx(sounds.TONE_HZ, abs=0.2)
    assert abs(sounds.decibels(samples)) < 0.5


def test_opus_is_decoded_by_libopus_in_every_container() -> None:
    """FFmpeg's own decoder adds a second tone to a rising one; the libopus inside libsndfile reads the same packets."""
    ogg, webm = (
        decoded(by_pyav(container, "libopus", signal=sounds.rising, bit_rate=32_000)).samples
        for container in ("ogg", "webm")
    )
    away = float(np.sqrt(np.mean((ogg - webm) ** 2) / np.mean(ogg**2)))
    assert away < 0.02


def test_a_pre_skip_of_chromium_is_cut_off() -> None:
    """Its MP4 announces 3,840 samples at 48,000 a second, 80 ms, where libopus itself needs 312."""
    data = by_pyav("mp4", "libopus", 48_000, **FRAGMENTED)
    at = data.index(b"dOps") + 4 + 2
    assert int.from_bytes(data[at : at + 2], "big") == 312
    samples = decoded(data[:at] + (3840).to_bytes(2, "big") + data[at + 2 :]).samples
    early_s = sounds.BURST_S - sounds.onset_s(samples, RATE)
    assert early_s == pytest.approx((3840 - 312) / 48_000, abs=0.001)


@pytest.mark.parametrize("name", WITH_PYAV[:-1])
def test_every_format_is_known_by_its_first_bytes(name: str) -> None:
    container, codec = {
        "WebM": ("webm", "libopus"), "MP4": ("mp4", "aac"), "Ogg FLAC": ("ogg", "flac"), "AAC": ("adts", "aac")
    }[name]  # fmt: skip
    assert audio.sniff(by_pyav(container, codec)) == name


def test_stereo_is_averaged() -> None:
    import av

    out = io.BytesIO()
    one = sounds.tone(48_000)
    with av.open(out, "w", format="matroska") as file:
        stream = file.add_stream("pcm_s16le", rate=48_000)
        stream.layout = "stereo"
        both = np.stack([one, np.zeros_like(one)], axis=1)
        frame = av.AudioFrame.from_ndarray(
            (both * 32767).astype(np.int16).reshape(1, -1), format="s16", layout="stereo"
        )
        frame.sample_rate, frame.pts = 48_000, 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    clip = decoded(out.getvalue())
    assert clip.channels == 2
    assert sounds.decibels(clip.samples) == pytest.approx(-6.02, abs=0.05)


def test_a_recording_that_is_too_long_is_refused() -> None:
    for container, codec in (("mp4", "aac"), ("webm", "libopus"), ("ogg", "flac"), ("adts", "aac")):
        with pytest.raises(TooLarge, match=r"file\[0\]: holds .*of sound, the limit is 0.5 s"):
            decoded(by_pyav(container, codec), max_s=0.5)


@pytest.mark.parametrize("container", ["mp4", "ipod", "webm", "ogg"])
def test_a_recording_of_exactly_the_longest_length_is_read_whatever_its_padding(container: str) -> None:
    codec = {"ipod": "aac", "ogg": "flac"}.get(container, "libopus")
    assert len(decoded(by_pyav(container, codec), max_s=1.0).samples) == RATE
    with pytest.raises(TooLarge, match=r"holds 1\.0 s of sound, the limit is 0\.999 s"):
        decoded(by_pyav(container, codec), max_s=0.999)


def test_a_recording_that_changes_its_rate_is_refused() -> None:
    """As a radio station's stream of AAC may."""
    data = by_pyav("adts", "aac", 48_000) + by_pyav("adts", "aac", 44_100)
    with pytest.raises(Unprocessable, match=r"changes its rate, its channels or its sample format after 1\.0"):
        decoded(data)


def test_a_long_recording_is_read_in_blocks_and_its_ends_are_cut_all_the_same() -> None:
    for options in ({}, FRAGMENTED):
        clip = decoded(by_pyav("mp4", "aac", 48_000, 5.0, **options))
        assert len(clip.samples) == 5 * RATE
        assert sounds.onset_s(clip.samples, RATE) == pytest.approx(sounds.BURST_S, abs=0.001)


def test_a_video_without_sound_is_named() -> None:
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as file:
        stream = file.add_stream("mjpeg", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuvj420p"
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    with pytest.raises(UnsupportedMedia, match=r"file\[0\]: is WebM with no sound in it"):
        decoded(out.getvalue())


def table(data: bytes, kind: bytes, at: int, value: int) -> bytes:
    """The MP4 file with another number at `at` in its box."""
    start = data.index(kind) + 4 + at
    return data[:start] + value.to_bytes(4, "big") + data[start + 4 :]


def mp4() -> bytes:
    return by_pyav("mp4", "aac")


def fragments() -> bytes:
    return by_pyav("mp4", "libopus", 48_000, **FRAGMENTED)


def webm() -> bytes:
    return by_pyav("webm", "libopus")


def ogg() -> bytes:
    return by_pyav("ogg", "flac")


def aac() -> bytes:
    return by_pyav("adts", "aac")


DAMAGED = "but cannot be decoded, it is cut off or damaged"
# What it is, the file, and the error; None where it is read as far as it goes.
HOSTILE: list[tuple[str, Callable[[], bytes], str | None]] = [
    ("MP4: cut off", lambda: mp4()[:3000], "is cut off: its box 'mdat' announces"),
    ("MP4: cut off in its head", lambda: mp4()[:20], "is cut off: its box 'ftyp' announces 28 bytes, 20 came"),
    ("MP4: without its tables", lambda: mp4()[: mp4().index(b"moov") - 4], DAMAGED),
    (
        "MP4: a table of 4 billion samples",
        lambda: table(table(mp4(), b"stsz", 4, 1), b"stsz", 8, 2**32 - 1),
        "has more than 1000000 samples in its tables",
    ),
    (
        "MP4: a fragment of 4 billion samples",
        lambda: table(fragments(), b"trun", 4, 2**32 - 1),
        "has more than 1000000 samples in its tables",
    ),
    ("MP4: a thousand edits", lambda: table(mp4(), b"elst", 4, 1000), "has more than 4 edits"),
    (
        "MP4: a box of 2 GB",
        lambda: table(mp4(), b"mdat", -8, 2**31 - 1),
        "is cut off: its box 'mdat' announces 2147483647 bytes",
    ),
    ("MP4: a million boxes", lambda: mp4()[:28] + b"\0\0\0\x08free" * 1_000_000, "has more than 50000 boxes"),
    ("WebM: its head alone", lambda: webm()[:40], DAMAGED),
    ("WebM: cut off in its head", lambda: webm()[: webm().index(b"OpusHead")], DAMAGED),
    ("WebM: another codec", lambda: webm().replace(b"A_OPUS", b"A_XXXX"), "is WebM with sound coded as unknown"),
    ("WebM: zeros behind its head", lambda: webm()[:200] + bytes(20_000), DAMAGED),
    ("WebM: another container's bytes", lambda: webm()[:4] + mp4()[4:], DAMAGED),
    ("WebM: no clusters", lambda: webm()[: webm().index(b"\x1f\x43\xb6\x75")], DAMAGED),
    ("Ogg FLAC: cut off", lambda: ogg()[:7000], "is cut off: its last page announces"),
    ("Ogg FLAC: its head alone", lambda: ogg()[:70], "is cut off: its last page announces 79 bytes, 70 came"),
    ("Ogg FLAC: garbage in the middle", lambda: ogg()[:5000] + bytes(3000) + ogg()[8000:], DAMAGED),
    ("Ogg FLAC: pages out of order", lambda: ogg()[:300] + ogg()[6000:] + ogg()[300:6000], DAMAGED),
    ("Ogg FLAC: no sound", lambda: ogg()[: ogg().index(b"OggS", 60)], DAMAGED),
    ("AAC: one header", lambda: aac()[:7], "without sound: 0 samples came"),
    ("AAC: garbage in frames", lambda: aac()[:400] + bytes(range(256)) * 4 + aac()[1424:], DAMAGED),
    ("AAC: a head of another rate", lambda: aac()[:2] + bytes([aac()[2] ^ 0x3C]) + aac()[3:], DAMAGED),
    ("AAC: no number of channels", lambda: aac()[:3] + bytes([aac()[3] & 0x3F]) + aac()[4:], None),
    ("AAC: cut off", lambda: aac()[:3000], DAMAGED),
    ("AMR: its head alone", lambda: b"#!AMR\n", "without sound: 0 samples came"),
    ("AMR: garbage", lambda: b"#!AMR\n" + bytes(range(256)) * 8, DAMAGED),
    ("AMR: zeros", lambda: b"#!AMR\n" + bytes(13 * 50), None),
    ("AMR: broad-band's head", lambda: b"#!AMR-WB\n", "without sound: 0 samples came"),
    ("AMR: another's bytes", lambda: b"#!AMR\n" + mp4(), DAMAGED),
]


@pytest.mark.parametrize(("make", "error"), [pytest.param(make, error, id=name) for name, make, error in HOSTILE])
def test_a_hostile_file_is_refused_by_name_or_read_as_far_as_it_goes(
    make: Callable[[], bytes], error: str | None
) -> None:
    if error is None:
        assert 0 < len(decoded(make()).samples) <= 1.1 * RATE
    else:
        with pytest.raises(ClientError, match=error) as caught:
            decoded(make())
        assert caught.value.subject == "file[0]"
        assert caught.value.status in (415, 422)


def test_a_recording_that_stops_in_the_middle_is_read_as_far_as_it_goes() -> None:
    """A WebM file has no length: a browser that was closed leaves just this."""
    data = by_pyav("webm", "libopus", 48_000, 4.0)
    samples = decoded(data[: len(data) * 3 // 4]).samples
    assert 2.0 < len(samples) / RATE < 4.0
    assert sounds.onset_s(samples, RATE) == pytest.approx(sounds.BURST_S, abs=0.001)


def test_more_packets_than_sound_can_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.codecs.audio.pyav.MOST_PACKETS_A_SECOND", -1_000)
    with pytest.raises(Unprocessable, match="packets for each second"):
        decoded(by_pyav("webm", "libopus"), max_s=1)
