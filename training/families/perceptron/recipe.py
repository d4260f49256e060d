"""The perceptron: one unit, its weights given or trained on a table; or one unit per class on bare pixels."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, get_args

from accelerate import Accelerator

from app.core.manifest import Manifest
from training.data import DataError, load, tables
from training.data.table import TableDataset
from training.families.perceptron.image_network import LinearClassifier, LinearHyperparameters
from training.families.perceptron.network import Activation
from training.families.perceptron.publish_given import GIVEN, check_own_rows, publish_given
from training.families.perceptron.publish_trained import measured, publish_unit, write_report
from training.families.perceptron.templates import weights
from training.family import Family, FamilyByModel, Measured, options_of, table_of
from training.image_classification import ImageClassifiers, train_classifier
from training.options import add_flags, add_reading, given, reading_of
from training.publish import name_model
from training.recipe import Command

GOALS: Final = {"mnist": {"accuracy": 0.927}}


def add_options(parser: argparse.ArgumentParser) -> None:
    one = parser.add_argument_group("one unit")
    one.add_argument(
        "--weights", type=_numbers, metavar="W,W,...", help="given; write --weights=-1,2 for a minus first"
    )
    one.add_argument("--bias", type=float, default=0.0, metavar="B", help="of given weights (default 0)")
    one.add_argument("--activation", choices=get_args(Activation), default="sigmoid", help="default: sigmoid")
    trained = parser.add_argument_group("trained weights (these defaults are for MNIST)")
    trained.add_argument("--data", help="a table or pictures of `python -m training list`, a CSV file, or a folder")
    trained.add_argument("--target", metavar="COLUMN", help="the column of a CSV file that is to be predicted")
    add_reading(trained)
    add_flags(trained, LinearHyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Publish a unit with given weights, or learn them. Raises: DataError, PublishError, Interrupted."""
    if (options.weights is None) == (options.data is None):
        raise DataError("perceptron: expected either --weights (given) or --data (to learn them from)")
    if options.data is not None and not tables.is_table(options.data):
        return _pictures(options, accelerator)
    if not accelerator.is_main_process:
        return None
    if options.weights is not None:
        name_model(options, "perceptron")
        return publish_given(options)
    dataset = tables.load(options.data, target_column=options.target, reading=reading_of(options))
    name_model(options, f"perceptron-{dataset.name}")
    return publish_unit(dataset, options, family=UNITS)


class Units(Family[TableDataset]):
    """One unit that was trained on a table."""

    def load_data(self, manifest: Manifest, data: str | None) -> TableDataset:
        return table_of(manifest, options_of(manifest, add_options))

    def measure(
        self, folder: Path, manifest: Manifest, dataset: TableDataset, *, data: str | None, rows: int | None
    ) -> Measured:
        check_own_rows(manifest, data)
        return measured(folder, manifest, dataset, rows)

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: TableDataset, measured: Measured | None = None
    ) -> None:
        write_report(folder, manifest, dataset)


UNITS: Final = Units()
PICTURES: Final = ImageClassifiers(sections=weights)


def _family_of(manifest: Manifest) -> Family[Any]:
    if manifest.picture is not None:
        return PICTURES
    return GIVEN if options_of(manifest, add_options).data is None else UNITS


def _pictures(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    dataset = load(options.data)
    name_model(options, f"perceptron-{dataset.name}")
    h = given(options, LinearHyperparameters())
    accelerator.print(f"{dataset.title}: {dataset.classes} units, {len(dataset.train_y):,} rows to learn from")

    def make(_: int) -> LinearClassifier:
        return LinearClassifier(dataset, h, accelerator=accelerator, compiled=options.compile)

    settings = {"recipe": "perceptron", "data": dataset.name, **asdict(h)}
    return train_classifier(
        make,
        dataset,
        h,
        settings,
        options,
        accelerator,
        title="One linear unit per class",
        goals=GOALS,
        family=PICTURES,
    )


def _numbers(text: str) -> tuple[float, ...]:
    """`3,-2` -> (3.0, -2.0)."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, got {text!r}") from None


COMMANDS: Final = {
    "perceptron": Command(
        help="The perceptron: one unit, its weights given or trained on a table; or one unit per class on bare pixels.",
        add_options=add_options,
        train=train,
        family=FamilyByModel(_family_of),
    )
}
