"""The runs of one request, and what they took."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.core.errors import InferenceFailed
from app.core.manifest import Tensors
from app.core.sampling.samplers import Sampler
from app.engine.model import Model
from app.engine.queue import OnStep
from app.web.context import Context
from app.web.timing import Took

DENOISER, ESTIMATOR = "denoiser", "estimator"
SMALL_VALUES: Final = 1 << 16  # of floats; more are worked on in a thread

T = TypeVar("T")
Rows = NDArray[np.float32]
"""(n, ...), as the graphs take pictures."""


@dataclass(slots=True)
class Runs:
    """Of a model that has a denoiser and an estimator.

    Attributes:
        deadline: `time.monotonic()` after which the answer is of no use.
    """

    model: Model
    context: Context
    deadline: float
    priority: int
    took: Took = field(default_factory=Took)

    async def estimate(self, x: Rows) -> NDArray[np.float32]:
        """The noise of each row: (n,).

        Raises:
            Busy, Unavailable, TooLate, InferenceFailed: of the run; or it gave no numbers.
        """
        return self._finite("sigma", await self._run(ESTIMATOR, {"x": x}))

    async def denoise(self, x: Rows, sigma: NDArray[np.float32]) -> Rows:
        """The posterior mean of each row: as x.

        Raises:
            as `estimate`.
        """
        return self._finite("denoised", await self._run(DENOISER, {"x": x, "sigma": sigma, **self.label(len(x))}))

    async def sample(self, sampler: Sampler, on_step: OnStep | None) -> Tensors:
        """A sampler on the denoiser to its end: its result.

        Raises:
            as `estimate`.
        """
        return self.took.add(
            await self.model.sample(DENOISER, sampler, deadline=self.deadline, priority=self.priority, on_step=on_step)
        )

    def label(self, rows: int) -> Tensors:
        """What the denoiser is told where it takes labels and none is known: the place after the last."""
        labels = self.model.manifest.labels
        return {"label": np.full(rows, len(labels), np.int64)} if labels else {}

    async def aside(self, work: Callable[[], T], values: int) -> T:
        """What works on that many floats, in a thread where they are many."""
        if values <= SMALL_VALUES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self.context.pool, work)

    async def _run(self, graph: str, tensors: Tensors) -> Tensors:
        return self.took.add(await self.model.run(graph, tensors, deadline=self.deadline, priority=self.priority))

    def _finite(self, name: str, outputs: Tensors) -> NDArray[np.float32]:
        values: NDArray[np.float32] = outputs[name]
        if not np.isfinite(values).all():
            raise InferenceFailed(f"model '{self.model.name}' gave values of '{name}' that are not numbers")
        return values
