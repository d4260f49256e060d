"""One channel of a microphone at another rate, piece by piece as it comes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class LiveResampler:
    """Samples (n,) at `source_rate` as they come, at `rate`, by soxr in quality HQ; what its filter still needs comes
    with the next ones. All together are as `Resampler` makes them, to within one sample at the end."""

    def __init__(self, source_rate: int, rate: int) -> None:
        self._stream: Any = None
        if source_rate != rate:
            import soxr  # here: 2 MB that a server without sound has no use for

            self._stream = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")

    def take(self, samples: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """What is there of them now, cut to [-1, 1]; with the `last` ones all that is left."""
        if self._stream is None:
            return samples
        made: NDArray[np.float32] = self._stream.resample_chunk(samples, last=last)
        return np.clip(made, -1.0, 1.0)
