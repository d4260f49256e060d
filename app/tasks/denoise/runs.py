"""The runs of one request on a denoiser and on an estimator of the noise level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.core.errors import InferenceFailed
from app.core.manifest import Tensors
from app.web.call import Call

DENOISER, ESTIMATOR = "denoiser", "estimator"
SMALL_VALUES: Final = 1 << 16  # of floats; more are worked on in a thread

T = TypeVar("T")
Rows = NDArray[np.float32]
"""(n, ...), as the graphs take pictures."""


async def estimate(call: Call, x: Rows) -> NDArray[np.float32]:
    """The noise of each row: (n,).

    Raises:
        Busy, Unavailable, TooLate, InferenceFailed: of the run; or it gave values that are not finite.
    """
    return _finite(call, "sigma", await call.run(ESTIMATOR, {"x": x}))


async def denoise_rows(call: Call, x: Rows, sigma: NDArray[np.float32]) -> Rows:
    """The posterior mean of each row: as x.

    Raises:
        as `estimate`.
    """
    outputs = await call.run(DENOISER, {"x": x, "sigma": sigma, **no_label(call, len(x))})
    return _finite(call, "denoised", outputs)


def no_label(call: Call, rows: int) -> Tensors:
    """The label input of a denoiser that takes labels, where none is known: the index after the last."""
    labels = call.model.manifest.labels
    return {"label": np.full(rows, len(labels), np.int64)} if labels else {}


async def work_on(call: Call, work: Callable[[], T], values: int) -> T:
    """`work()` on so many floats, in a thread where they are many."""
    return await call.offload(work, size=values, inline=values <= SMALL_VALUES, owed=True)


def _finite(call: Call, name: str, outputs: Tensors) -> NDArray[np.float32]:
    values: NDArray[np.float32] = outputs[name]
    if not np.isfinite(values).all():
        raise InferenceFailed(f"model '{call.model.name}' gave values of '{name}' that are not numbers")
    return values
