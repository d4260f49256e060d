"""What browsers and phones record, read by PyAV: the sound stays where it was, without what the codec puts around it."""

from __future__ import annotations

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
    pytest.param("webm", "pcm_s16le", 48_000, {}, True, id="WebM, PCM"),
    pytest.param("mp4", "libmp3lame", 48_000, {}, True, id="MP4, MP3"),
    pytest.param("mp4", "libmp3lame", 16_000, FRAGMENTED, True, id="fragmented MP4, MP3"),
    pytest.param("mp3", "libmp3lame", 44_100, {}, True, id="MP3"),
    pytest.param("mp3", "libmp3lame", 44_100, {"write_xing": "0"}, False, id="MP3 without a tag"),
]


def muxed(container: str, codec: str, rate: int, options: dict[str, str], *, pure: bool = False) -> bytes:
    if container == "webm" and codec == "pcm_s16le":
        container = "matroska"  # Chromium writes it and calls it WebM, FFmpeg does not
    return by_pyav(container, codec, rate, pure=pure, **options)


@pytest.mark.parametrize(("container", "codec", "rate", "options", "says"), FILES)
def test_the_sound_stays_where_it_was(
    container: str, codec: str, rate: int, options: dict[str, str], says: bool
) -> None:
    clip = decoded(muxed(container, codec, rate, options))
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
    samples = decoded(muxed(container, codec, rate, options, pure=True)).samples
    assert sounds.frequency(samples, RATE) == pytest.approx(sounds.TONE_HZ, abs=0.2)
    assert abs(sounds.decibels(samples)) < 0.5


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
    import io

    import av
    import numpy as np

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


def test_a_video_without_sound_is_named() -> None:
    import io

    import av
    import numpy as np

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


MP4 = ("mp4", "aac")


def hostile(name: str) -> bytes:
    mp4, webm = by_pyav("mp4", "aac"), by_pyav("webm", "libopus")
    fragments = by_pyav("mp4", "libopus", 48_000, **FRAGMENTED)
    ogg, aac = by_pyav("ogg", "flac"), by_pyav("adts", "aac")
    return {
        "MP4: cut off": mp4[: len(mp4) // 2],
        "MP4: cut off in its head": mp4[:20],
        "MP4: without its tables": mp4[: mp4.index(b"moov") - 4],
        "MP4: a table of 4 billion samples": table(table(mp4, b"stsz", 4, 1), b"stsz", 8, 2**32 - 1),
        "MP4: a fragment of 4 billion samples": table(fragments, b"trun", 4, 2**32 - 1),
        "MP4: a thousand edits": table(mp4, b"elst", 4, 1000),
        "MP4: a box of 2 GB": table(mp4, b"mdat", -8, 2**31 - 1),
        "MP4: a million boxes": mp4[:32] + b"\0\0\0\x08free" * 1_000_000,
        "MP4: another codec": mp4.replace(b"mp4a", b"xxxx"),
        "MP4: an edition without a rate": mp4.replace((48_000).to_bytes(2, "big") + b"\0\0", bytes(4)),
        "WebM: its head alone": webm[:40],
        "WebM: cut off in its head": webm[: webm.index(b"OpusHead")],
        "WebM: without a codec": webm.replace(b"A_OPUS", b"A_XXXX"),
        "WebM: zeros behind its head": webm[:200] + bytes(20_000),
        "WebM: another container's bytes": webm[:4] + mp4[4:],
        "WebM: no bytes of sound": webm[: webm.index(b"\x1f\x43\xb6\x75")],
        "Ogg FLAC: cut off": ogg[: len(ogg) // 2],
        "Ogg FLAC: its head alone": ogg[:70],
        "Ogg FLAC: garbage in the middle": ogg[:5000] + bytes(3000) + ogg[8000:],
        "Ogg FLAC: pages out of order": ogg[:300] + ogg[6000:] + ogg[300:6000],
        "Ogg FLAC: no sound": ogg[: ogg.index(b"OggS", 60)],
        "AAC: one header": aac[:7],
        "AAC: garbage in frames": aac[:400] + bytes(range(256)) * 4 + aac[1424:],
        "AAC: a head of another rate": aac[:2] + bytes([aac[2] ^ 0x3C]) + aac[3:],
        "AAC: reserved channels": aac[:3] + bytes([aac[3] & 0x3F]) + aac[4:],
        "AAC: cut off": aac[: len(aac) * 2 // 3],
        "AMR: its head alone": b"#!AMR\n",
        "AMR: garbage": b"#!AMR\n" + bytes(range(256)) * 8,
    }[name]


REFUSED = {
    "MP4: cut off": r"is cut off|cannot be decoded",
    "MP4: a table of 4 billion samples": "has more than 1000000 samples in its tables",
    "MP4: a fragment of 4 billion samples": "has more than 1000000 samples in its tables",
    "MP4: a thousand edits": "has more than 4 edits",
    "MP4: a box of 2 GB": "is cut off: its box 'mdat' announces 2147483647 bytes",
    "MP4: a million boxes": "has more than 50000 boxes",
    "MP4: without its tables": "begins as MP4 but cannot be decoded",
    "WebM: without a codec": "WebM with",
    "Ogg FLAC: cut off": "is cut off: its last page announces",
}
NAMES = [
    "MP4: cut off", "MP4: cut off in its head", "MP4: without its tables", "MP4: a table of 4 billion samples",
    "MP4: a fragment of 4 billion samples", "MP4: a thousand edits", "MP4: a box of 2 GB", "MP4: a million boxes",
    "MP4: another codec", "MP4: an edition without a rate", "WebM: its head alone", "WebM: cut off in its head",
    "WebM: without a codec", "WebM: zeros behind its head", "WebM: another container's bytes",
    "WebM: no bytes of sound", "Ogg FLAC: cut off", "Ogg FLAC: its head alone", "Ogg FLAC: garbage in the middle",
    "Ogg FLAC: pages out of order", "Ogg FLAC: no sound", "AAC: one header", "AAC: garbage in frames",
    "AAC: a head of another rate", "AAC: reserved channels", "AAC: cut off", "AMR: its head alone", "AMR: garbage",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_file_is_refused_or_read_and_nothing_else(name: str) -> None:
    try:
        clip = decoded(hostile(name))
    except ClientError as error:
        assert error.status in (413, 415, 422)  # noqa: PT017 - either outcome is right
        assert error.detail.startswith("file[0]:")
        assert error.subject == "file[0]"
    else:
        assert name not in REFUSED
        assert 0 < len(clip.samples) <= 1.1 * RATE


@pytest.mark.parametrize("name", REFUSED)
def test_the_error_names_what_is_wrong(name: str) -> None:
    with pytest.raises(ClientError, match=REFUSED[name]):
        decoded(hostile(name))


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
