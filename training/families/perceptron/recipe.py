"""The perceptron: one unit, its weights given or learnt from a table; or one unit per class on bare pixels."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Final, get_args

from accelerate import Accelerator

from app.core.manifest import Manifest
from training import image_classification as classifier
from training.data import DataError, load, tables
from training.data.table import TableDataset
from training.families.perceptron.image_network import LinearClassifier, LinearHyperparameters
from training.families.perceptron.network import Activation
from training.families.perceptron.publish_given import evaluate_given, publish_given, report_given
from training.families.perceptron.publish_trained import evaluate_learnt, publish_learnt, report_learnt
from training.families.perceptron.templates import weights
from training.image_classification import Candidate, finish
from training.loop import fit_seeds
from training.options import add_flags, given
from training.publish import name_model
from training.recipe import Command, Evaluation

GOALS: Final = {"mnist": {"accuracy": 0.927}}


def add_options(parser: argparse.ArgumentParser) -> None:
    one = parser.add_argument_group("one unit")
    one.add_argument(
        "--weights", type=_numbers, metavar="W,W,...", help="given; write --weights=-1,2 for a minus first"
    )
    one.add_argument("--bias", type=float, default=0.0, metavar="B", help="of given weights (default 0)")
    one.add_argument("--activation", choices=get_args(Activation), default="sigmoid", help="default: sigmoid")
    learnt = parser.add_argument_group("learnt weights (these defaults are for MNIST)")
    learnt.add_argument("--data", help="a table or pictures of `python -m training list`, a CSV file, or a folder")
    learnt.add_argument("--target", metavar="COLUMN", help="the column of a CSV file that is to be foretold")
    add_flags(learnt, LinearHyperparameters)


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
    dataset = tables.load(options.data, foretold=options.target)
    name_model(options, f"perceptron-{dataset.name}")
    return publish_learnt(dataset, options)


def evaluate(folder: Path, manifest: Manifest, *, data: str | None, rows: int | None) -> Evaluation:
    """`Family.evaluate`. Raises: DataError, LoadRefused."""
    if manifest.picture is not None:
        return classifier.evaluate(folder, manifest, data=data, rows=rows)
    if data is not None:
        raise DataError(f"{manifest.name}: one unit on a table is measured on its own rows, not on {data}")
    dataset = _dataset(manifest)
    if dataset is None:
        return evaluate_given(folder, manifest, rows=rows)
    return evaluate_learnt(folder, manifest, dataset, rows=rows)


def report(folder: Path, manifest: Manifest, *, data: str | None) -> None:
    """`Family.report`. Raises: DataError, LoadRefused."""
    if manifest.picture is not None:
        classifier.report(folder, manifest, data=data, extra=weights)
    elif (dataset := _dataset(manifest)) is None:
        report_given(folder, manifest)
    else:
        report_learnt(folder, manifest, dataset)


def _dataset(manifest: Manifest) -> TableDataset | None:
    """The table that the model was made from, as its command names it; None where its weights were given.

    Raises: DataError where it is no longer that table.
    """
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    made, _ = parser.parse_known_args(shlex.split(manifest.made.command)[4:])
    if made.data is None:
        return None
    dataset = tables.load(made.data, foretold=made.target)
    if dataset.table != manifest.table or dataset.labels != manifest.labels:
        raise DataError(f"{made.data}: is no longer the table that {manifest.name} was made from")
    return dataset


def _pictures(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    dataset = load(options.data)
    name_model(options, f"perceptron-{dataset.name}")
    h = given(options, LinearHyperparameters())
    accelerator.print(f"{dataset.title}: {dataset.classes} units, {len(dataset.train_y):,} rows to learn from")

    def make(_: int) -> LinearClassifier:
        return LinearClassifier(dataset, h, accelerator=accelerator, compiled=options.compile)

    settings = {"recipe": "perceptron", "data": dataset.name, **asdict(h)}
    fitted = fit_seeds(make, dataset.train_x, dataset.train_y, h, settings, options=options, accelerator=accelerator)
    candidates = [Candidate(seed=one.seed, network=one.recipe.served(), history=one.history) for one in fitted]
    if not accelerator.is_main_process:
        return None
    return finish(
        candidates,
        dataset,
        options=options,
        precision=accelerator.mixed_precision,
        title=f"One linear unit per class, {dataset.title}",
        goals=GOALS.get(options.data, {}),
        extra=weights,
    )


def _numbers(text: str) -> tuple[float, ...]:
    """`3,-2` -> (3.0, -2.0)."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, got {text!r}") from None


COMMANDS: Final = {
    "perceptron": Command(
        help="The perceptron: one unit, its weights given or learnt from a table; or one unit per class "
        "on bare pixels.",
        add_options=add_options,
        train=train,
        evaluate=evaluate,
        report=report,
    )
}
