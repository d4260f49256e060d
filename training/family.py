"""What a model family is to the commands: three methods, of which publishing, `evaluate` and `report` are made."""

from __future__ import annotations

import argparse
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from app.core.manifest import Manifest, Measure
from training.data import dataset_of, tables
from training.data.base import DataError, ImageDataset
from training.data.table import TableDataset
from training.options import reading_of

D = TypeVar("D")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures measured on a published folder's ONNX files alone, and in what words they are published.

    Attributes:
        rows: how many, and `of` what: "rows of MNIST". `rows_of`: of single figures, where they differ.
        figures: by the names that the manifest's measures have. `spreads` and `units` of those that have one.
        protocols: how each was measured. `how` is added to all of them in the manifest, then `remarks` to some.
        claimed: whether the manifest's figures are of these very rows, so that they must agree.
        shown: what only the report shows, for a JSON file.
        details: what the family's `write_report` can use again, as it would have to measure it.
    """

    rows: int
    of: str
    figures: Mapping[str, float]
    protocols: Mapping[str, str]
    claimed: bool
    rows_of: Mapping[str, int] = field(default_factory=dict)
    spreads: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    how: str = ""
    remarks: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)
    details: Any = None

    def measures(self, *, seeds: Sequence[int], goals: Mapping[str, float]) -> tuple[Measure, ...]:
        """The manifest's field `quality`."""
        return tuple(
            Measure(
                name=name,
                value=value,
                spread=self.spreads.get(name),
                unit=self.units.get(name, ""),
                protocol=self.protocols[name] + self.how + self.remarks.get(name, ""),
                rows=self.rows_of.get(name, self.rows),
                seeds=tuple(seeds),
                goal=goals.get(name),
            )
            for name, value in self.figures.items()
        )


class Family(ABC, Generic[D]):
    """A family's published models, `D` being what its data set is loaded as."""

    @abstractmethod
    def load_data(self, manifest: Manifest, data: str | None) -> D:
        """The data set of that name or path, or the one that the model was made from. Raises: DataError."""

    @abstractmethod
    def measure(self, folder: Path, manifest: Manifest, dataset: D, *, data: str | None, rows: int | None) -> Measured:
        """What the manifest claims, measured on `dataset`.

        Args:
            dataset: of `load_data` for the same `data`.
            data: where it is not None, the data set is another than the model's own, and all of its rows are new.
            rows: measure on the first ones only.

        Raises: DataError, LoadRefused.
        """

    @abstractmethod
    def write_report(self, folder: Path, manifest: Manifest, dataset: D, measured: Measured | None = None) -> None:
        """(Re)make `folder/report/index.html` from the ONNX files, what is kept beside it, and the data set.

        Args:
            measured: of `measure`, where it has just been done.

        Raises: DataError, LoadRefused.
        """


class PictureFamily(Family[ImageDataset]):
    """One whose data set are labelled pictures."""

    def load_data(self, manifest: Manifest, data: str | None) -> ImageDataset:
        return dataset_of(manifest, data)


def options_of(manifest: Manifest, add_options: Callable[[argparse.ArgumentParser], None]) -> argparse.Namespace:
    """A command's own options as they were when it made the model."""
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    return parser.parse_known_args(shlex.split(manifest.made.command)[4:])[0]


def table_of(manifest: Manifest, options: argparse.Namespace) -> TableDataset:
    """The table that the model was made from, as its `options_of` name it.

    Raises: DataError, also where it is no longer that table.
    """
    dataset = tables.load(
        options.data, target_column=options.target, task=getattr(options, "task", None), reading=reading_of(options)
    )
    if dataset.table != manifest.table or dataset.labels != manifest.labels:
        raise DataError(f"{options.data}: is no longer the table that {manifest.name} was made from")
    return dataset


class FamilyByModel(Family[Any]):
    """Families that share a command; `choose` says which one a published model is of."""

    def __init__(self, choose: Callable[[Manifest], Family[Any]]) -> None:
        self.choose = choose

    def load_data(self, manifest: Manifest, data: str | None) -> Any:
        return self.choose(manifest).load_data(manifest, data)

    def measure(
        self, folder: Path, manifest: Manifest, dataset: Any, *, data: str | None, rows: int | None
    ) -> Measured:
        return self.choose(manifest).measure(folder, manifest, dataset, data=data, rows=rows)

    def write_report(self, folder: Path, manifest: Manifest, dataset: Any, measured: Measured | None = None) -> None:
        self.choose(manifest).write_report(folder, manifest, dataset, measured)


def evaluate(
    family: Family[Any], folder: Path, manifest: Manifest, *, data: str | None = None, rows: int | None = None
) -> Measured:
    """Measure the folder again; on other data, or fewer rows of it, where asked. Raises: DataError, LoadRefused."""
    return family.measure(folder, manifest, family.load_data(manifest, data), data=data, rows=rows)


def report(family: Family[Any], folder: Path, manifest: Manifest, *, data: str | None = None) -> None:
    """Write `folder/report/` again from what lies in the folder and the data set. Raises: DataError, LoadRefused."""
    family.write_report(folder, manifest, family.load_data(manifest, data))
