"""What the one training loop asks of a model family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's rows. Every process sees the whole batch, so that augmentation draws the same numbers however
    many there are, and trains on its `share` of it."""

    x: Tensor
    y: Tensor
    index: Tensor  # (B,) int64, row numbers in the training set
    share: slice
    generator: Generator  # seeded by (seed, epoch, step): a resumed run draws what an uninterrupted one would have
    epoch: int
    position: int  # steps taken before this one, over all epochs
    progress: float  # 0 at the first step of the run, towards 1 at the last


class Recipe(Protocol):
    """A model family in training. It owns its networks, its optimisers and their schedules."""

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One optimisation step; scalars to show."""
        ...

    def measure(self) -> dict[str, float]:
        """Figures on held-out rows, once per epoch."""
        ...

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, on the CPU or not, for `torch.save`."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...
