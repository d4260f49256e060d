"""What a model family is: what the one training loop asks of it, and what the command line does."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from training.family import Family


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


Stateful = nn.Module | Optimizer
Parts = Stateful | Sequence[Stateful] | Mapping[str, Stateful]


class Resumable:
    """The half of a `Recipe` that saves and loads: `parts` by the names that they have in a checkpoint.

    One with more to keep than networks and optimisers adds it to both `state` and `load_state`.
    """

    def parts(self) -> Mapping[str, Parts]:
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        return {name: _state(part) for name, part in self.parts().items()}

    def load_state(self, state: dict[str, Any]) -> None:
        for name, part in self.parts().items():
            _load(part, state[name])


def _state(part: Parts) -> Any:
    if isinstance(part, Mapping):
        return {name: one.state_dict() for name, one in part.items()}
    return [one.state_dict() for one in part] if isinstance(part, Sequence) else part.state_dict()


def _load(part: Parts, saved: Any) -> None:
    if isinstance(part, Mapping):
        for name, one in part.items():
            one.load_state_dict(saved[name])
    elif isinstance(part, Sequence):
        for one, own in zip(part, saved, strict=True):
            one.load_state_dict(own)
    else:
        part.load_state_dict(saved)


class Train(Protocol):
    def __call__(self, options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
        """Train and publish; None in the processes that only helped. Raises: DataError, PublishError, Interrupted."""
        ...


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of a family, from `COMMANDS` in `training/families/<family>/recipe.py`.

    `add_options` adds the flags of this command alone; those that all have are in `__main__`. `family` measures and
    shows what `train` published.
    """

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    train: Train
    family: Family[Any]
