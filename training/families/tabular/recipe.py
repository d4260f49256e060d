"""Dense nets: tables by name or from a CSV file, for labels and for numbers; and pictures without convolutions."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Final, get_args

import numpy as np
import torch
from accelerate import Accelerator
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from app.core.manifest import Manifest
from training.data import csv_table, load, tables
from training.data.csv_table import MANY_ROWS, Task
from training.data.table import TableDataset, copies_of
from training.families.tabular import budget
from training.families.tabular import report as page
from training.families.tabular.budget import PUBLISH_S, Cost, Decided, decide, in_words
from training.families.tabular.ensemble import Schedule
from training.families.tabular.evidence import Evidence
from training.families.tabular.groups import groups_of
from training.families.tabular.image_network import FlatClassifier, FlatHyperparameters, flat_for
from training.families.tabular.image_report import decided
from training.families.tabular.metrics import WORDS, answers_of, figures, label_words
from training.families.tabular.model import PLAN, task_of, train_table
from training.families.tabular.nested import OUTER, REPETITIONS, Plan, Repetition, nested
from training.families.tabular.publish import publish_table
from training.family import Family, FamilyByModel, Measured, options_of, table_of
from training.image_classification import ImageClassifiers, train_classifier
from training.loop import Interrupted, run_folder
from training.options import add_flags, add_reading, given, positive, reading_of
from training.publish import name_model
from training.recipe import Command
from training.reporting.page import write

GOALS: Final = {"mnist": {"accuracy": 0.992}}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="a table or pictures of `python -m training list`, or a CSV file")
    table = parser.add_argument_group("tables")
    table.add_argument("--target", metavar="COLUMN", help="the column of a CSV file that is to be predicted")
    add_reading(table)
    table.add_argument("--task", choices=get_args(Task), help="default: regress where the target has many numbers")
    table.add_argument(
        "--repetitions",
        type=positive,
        default=REPETITIONS,
        metavar="N",
        help=f"of the nested cross-validation that measures small tables (default {REPETITIONS})",
    )
    table.add_argument(
        "--budget",
        type=budget.seconds,
        metavar="TIME",
        help="the longest that it may take, as 90s, 5m or 1h: repetitions and members are dropped to keep it",
    )
    add_flags(parser.add_argument_group("pictures (these defaults are for MNIST)"), FlatHyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Learn and publish. None in the processes that only helped. Raises: DataError, PublishError, Interrupted."""
    if not tables.is_table(options.data):
        return _pictures(options, accelerator)
    started = perf_counter()
    if not accelerator.is_main_process:
        return None
    dataset = tables.load(options.data, target_column=options.target, task=options.task, reading=reading_of(options))
    name_model(options, f"mlp-{dataset.name}")
    print(_plan(dataset))
    if options.threads is None and len(dataset.train_y) < MANY_ROWS:
        torch.set_num_threads(1)  # several wait for each other longer than they work
    with threadpool_limits(torch.get_num_threads(), user_api="openmp"):  # scikit-learn has an OpenMP of its own
        return _train(dataset, options, accelerator, started)


class Tables(Family[TableDataset]):
    """Its own table, or with `data` another CSV file with these columns."""

    def load_data(self, manifest: Manifest, data: str | None) -> TableDataset:
        return table_of(manifest, options_of(manifest, add_options))

    def measure(
        self, folder: Path, manifest: Manifest, dataset: TableDataset, *, data: str | None, rows: int | None
    ) -> Measured:
        tested = data is None and len(dataset.test_y) > 0
        if data is not None and data != manifest.data.spec and Path(data).is_file():
            assert manifest.table is not None
            x, y = csv_table.load_for(data, manifest.table, target_column=dataset.target_column, labels=manifest.labels)
        else:
            x, y = (dataset.test_x, dataset.test_y) if tested else dataset.everything()
        x, y = x[:rows], y[:rows]
        seen = data is None and not tested
        answers, reach = answers_of(folder, manifest, x.numpy())
        return Measured(
            rows=len(y),
            of=f"rows of {dataset.title}" + (", which it was trained on: better than on new ones" if seen else ""),
            figures=figures(
                answers, y.numpy(), reach, labels=dataset.labels, groups=groups_of(dataset.table, x.numpy())
            ),
            protocols=WORDS | label_words(dataset.labels),
            claimed=tested and len(y) == len(dataset.test_y),
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: TableDataset, measured: Measured | None = None
    ) -> None:
        write(page.page(folder, manifest, dataset, Evidence.read(folder)), folder)


TABLES: Final = Tables()
PICTURES: Final = ImageClassifiers(sections=decided)


