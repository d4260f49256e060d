"""Sound files become the samples that they hold: the tone, its level and its time survive every format and rate."""

from __future__ import annotations

import io
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from app.codecs import audio
from app.codecs.audio import containers, mp3
from app.codecs.audio.formats import TAKEN
from app.core.errors import Unprocessable, UnsupportedMedia
from tests.app.codecs import sounds
from tests.app.codecs.sounds import FORMS, RATE, decoded, wav, written

CASES = [pytest.param(name, rate, id=f"{name}, {rate}") for name, form in FORMS.items() for rate in form[3]]


@pytest.mark.parametrize(("name", "rate"), CASES)
def test_a_tone_keeps_its_frequency_its_level_and_its_length(name: str, rate: int) -> None:
    form, coding, tolerance, _ = FORMS[name]
    clip = decoded(written(sounds.tone(rate), rate, form, coding))
    assert sounds.frequency(clip.samples, RATE) == pytest.approx(sounds.TONE_HZ, abs=0.2)
    assert abs(sounds.decibels(clip.samples)) < tolerance
    assert (len(clip.samples), clip.rate, clip.source_rate, clip.channels) == (RATE, RATE, rate, 1)
    assert clip.duration_s == 1.0
    assert clip.samples.dtype == np.float32


@pytest.mark.parametrize(("name", "rate"), CASES)
def test_what_is_heard_after_half_a_second_stays_there(name: str, rate: int) -> None:
    form, coding, tolerance, _ = FORMS[name]
    samples = sounds.burst(rate)
    clip = decoded(written(samples, rate, form, coding))
    late_s = sounds.onset_s(clip.samples, RATE) - sounds.onset_s(samples, rate)
    assert abs(late_s) < (0.001 if tolerance < 0.5 else 0.003)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 384_000])
@pytest.mark.parametrize("to", [8_000, 16_000, 22_050])
@pytest.mark.parametrize("count", [1_001, 65_537])
def test_an_impulse_stays_within_a_sample_and_the_length_is_rounded(rate: int, to: int, count: int) -> None:
    samples = np.zeros(count, np.float32)
    at = count // 3
    samples[at] = 0.9
    clip = decoded(written(samples, rate, "WAV", "FLOAT"), rate=to)
    assert len(clip.samples) == round(count * to / rate)
    assert abs(int(np.argmax(clip.samples)) - at * to / rate) <= 1


@pytest.mark.parametrize(
    ("bits", "tag", "body", "expected"),
    [
        (8, 1, bytes([0, 64, 128, 192, 255]), [-1, -0.5, 0, 0.5, 127 / 128]),
        (16, 1, np.array([-32768, -16384, 0, 16384, 32767], "<i2").tobytes(), [-1, -0.5, 0, 0.5, 32767 / 32768]),
        (24, 1, b"\0\0\x80" + b"\0\0\xc0" + b"\0\0\0" + b"\0\0\x40" + b"\x01\0\0", [-1, -0.5, 0, 0.5, 2.0**-23]),
        (32, 1, np.array([-(2**31), -(2**30), 0, 2**30, 2**8], "<i4").tobytes(), [-1, -0.5, 0, 0.5, 2.0**-23]),
        (32, 3, np.array([-1, -0.5, 0, 0.5, 1], "<f4").tobytes(), [-1, -0.5, 0, 0.5, 1]),
        (64, 3, np.array([-1, -0.5, 0, 0.5, 1], "<f8").tobytes(), [-1, -0.5, 0, 0.5, 1]),
        # ITU-T G.711, table 2: decoder output values 8031, 4191, 0 and 0 of 8192, in steps of 4 in 16 bits
        (8, 7, bytes([0x00, 0x0F, 0x7F, 0xFF, 0x80]), [-32124 / 32768, -16764 / 32768, 0, 0, 32124 / 32768]),
        # the same, table 1: 4032 and 1 of 4096
        (8, 6, bytes([0x2A, 0xAA, 0xD5, 0x55]), [-32256 / 32768, 32256 / 32768, 8 / 32768, -8 / 32768]),
    ],
    ids=["8 bit", "16 bit", "24 bit", "32 bit", "float", "double", "mu-law", "A-law"],
)
def test_samples_written_by_hand_are_read_exactly(bits: int, tag: int, body: bytes, expected: list[float]) -> None:
    assert decoded(wav(body, bits=bits, tag=tag)).samples.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000], ids=hex)
