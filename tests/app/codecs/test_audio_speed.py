"""What decoding costs, beside the libraries alone (`make proofs`)."""

from __future__ import annotations

import io
from collections.abc import Callable
from time import process_time

import pytest
import soundfile
import soxr

from app.codecs.audio.files import decode
from tests.app.codecs import sounds
from tests.app.codecs.sounds import RATE, SOUND, by_pyav, written

SECONDS = 3.0


def best_ms(work: Callable[[], object], times: int = 30) -> float:
    """The least processor time of many calls."""
    taken = []
    for _ in range(times):
        began = process_time()
        work()
        taken.append(process_time() - began)
    return 1000 * min(taken)


def by_libraries(data: bytes) -> object:
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    return soxr.resample(samples, rate, RATE)


@pytest.mark.proof
@pytest.mark.parametrize(
    ("form", "coding", "most"),
    [("OGG", "OPUS", 1.1), ("OGG", "VORBIS", 1.4), ("FLAC", "PCM_16", 1.5), ("MP3", "MPEG_LAYER_III", 1.6)],
)
def test_a_recording_costs_what_its_library_costs(form: str, coding: str, most: float) -> None:
    data = written(sounds.rising(48_000, SECONDS), 48_000, form, coding)
    ours = best_ms(lambda: decode(data, SOUND, subject="file[0]", max_s=30))
    bare = best_ms(lambda: by_libraries(data))
    print(f"\n{SECONDS:g} s of {form} {coding}: {ours:.1f} ms, soundfile.read and soxr.resample alone {bare:.1f} ms")
    assert ours < most * bare


@pytest.mark.proof
def test_what_a_browser_records_costs_what_libopus_costs() -> None:
    av = pytest.importorskip("av", reason="the extra media is not installed")
    data = by_pyav("webm", "libopus", 48_000, SECONDS, signal=sounds.rising, bit_rate=32_000)

    def bare() -> int:
        with av.open(io.BytesIO(data), format="matroska") as file:
            stream = file.streams.audio[0]
            decoder = av.CodecContext.create("libopus", "r")
            decoder.extradata = stream.codec_context.extradata
            return sum(frame.samples for packet in file.demux(stream) for frame in decoder.decode(packet))

    ours, alone = best_ms(lambda: decode(data, SOUND, subject="file[0]", max_s=30)), best_ms(bare)
    print(f"\n{SECONDS:g} s of WebM/Opus: {ours:.1f} ms, PyAV's decoder alone {alone:.1f} ms")
    assert ours < 2.5 * alone
