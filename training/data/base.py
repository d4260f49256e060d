"""What every data set becomes: whole uint8 tensors in three parts, and one error for all that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.manifest import DataSource, DigitPicture, PhotoPicture

RowNumbers = NDArray[np.int64]
Rows = tuple[torch.Tensor, torch.Tensor]  # x (N, ...) and y (N,)


class DataError(Exception):
    """A data set that cannot be had or cannot be trained on: one line that says where and why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Rows as whole tensors. `train` is trained on; `test` is looked at once, at the end."""

    name: str  # fits a manifest's name
    title: str
    labels: tuple[str, ...]
    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    source: str
    licence: str
    note: str = ""

    def parts(self) -> tuple[Rows, ...]:
        return (self.train_x, self.train_y), (self.test_x, self.test_y)

    def everything(self) -> Rows:
        """All rows, train first and test last: for a model that was trained on other data."""
        x, y = zip(*self.parts(), strict=True)
        return torch.cat(x), torch.cat(y)

    @property
    def data_source(self) -> DataSource:
        """The manifest's field `data`."""
        rows = [len(y) for _, y in self.parts()]
        return DataSource(
            name=self.title,
            source=self.source,
            licence=self.licence,
            rows_train=rows[0],
            rows_held_out=sum(rows[1:-1]),
            rows_test=rows[-1],
            note=self.note,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDataset(Dataset):
    """Labelled pictures.

    `held` comes from the training rows too and serves selection and calibration. Which row is where depends on the
    data set alone, never on a training's seed. `*_x` is uint8 (N, H, W, C), 0 black to 255 white; `*_y` is int64 (N,),
    an index into `labels`.
    """

    picture: DigitPicture | PhotoPicture
    held_x: torch.Tensor
    held_y: torch.Tensor

    @property
    def classes(self) -> int:
        return len(self.labels)

    def parts(self) -> tuple[Rows, ...]:
        return (self.train_x, self.train_y), (self.held_x, self.held_y), (self.test_x, self.test_y)


def shuffled(rows: int, *, seed: int) -> RowNumbers:
    """The numbers 0 to rows - 1 in an order that `seed` fixes for good, int64 (rows,).

    From the bit generator's raw stream, the one thing that NumPy promises never to change (NEP 19).
    """
    return np.argsort(np.random.PCG64(seed).random_raw(rows), kind="stable").astype(np.int64)


def stratified(
    y: NDArray[np.int64], counts: Sequence[int], *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers (kept, taken), both ascending; `counts[k]` rows of class k are taken."""
    order = shuffled(len(y), seed=seed)
    taken = np.concatenate([order[y[order] == k][:count] for k, count in enumerate(counts)])
    return np.setdiff1d(np.arange(len(y)), taken), np.sort(taken)


def tensor(array: NDArray[Any]) -> torch.Tensor:
    """A tensor on contiguous, writable memory: the array's own where it is that."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def data_folder() -> Path:
    """Where data sets lie: $LECTERN_DATA, or `data/` in the current directory."""
    return Path(os.environ.get("LECTERN_DATA") or "data")


def cache_folder() -> Path:
    """Where decoded copies go, the data folder being perhaps read-only: $XDG_CACHE_HOME/lectern or ~/.cache/lectern."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lectern"