def test_a_wav_file_written_into_a_pipe_announces_a_length_that_nobody_knew(size: int) -> None:
    body = (sounds.tone(RATE) * 32767).astype("<i2").tobytes()
    assert len(decoded(wav(body, size=size)).samples) == RATE


def test_channels_are_averaged() -> None:
    one = sounds.tone(RATE)
    assert np.abs(decoded(written(np.stack([one, -one], axis=1), RATE, "WAV", "FLOAT")).samples).max() == 0
    clip = decoded(written(np.stack([one, 0 * one, one, 0 * one], axis=1), RATE, "WAV", "FLOAT"))
    assert clip.channels == 4
    np.testing.assert_allclose(clip.samples, one / 2, atol=1e-7)


@pytest.mark.parametrize(("form", "coding"), [("WAV", "FLOAT"), ("OGG", "VORBIS")])
def test_what_is_too_loud_is_cut_and_never_changes_its_sign(form: str, coding: str) -> None:
    square = 1.5 * np.sign(np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE + 0.01)).astype(np.float32)
    samples = decoded(written(square, RATE, form, coding)).samples
    assert np.abs(samples).max() == 1.0
    inside = slice(RATE // 200 + 20, RATE // 100 - 20)  # the second half wave: negative throughout
    assert (samples[inside] < -0.9).all()
    assert np.abs(decoded(written(square, 2 * RATE, form, coding)).samples).max() <= 1.0  # the resampler's overshoot


def test_silence_stays_silent() -> None:
    for form, coding in (("WAV", "PCM_16"), ("FLAC", "PCM_16")):
        assert not decoded(written(np.zeros(48_000), 48_000, form, coding)).samples.any()


def test_a_steady_level_stays_where_it_is() -> None:
    samples = decoded(written(np.full(48_000, 0.25, np.float32), 48_000, "WAV", "FLOAT")).samples
    np.testing.assert_allclose(samples[1000:-1000], 0.25, atol=1e-4)


def test_one_sample_is_a_recording() -> None:
    assert decoded(written(np.array([0.5]), RATE, "WAV", "FLOAT")).samples.tolist() == [0.5]


@pytest.mark.parametrize("before", [0, 200, 70_000], ids="{} bytes of ID3".format)
@pytest.mark.parametrize("after", [b"", b"TAG" + bytes(125)], ids=["", "ID3v1"])
def test_tags_of_an_mp3_file_do_not_move_its_sound(before: int, after: bytes) -> None:
    size = bytes(before >> 7 * place & 127 for place in (3, 2, 1, 0))
    tag = b"ID3\4\0\0" + size + bytes(before) if before else b""
    samples = decoded(tag + written(sounds.burst(48_000), 48_000, "MP3") + after).samples
    assert len(samples) == RATE
    assert sounds.onset_s(samples, RATE) == pytest.approx(sounds.BURST_S, abs=0.003)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_an_mp3_file_without_a_tag_is_read_to_its_end(rate: int) -> None:
    data = written(sounds.burst(rate, 3.0), rate, "MP3")
    tag = mp3.header(data, 0)
    assert tag is not None
    assert b"Xing" in data[: tag.size] or b"Info" in data[: tag.size]
    samples = decoded(data[tag.size :]).samples
    assert 3.0 <= len(samples) / RATE < 3.2  # how much padding there is at the end, only the tag said
    assert sounds.onset_s(samples, RATE) == pytest.approx(sounds.BURST_S, abs=0.003)


def test_the_end_of_an_mp3_file_may_be_missing() -> None:
    data = written(sounds.burst(48_000), 48_000, "MP3")
    samples = decoded(data[: len(data) * 3 // 4]).samples
    assert 0.6 * RATE < len(samples) < 0.9 * RATE
    assert sounds.onset_s(samples, RATE) == pytest.approx(sounds.BURST_S, abs=0.003)


def test_a_written_wav_file_is_what_the_standard_library_reads() -> None:
    with wave.open(io.BytesIO(audio.encode_wav(np.array([-1, 0, 0.5, 1, 2]), 8_000))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8_000, 1, 2)
        assert np.frombuffer(file.readframes(9), "<i2").tolist() == [-32768, 0, 16384, 32767, 32767]


def test_what_is_written_is_read_again() -> None:
    samples = sounds.tone(RATE)
    np.testing.assert_allclose(decoded(audio.encode_wav(samples, RATE)).samples, samples, atol=2**-16)


def test_pieces_of_a_microphone_are_signed_little_endian_samples() -> None:
    assert audio.pcm16(b"\x00\x80\x00\x40\x01\x00").tolist() == [-1, 0.5, 2**-15]
    with pytest.raises(ValueError, match="size"):
        audio.pcm16(b"\x00\x80\x00")


@pytest.mark.parametrize("name", FORMS)
def test_every_format_is_known_by_its_first_bytes(name: str) -> None:
    form, coding, _, rates = FORMS[name]
    found = audio.sniff(written(sounds.tone(rates[0]), rates[0], form, coding))
    assert found in TAKEN
    assert found in name


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"%PDF-1.7", "a PDF document"),
        (b"RIFF\0\0\0\0AVI LIST", "a RIFF file of type b'AVI ', not WAVE"),
        (b"FORM\0\0\0\0AIFF", "an AIFF recording"),
        (b"ID3\4" + bytes(5) + b"\x0a" + bytes(10) + b"no sound", "an ID3 tag without MP3 or AAC sound behind it"),
        (b"OggS" + bytes(22) + b"\1\x10\x80theora" + bytes(9), "an Ogg file whose first stream is neither"),
        (b'{"a": 1}', "JSON text"),
        (b"\x00\x00\x00\x1cftypavif", "an AVIF picture"),
        (b"\xff\xfb\x90\x00" + bytes(900), "unknown data beginning with bytes ff fb 90 00"),  # one frame, then none
    ],
    ids=["PNG", "PDF", "AVI", "AIFF", "ID3", "Theora", "JSON", "AVIF", "one MP3 header"],
)
def test_a_file_of_another_kind_is_named_in_the_error(data: bytes, what: str) -> None:
    with pytest.raises(UnsupportedMedia) as caught:
        decoded(data)
    assert what in caught.value.detail
    assert "WAV, FLAC, Ogg Opus, Ogg Vorbis or MP3" in caught.value.detail
    assert caught.value.subject == "file[0]"


