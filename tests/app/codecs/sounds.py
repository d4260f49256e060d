"""Small recordings of every format, and what a listener measures of them."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from app.codecs import audio
from app.core.manifest.sound import Sound

RATE = 16_000
SOUND = Sound(rate=RATE, max_s=60)
TONE_HZ = 440.0
LEVEL = 0.3
BURST_S = 0.5

# (name, soundfile's format and subtype, tolerance of the level in dB, rates)
RATES = (8_000, 16_000, 44_100, 48_000)
OPUS_RATES = (8_000, 16_000, 24_000, 48_000)
MP3_RATES = (8_000, 22_050, 44_100, 48_000)
FORMS: dict[str, tuple[str, str, float, tuple[int, ...]]] = {
    "WAV of 8 bit": ("WAV", "PCM_U8", 0.1, RATES),
    "WAV of 16 bit": ("WAV", "PCM_16", 0.01, RATES),
    "WAV of 24 bit": ("WAV", "PCM_24", 0.01, RATES),
    "WAV of 32 bit": ("WAV", "PCM_32", 0.01, RATES),
    "WAV of floats": ("WAV", "FLOAT", 0.01, RATES),
    "WAV of doubles": ("WAV", "DOUBLE", 0.01, RATES),
    "WAV in mu-law": ("WAV", "ULAW", 0.1, RATES),
    "WAV in A-law": ("WAV", "ALAW", 0.1, RATES),
    "extensible WAV": ("WAVEX", "PCM_24", 0.01, RATES),
    "FLAC of 16 bit": ("FLAC", "PCM_16", 0.01, RATES),
    "FLAC of 24 bit": ("FLAC", "PCM_24", 0.01, RATES),
    "Ogg Opus": ("OGG", "OPUS", 0.5, OPUS_RATES),
    "Ogg Vorbis": ("OGG", "VORBIS", 0.5, RATES),
    "MP3": ("MP3", "MPEG_LAYER_III", 0.5, MP3_RATES),
}


def tone(rate: int, seconds: float = 1.0) -> NDArray[np.float32]:
    t = np.arange(round(rate * seconds)) / rate
    return (LEVEL * np.sin(2 * np.pi * TONE_HZ * t)).astype(np.float32)


def burst(rate: int, seconds: float = 1.0) -> NDArray[np.float32]:
    """Near silence, and 20 ms of a loud tone from `BURST_S` on."""
    t = np.arange(round(rate * seconds)) / rate
    loud = (t >= BURST_S) & (t < BURST_S + 0.02)
    quiet = 0.002 * np.sin(2 * np.pi * 300 * t)
    return np.where(loud, 0.8 * np.sin(2 * np.pi * 1000 * (t - BURST_S)), quiet).astype(np.float32)


def written(samples: NDArray[Any], rate: int, form: str = "WAV", coding: str | None = None) -> bytes:
    """(n,) or (n, channels) as a file, by libsndfile."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=form, subtype=coding)
    return out.getvalue()


def wav(
    body: bytes, *, rate: int = RATE, channels: int = 1, bits: int = 16, tag: int = 1, size: int | None = None
) -> bytes:
    """A WAV file written by hand; `size` is what its data chunk announces."""
    align = channels * bits // 8
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits)
    data = struct.pack("<4sI", b"data", len(body) if size is None else size) + body
    return b"RIFF" + struct.pack("<I", 4 + len(fmt) + len(data)) + b"WAVE" + fmt + data


def rising(rate: int, seconds: float = 1.0) -> NDArray[np.float32]:
    """From 100 to 7,000 Hz."""
    t = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * (100 * t + 6900 * t**2 / (2 * seconds)))).astype(np.float32)


@lru_cache(maxsize=64)
def by_pyav(
    container: str,
    codec: str,
    rate: int = 48_000,
    seconds: float = 1.0,
    *,
    signal: Callable[[int, float], NDArray[np.float32]] = burst,
    bit_rate: int | None = None,
    **options: str,
) -> bytes:
    """A signal as a file, by PyAV; `options` are the container's."""
    av = pytest.importorskip("av", reason="the extra media is not installed")
    samples = signal(rate, seconds)
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.layout = "mono"
        if bit_rate:
            stream.bit_rate = bit_rate
        context = stream.codec_context
        whole = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        whole.sample_rate, whole.pts, whole.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(
            format=context.format or "fltp", layout="mono", rate=rate, frame_size=context.frame_size or 1024
        )
        for frame in [*resampler.resample(whole), *resampler.resample(None), None]:
            file.mux(stream.encode(frame))
    return out.getvalue()


def decoded(data: bytes, *, rate: int = RATE, max_s: float = 30) -> audio.Clip:
    return audio.decode(data, Sound(rate=rate, max_s=60), subject="file[0]", max_s=max_s)


def frequency(samples: NDArray[np.float32], rate: int) -> float:
    """Of the strongest tone in the middle of the samples, in Hz, to within a tenth of one."""
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    size = 1 << 17
    return float(np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle)), size))) * rate / size)


def decibels(samples: NDArray[np.float32]) -> float:
    """The level in the middle of the samples, beside that of `tone`."""
    middle = samples[len(samples) // 4 : 3 * len(samples) // 4]
    return float(20 * np.log10(np.sqrt(np.mean(middle**2)) / (LEVEL / np.sqrt(2))))


def onset_s(samples: NDArray[np.float32], rate: int) -> float:
    """When the burst is first louder than half."""
    return float(np.argmax(np.abs(samples) > 0.4) / rate)
