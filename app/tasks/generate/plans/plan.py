"""What a plan is: all that there is to know of a request before its first run, and how to make its pictures."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Tensors
from app.core.sampling.samplers import Sampler
from app.engine.model import Model
from app.engine.queue import OnStep
from app.tasks.generate.schema import MAX_SEED
from app.web.context import Context
from app.web.disconnect import until
from app.web.request.model_choice import check_within
from app.web.timing import Took

T = TypeVar("T")
Images = NDArray[np.float32]
"""(N, H, W, C), from 0 to 1."""


@dataclass(slots=True)
class Runs:
    """The runs of one request."""

    model: Model
    context: Context
    deadline: float
    priority: int
    on_step: OnStep | None = None
    took: Took = field(default_factory=Took)

    async def run(self, graph: str, tensors: Tensors) -> Tensors:
        """One run of a graph: its outputs."""
        answer = await self.model.run(graph, tensors, deadline=self.deadline, priority=self.priority)
        return self.took.add(answer)

    async def sample(self, graph: str, sampler: Sampler) -> Tensors:
        """A sampler on a graph to its end: its result."""
        answer = await self.model.sample(
            graph, sampler, deadline=self.deadline, priority=self.priority, on_step=self.on_step
        )
        return self.took.add(answer)

    async def aside(self, work: Callable[[], T]) -> T:
        """What would hold up the event loop, in a thread; counted as decoding.

        Raises:
            TooLate: it was not done by the deadline.
        """
        began = perf_counter()
        async with until(self.deadline, "pictures were being read"):
            done = await asyncio.get_running_loop().run_in_executor(self.context.pool, work)
        self.took.decode_s += perf_counter() - began
        return done


@dataclass(frozen=True, slots=True)
class Made:
    """Pictures, and what the answer says of each beside it."""

    images: Images
    each: list[dict[str, Any]]


class Plan(Protocol):
    """How many pictures, from what."""

    @property
    def n(self) -> int:
        """Pictures."""

    @property
    def told(self) -> dict[str, Any]:
        """What the answer says besides the pictures."""

    @property
    def columns(self) -> int | None:
        """Of a grid of them; None for near square."""

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs that are run; time is written down for the last."""

    @property
    def evaluations(self) -> int:
        """Runs that are told of one by one."""

    async def make(self, runs: Runs) -> Made:
        """Make them.

        Raises:
            ClientError: pictures of the request that cannot be read.
            Busy, Unavailable, TooLate, InferenceFailed: of the runs.
        """

    def preview(self, outputs: Tensors) -> Images:
        """What the pictures look like so far, by the outputs of a run that was told of."""


def seed_of(asked: Mapping[str, Any]) -> int:
    """The seed of the request, or one that is chosen for it.

    Raises:
        Unprocessable: out of bounds.
    """
    seed: int = asked.get("seed", -1)
    if "seed" not in asked:
        seed = secrets.randbelow(2**32)
    check_within("seed", seed, 0, MAX_SEED)
    return seed