def test_a_coding_that_is_not_taken_is_named_in_the_error() -> None:
    with pytest.raises(UnsupportedMedia, match=r"file\[0\]: is WAV with IMA_ADPCM, it must be PCM, float"):
        decoded(written(sounds.tone(RATE), RATE, "WAV", "IMA_ADPCM"))


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedMedia) as caught:
        decoded(b"\x1aE\xdf\xa3" + bytes(100))
    assert "is WebM, which needs the extra media, and av is not installed on this server: pip install av" in (
        caught.value.detail
    )


def test_a_server_without_sound_loads_no_library_of_sound() -> None:
    source = (
        "import sys, app.main, app.codecs.audio\n"
        "print(sorted({'soundfile', '_soundfile', 'soxr', 'av', 'cffi'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["Ogg Opus", "Ogg Vorbis"])
def test_every_link_of_a_chained_ogg_file_is_heard(name: str) -> None:
    form, coding, tolerance, _ = FORMS[name]
    whole = decoded(b"".join(written(sounds.tone(48_000, s), 48_000, form, coding) for s in (1.0, 0.5, 2.0)))
    assert whole.duration_s == 3.5
    for start_s, end_s in ((0.0, 1.0), (1.0, 1.5), (1.5, 3.5)):
        link = whole.samples[round(start_s * RATE) : round(end_s * RATE)]
        assert sounds.frequency(link, RATE) == pytest.approx(sounds.TONE_HZ, abs=0.5)
        assert abs(sounds.decibels(link)) < tolerance


def test_links_of_an_ogg_file_at_different_rates_are_refused() -> None:
    links = [written(sounds.tone(rate), rate, "OGG", "OPUS") for rate in (16_000, 48_000)]
    with pytest.raises(Unprocessable, match="16000 samples a second and 1 channel"):
        decoded(b"".join(links))


def test_more_links_than_any_radio_sends_are_refused_before_they_are_decoded() -> None:
    link = written(sounds.tone(16_000, 0.001), 16_000, "OGG", "OPUS")
    with pytest.raises(Unprocessable, match=f"more than {containers.MAX_LINKS} links"):
        decoded(link * (containers.MAX_LINKS + 1))


@pytest.mark.parametrize("name", ["sentence.opus", "stop.opus"])
def test_opus_files_of_others_begin_and_end_where_they_say(name: str) -> None:
    # Read on from where libsndfile opens them, these are 6.5 ms late, and their last 6.5 ms are missing.
    data = (Path(__file__).parents[3] / "docs/examples" / name).read_bytes()
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(decoded(data).samples, samples)
