"""Samples without a codec: raw pieces of a microphone in, WAV files out."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray


def pcm16(data: bytes) -> NDArray[np.float32]:
    """Signed 16-bit little-endian samples of one channel as float32 (N,) in [-1, 1).

    Raises:
        ValueError: an odd number of bytes.
    """
    return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)


def encode_wav(samples: NDArray[np.floating], rate: int) -> bytes:
    """A WAV file (16-bit PCM, one channel) of samples (N,) in [-1, 1] at `rate`; louder ones are cut."""
    scaled = np.clip(np.round(np.asarray(samples, np.float64) * 32768), -32768, 32767).astype("<i2").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + len(scaled), b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", len(scaled)),
    )
    return head + scaled
