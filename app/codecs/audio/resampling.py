"""One channel at another rate, block by block, in constant memory beside its result."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Resampler:
    """Samples (N,) at `source_rate` become round(N * rate / source_rate) at `rate`, by soxr in quality HQ.

    Its filter's delay is taken out, so that an impulse stays where it was, to within one sample.
    """

    def __init__(self, source_rate: int, rate: int) -> None:
        self._ratio = rate / source_rate
        self._taken = 0
        self._made: list[NDArray[np.float32]] = []
        self._stream: Any = None
        if source_rate != rate:
            import soxr  # here: 2 MB that a server without sound has no use for

            self._stream = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")

    def take(self, block: NDArray[np.float32]) -> None:
        """The next samples (n,)."""
        self._taken += len(block)
        self._made.append(block if self._stream is None else self._stream.resample_chunk(block))

    def finish(self) -> NDArray[np.float32]:
        """All samples at the new rate; the filter overshoots a little, so they are cut to [-1, 1]."""
        if self._stream is not None:
            self._made.append(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        made = np.concatenate(self._made) if self._made else np.zeros(0, np.float32)
        length = round(self._taken * self._ratio)
        if len(made) != length:  # soxr rounds halves the other way
            made = np.pad(made[:length], (0, max(0, length - len(made))))
        return np.clip(made, -1.0, 1.0, out=made)
