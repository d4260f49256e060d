"""The perceptron: one unit, its weights given or learnt from a table; or one unit per class on bare pixels."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final, get_args

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from app.core.manifest import DataSource, Manifest, Measure
from app.core.tables import NumberColumn, Table, Target
from training import classifier
from training.classifier import Candidate, finish
from training.data import DataError, load
from training.evaluation import onnx_model
from training.export import Export, check_can_publish
from training.loop import Run, fit, run_folder
from training.networks.linear import LinearClassifier, LinearHyperparameters
from training.networks.unit import Activation, NetInput, Unit
from training.options import add_flags, given
from training.publish import Draft, publish
from training.recipe import Evaluation
from training.reports import perceptron as page
from training.reports.page import write

SPAN: Final = 5.0  # each input of a unit with given weights is drawn and described from -5 to 5
EXAMPLE: Final = (-1.0, 2.0)  # the lecture's
GRID: Final = 51
MAX_ROWS: Final = 1024
GOALS: Final = {"mnist": {"accuracy": 0.927}}
PROTOCOL: Final = "largest distance of the ONNX graph's output from f(b + w · x) in float64, over points of the plane"


def add_options(parser: argparse.ArgumentParser) -> None:
    one = parser.add_argument_group("one unit with given weights")
    one.add_argument(
        "--weights", type=_numbers, metavar="W,W,...", help="one per input; write --weights=-1,2 for a minus"
    )
    one.add_argument("--bias", type=float, default=0.0, metavar="B", help="default: 0")
    parser.add_argument("--activation", choices=get_args(Activation), default="sigmoid", help="default: sigmoid")
    learnt = parser.add_argument_group("learnt weights (these defaults are for MNIST)")
    learnt.add_argument("--data", help="pictures of `python -m training list`, or a folder of them")
    add_flags(learnt, LinearHyperparameters)


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    """Publish a unit with given weights, or learn them. Raises: DataError, PublishError, Interrupted."""
    if (options.weights is None) == (options.data is None):
        raise DataError("perceptron: expected either --weights (given) or --data (to learn them from)")
    if options.weights is None:
        return _learn_pictures(options, accelerator)
    options.name = options.name or "perceptron"
    check_can_publish(Path(options.models), options.name, options.model_version)
    return _publish_given(options) if accelerator.is_main_process else None


def evaluate(folder: Path, manifest: Manifest, *, data: str | None, rows: int | None) -> Evaluation:
    """`Family.evaluate`. Raises: DataError, LoadRefused."""
    if manifest.picture is not None:
        return classifier.evaluate(folder, manifest, data=data, rows=rows)
    if data is not None:
        raise DataError(f"{manifest.name}: its weights were given, so there is no other data to measure it on")
    points = _points(manifest)[:rows]
    return Evaluation(
        rows=len(points),
        of="points of the plane",
        figures={"max_deviation": _deviation(folder, manifest, points)},
        protocols={"max_deviation": PROTOCOL},
        claimed=rows is None,
    )


def report(folder: Path, manifest: Manifest, *, data: str | None) -> None:
    """`Family.report`. Raises: DataError, LoadRefused."""
    if manifest.picture is None:
        write(page.given(manifest, page.Given.read(folder)), folder)
        return
    classifier.report(folder, manifest, data=data, extra=page.weights)


def _publish_given(options: argparse.Namespace) -> Path:
    started = time.perf_counter()
    unit = Unit(torch.tensor(options.weights), torch.tensor(options.bias), options.activation)
    names = [f"x{i + 1}" for i in range(len(options.weights))]
    example = EXAMPLE if len(names) == len(EXAMPLE) else tuple(1.0 for _ in names)
    facts = page.Given(
        weights=tuple(options.weights), bias=options.bias, activation=options.activation, example=example
    )
    reach = SPAN * sum(map(abs, options.weights))
    low, high = (float(v) for v in facts.output(np.array([options.bias - reach, options.bias + reach])))
    fields = {
        "table": Table(
            columns=tuple(
                NumberColumn(kind="number", name=name, about=f"weight {w:g}", low=-SPAN, high=SPAN)
                for name, w in zip(names, options.weights, strict=True)
            )
        ),
        "target": Target(name="y", low=low, high=high),
    }

    def measured(folder: Path, manifest: Manifest) -> tuple[Measure, ...]:
        points = _points(manifest)
        deviation = _deviation(folder, manifest, points, facts)
        return (Measure(name="max_deviation", value=deviation, protocol=PROTOCOL, rows=len(points), seeds=(0,)),)

    def reported(folder: Path, manifest: Manifest) -> None:
        facts.write(folder)
        write(page.given(manifest, facts), folder)

    rows = torch.tensor(np.vstack([example, _grid(len(names))])[:256], dtype=torch.float32)
    return publish(
        Draft(
            task="regress",
            modality="table",
            title=f"One unit with given weights, {options.activation}",
            summary=f"{facts.formula}. Nothing was learnt: the weights are those of the command. "
            "The graph `net_input` gives z, which /v2 can ask for.",
            data=DataSource(
                name="None: the weights were given",
                source="the command",
                licence="none needed",
                rows_train=1,
                rows_held_out=0,
                rows_test=0,
                note=f"The one row is the example ({', '.join(f'{v:g}' for v in example)})",
            ),
            max_rows=MAX_ROWS,
            train_s=time.perf_counter() - started,
            parameters=len(names) + 1,
            precision="no",
            fields=fields,
        ),
        [
            Export(graph="regressor", module=unit, input="row", outputs=("value",), rows=rows),
            Export(graph="net_input", module=NetInput(unit), input="row", outputs=("z",), rows=rows),
        ],
        options=options,
        measure=measured,
        report=reported,
    )


def _learn_pictures(options: argparse.Namespace, accelerator: Accelerator) -> Path | None:
    dataset = load(options.data)
    options.name = options.name or f"perceptron-{dataset.name}"
    check_can_publish(Path(options.models), options.name, options.model_version)
    h = given(options, LinearHyperparameters())
    accelerator.print(f"{dataset.title}: {dataset.classes} units, {len(dataset.train_y):,} rows to learn from")
    x, y = dataset.train_x.to(accelerator.device), dataset.train_y.to(accelerator.device)
    candidates = []
    for seed in options.seeds:
        recipe = LinearClassifier(dataset, h, accelerator=accelerator, compiled=options.compile)
        settings = {"recipe": "perceptron", "data": dataset.name, "seed": seed, **asdict(h)}
        run = Run(
            folder=run_folder(options, settings, accelerator),
            epochs=h.epochs,
            batch_size=h.batch_size,
            seed=seed,
            title=f"{options.name}, seed {seed}",
        )
        history = fit(recipe, x, y, run=run, accelerator=accelerator)
        candidates.append(Candidate(seed=seed, network=recipe.served(), history=history))
    if not accelerator.is_main_process:
        return None
    return finish(
        candidates,
        dataset,
        options=options,
        precision=accelerator.mixed_precision,
        title=f"One linear unit per class, {dataset.title}",
        goals=GOALS.get(options.data, {}),
        extra=page.weights,
    )


def _grid(inputs: int) -> NDArray[np.float64]:
    """Points that fill the inputs' range: a grid for two inputs, drawn at random for more."""
    if inputs <= 2:
        axes = np.meshgrid(*[np.linspace(-SPAN, SPAN, GRID)] * inputs)
        return np.stack([axis.ravel() for axis in axes], axis=1)
    return np.random.default_rng(0).uniform(-SPAN, SPAN, (GRID * GRID, inputs))


def _points(manifest: Manifest) -> NDArray[np.float64]:
    assert manifest.table is not None
    return _grid(len(manifest.table.columns))


def _deviation(folder: Path, manifest: Manifest, points: NDArray[np.float64], facts: page.Given | None = None) -> float:
    facts = facts or page.Given.read(folder)
    session = onnx_model.open_graph(folder, manifest.graphs["regressor"])
    (value,) = session.run(["value"], {"row": points.astype(np.float32)})
    return float(np.abs(value - facts.output(facts.net_input(points.astype(np.float32)))).max())


def _numbers(text: str) -> tuple[float, ...]:
    """`3,-2` -> (3.0, -2.0)."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, got {text!r}") from None
