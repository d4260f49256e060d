"""Tables by name, or any CSV file: `load("iris")`, `load("grades.csv", target_column="grade")`."""

from __future__ import annotations

import os
from pathlib import Path

from training.data import csv_table, scikit_learn_tables, synthetic_tables
from training.data.base import DataError
from training.data.csv_table import Task
from training.data.csv_values import AS_WRITTEN, Reading
from training.data.table import TableDataset

__all__ = ["available", "is_table", "load"]

_SOURCES = {**synthetic_tables.SOURCES, **scikit_learn_tables.SOURCES}


def is_table(spec: str) -> bool:
    """Whether `spec` names a table, or a file that may be one; a folder and other names do not."""
    return spec in _SOURCES or Path(spec).is_file() or spec.lower().endswith((".csv", ".tsv"))


def load(
    spec: str, *, target_column: str | None = None, task: Task | None = None, reading: Reading = AS_WRITTEN
) -> TableDataset:
    """The table of that name, or in the CSV file at that path.

    Args:
        spec: a name that `available()` lists, or a path; `./iris` is the path where both would fit.
        target_column: the column to predict, `task` what to do with it, and `reading` how cells are read that leave
            open what they mean: for files only.

    Raises: DataError.
    """
    make = _SOURCES.get(spec)
    if make is None:
        if not os.path.lexists(spec):
            raise DataError(f"{spec}: no such file, and no table of that name; there are {', '.join(_SOURCES)}")
        return csv_table.load(spec, target_column=target_column, task=task, reading=reading)
    dataset = make()
    if target_column not in (None, dataset.target_column):
        raise DataError(
            f"{spec}: predicts '{dataset.target_column}', not '{target_column}'; --target is for files of your own"
        )
    if task not in (None, dataset.task):
        raise DataError(f"{spec}: is there to {dataset.task}; --task is for files of your own")
    return dataset


def available() -> list[tuple[str, str, str]]:
    """(name, description, where it comes from); last, how to name a file."""
    rows = [(name, _first_line(make.__doc__), "drawn from a rule") for name, make in synthetic_tables.SOURCES.items()]
    rows += [(name, _first_line(make.__doc__), "in scikit-learn") for name, make in scikit_learn_tables.SOURCES.items()]
    return [*rows, ("table.csv", "your table: a line of names, then rows; --target names the column", "yours")]


def _first_line(text: str | None) -> str:
    return (text or "").splitlines()[0].rstrip(".")
