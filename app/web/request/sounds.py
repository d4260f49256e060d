"""Recordings of a request as a model's samples."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.audio import Clip, decode
from app.codecs.images.files import from_base64
from app.codecs.npy import decode_npy, npy_form
from app.core.errors import ClientError, TooLarge, invalid
from app.core.manifest import Sound, Tensors
from app.core.text import described
from app.web.request.payload import Payload

LEAST_S: Final = 0.25
"""Shorter recordings are filled up with silence: graphs with strides need a few samples. Their length is told."""
LOUDEST: Final = 2.0
"""Of numbers: resampling goes a little beyond 1, which is clipped; integers that were cast go thousands beyond."""


def recordings(payload: Payload, sound: Sound, *, max_rows: int, max_s: float) -> list[Clip]:
    """All recordings of a body, in their order.

    Args:
        sound: what the model takes.
        max_rows: recordings in one request.
        max_s: seconds of all of them together.

    Raises:
        UnsupportedMedia, Unprocessable, TooLarge: as the codecs.
    """
    if payload.rows is not None:
        return _rows(payload.rows, sound, max_rows, max_s)
    found: list[Clip] = []
    seconds = 0.0
    for subject, item in payload.items:
        file = from_base64(item, subject=subject, what="sound") if isinstance(item, str) else item
        if not isinstance(file, bytes):
            raise invalid(subject, expected="base64 of a sound file", got=described(item))
        found.append(decode(file, sound, subject=subject, max_s=max_s))
        seconds += found[-1].duration_s
        if seconds > max_s:  # here and not at the end: few bytes may be many seconds
            raise _too_long("sounds", f"{seconds:.1f} s or more together", max_s)
    return found


def as_row(samples: NDArray[np.float32], rate: int) -> Tensors:
    """One row of a graph that takes whole recordings: `sound` (1, samples), `length` (1,)."""
    length = len(samples)
    if (missing := round(LEAST_S * rate) - length) > 0:
        samples = np.pad(samples, (0, missing))
    return {"sound": samples[None], "length": np.array([length], np.int64)}


def _rows(data: bytes, sound: Sound, max_rows: int, max_s: float) -> list[Clip]:
    shape, _ = npy_form(data, subject="body")
    samples = shape[-1] if shape else 0
    if samples < 1 or len(shape) > 2:
        expected = f"(samples,) or (rows, samples), at {sound.rate} samples a second"
        raise invalid("body", expected=expected, got=f"shape {shape}", where="body:", verb="has", rule="expected")
    rows = shape[0] if len(shape) == 2 else 1
    if (seconds := rows * samples / sound.rate) > max_s:
        raise _too_long("body", f"{seconds:.1f} s at {sound.rate} samples a second", max_s)
    dtype = np.dtype(np.float32)
    values: NDArray[np.float32] = decode_npy(data, dtype=dtype, row_shape=(samples,), max_rows=max_rows, subject="body")
    if (loudest := float(np.abs(values).max())) > LOUDEST:
        raise invalid("body", expected="samples from -1 to 1", got=f"{loudest:g}", where="body:", verb="has")
    clipped = np.clip(values, -1, 1)
    return [Clip(row, sound.rate, samples / sound.rate, sound.rate, 1) for row in clipped]


def _too_long(subject: str, got: str, max_s: float) -> ClientError:
    detail = f"{subject}: {got}, the limit is {max_s:g} s of sound in one request"
    return invalid(subject, expected=f"at most {max_s:g} s of sound", got=got, detail=detail, error=TooLarge)