def _plan(dataset: TableDataset) -> str:
    """What is about to happen, for the person who waits."""
    columns = len(dataset.table.columns)
    if dataset.labels:
        labels = ", ".join(dataset.labels[:8]) + (", ..." if len(dataset.labels) > 8 else "")
        what = f"one of {len(dataset.labels)} labels ({labels})"
    else:
        assert dataset.target is not None
        unit = f" {dataset.target.unit}" if dataset.target.unit else ""
        what = f"a number, {dataset.target.low:g} to {dataset.target.high:g}{unit}"
    test = f", {len(dataset.test_y):,} to test" if len(dataset.test_y) else ""
    lines = [
        f"{dataset.title}: {len(dataset.train_y):,} rows to learn from{test}, {columns} column{'s' * (columns > 1)}",
        f"{dataset.target_column}: {what}",
    ]
    return "\n".join([*lines, dataset.note] if dataset.note else lines)


def _train(dataset: TableDataset, options: argparse.Namespace, accelerator: Accelerator, started: float) -> Path:
    made = _decide(dataset, options, started)
    seed = options.seeds[0]
    learned = train_table(dataset, made.plan, seed=seed)
    rounds = [] if len(dataset.test_y) else _measure(dataset, made.plan, options, accelerator, started)
    dropped = made.dropped
    if rounds and len(rounds) < options.repetitions:
        dropped = (f"{len(rounds)} of {options.repetitions} repetitions", *dropped)
    if dropped:
        print(f"To keep --budget: {', '.join(dropped)}")
    return publish_table(
        dataset, learned, rounds, dropped=", ".join(dropped), options=options, seed=seed, family=TABLES
    )


def _decide(dataset: TableDataset, options: argparse.Namespace, started: float) -> Decided:
    """What will be trained, and a line on how long that will take."""
    cost = Cost.measured(dataset, task_of(dataset), PLAN)
    used = perf_counter() - started
    made = decide(cost, PLAN, options.repetitions, options.budget, used=used)
    threads, expected = torch.get_num_threads(), list(made.dropped)
    if not cost.tested and made.repetitions < options.repetitions:
        expected.insert(0, f"about {made.repetitions} of {options.repetitions} repetitions")
    print(
        f"{len(dataset.train_y):,} rows, {len(dataset.table.columns)} columns, {threads} thread{'s' * (threads > 1)}: "
        f"{in_words(made.seconds)}" + (f"; to keep --budget: {', '.join(expected)}" if expected else "")
    )
    return made


def _measure(
    dataset: TableDataset, plan: Plan, options: argparse.Namespace, accelerator: Accelerator, started: float
) -> list[Repetition]:
    """The nested rounds, from where an interrupted run left off. Raises: Interrupted."""
    wanted, until = options.repetitions, None if options.budget is None else started + options.budget - PUBLISH_S
    digest = hashlib.sha256(dataset.train_x.numpy().tobytes() + dataset.train_y.numpy().tobytes()).hexdigest()
    schedule = asdict(Schedule.for_rows(len(dataset.train_y)))
    settings = {"recipe": "mlp", "data": digest, "seed": 0, **asdict(plan), **schedule}
    if not dataset.labels:
        settings["scales"] = "by region"  # runs of before had one quantile for all regions
    if len(np.unique(copies_of(dataset.train_x))) < len(dataset.train_y):
        settings["copies"] = "together"  # runs of before were measured on copies of rows that they had learnt
    folder = run_folder(options, settings, accelerator)
    x, y, task = dataset.train_x, dataset.train_y, task_of(dataset)
    title = f"{options.name}: nested cross-validation, {OUTER} folds"
    try:
        rounds = nested(x, y, task, plan, folder=folder, repetitions=wanted, until=until)
        return list(tqdm(rounds, title, wanted))
    except KeyboardInterrupt:
        raise Interrupted(folder) from None


def _pictures(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    dataset = load(options.data)
    name_model(options, f"mlp-{dataset.name}")
    h = given(options, flat_for(dataset))
    accelerator.print(
        f"{dataset.title}: {dataset.classes} classes, {len(dataset.train_y):,} rows to learn from, layers of "
        f"{', '.join(map(str, h.widths))} units, {h.epochs} epochs"
    )

    def make(seed: int) -> FlatClassifier:
        return FlatClassifier(dataset, h, seed=seed, accelerator=accelerator, compiled=options.compile)

    settings = {"recipe": "mlp", "data": dataset.name, **asdict(h)}
    return train_classifier(
        make, dataset, h, settings, options, accelerator, title="Dense net", goals=GOALS, family=PICTURES
    )


COMMANDS: Final = {
    "mlp": Command(
        help="Dense nets: tables by name or from a CSV file, for labels and for numbers; and pictures "
        "without convolutions.",
        add_options=add_options,
        train=train,
        family=FamilyByModel(lambda manifest: PICTURES if manifest.table is None else TABLES),
    )
}
