"""A plan: all that is known of a request before its first run, and how to generate its pictures."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Tensors
from app.engine.queue import OnStep
from app.tasks.generate.schema import MAX_SEED
from app.web.call import Call
from app.web.request.model_choice import check_within

T = TypeVar("T")
Images = NDArray[np.float32]
"""(N, H, W, C), from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Generated:
    """Pictures, and what the answer says of each beside it."""

    images: Images
    each: list[dict[str, Any]]


class Plan(Protocol):
    """How many pictures, from what."""

    @property
    def n(self) -> int:
        """Pictures."""

    @property
    def details(self) -> dict[str, Any]:
        """What the answer says besides the pictures."""

    @property
    def columns(self) -> int | None:
        """Of a grid of them; None for near square."""

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs that are run; time is written down for the last."""

    @property
    def evaluations(self) -> int:
        """Runs that are reported one by one."""

    async def make(self, call: Call, on_step: OnStep | None = None) -> Generated:
        """Generate them.

        Raises:
            ClientError: pictures of the request that cannot be read.
            Busy, Unavailable, TooLate, InferenceFailed: of the runs.
        """

    def preview(self, outputs: Tensors) -> Images:
        """What the pictures look like so far, by the outputs of a run that was reported."""


def seed_of(options: Mapping[str, Any]) -> int:
    """The seed of the request, or one that is chosen for it.

    Raises:
        Unprocessable: out of bounds.
    """
    seed: int = options.get("seed", -1)
    if "seed" not in options:
        seed = secrets.randbelow(2**32)
    check_within("seed", seed, 0, MAX_SEED)
    return seed
