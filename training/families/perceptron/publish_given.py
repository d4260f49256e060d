"""A unit whose weights are given: nothing is trained, but it is published and served like any model."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.manifest import DataSource, Manifest
from app.core.manifest.table import NumberColumn, Table, Target
from training.data.base import DataError
from training.export import Export
from training.families.perceptron import report_given as page
from training.families.perceptron.network import NetInput, Unit
from training.family import Family, Measured
from training.metrics import onnx_model
from training.publish import Draft, publish
from training.reporting.page import write

SPAN: Final = 5.0  # each input is drawn and described from -5 to 5
EXAMPLE: Final = (-1.0, 2.0)  # the lecture's
GRID: Final = 51
MAX_ROWS: Final = 1024
PROTOCOL: Final = "largest distance of the ONNX graph's output from f(b + w · x) in float64, over points of the plane"


def publish_given(options: argparse.Namespace) -> Path:
    """Publish the unit of `--weights`, `--bias` and `--activation`. Raises: PublishError."""
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

    rows = torch.tensor(np.vstack([example, _grid(len(names))])[:256], dtype=torch.float32)
    return publish(
        GIVEN,
        None,
        Draft(
            task="regress",
            modality="table",
            title=f"One unit with given weights, {page.NAMES[options.activation]}",
            summary=f"{facts.formula}. Nothing was trained: the weights are those of the command. "
            "The graph net_input gives z, which /v2 can ask for.",
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
            precision="fp32",
            seeds=(0,),
            fields=fields,
        ),
        [
            Export(graph="regressor", module=unit, inputs={"row": rows}, outputs=("value",)),
            Export(graph="net_input", module=NetInput(unit), inputs={"row": rows}, outputs=("z",)),
        ],
        options=options,
        measure=lambda folder, manifest: measured(folder, manifest, facts),
        keep=lambda folder, _: facts.write(folder),
    )


def measured(folder: Path, manifest: Manifest, facts: page.Given, rows: int | None = None) -> Measured:
    """How far the graph is from the formula, on the first points of the plane or on all."""
    points = _points(manifest)[:rows]
    return Measured(
        rows=len(points),
        of="points of the plane",
        figures={"max_deviation": _deviation(folder, manifest, points, facts)},
        protocols={"max_deviation": PROTOCOL},
        claimed=rows is None,
    )


class GivenUnits(Family[None]):
    """The published graph against the formula."""

    def load_data(self, manifest: Manifest, data: str | None) -> None:
        """There is none."""

    def measure(
        self, folder: Path, manifest: Manifest, dataset: None, *, data: str | None, rows: int | None
    ) -> Measured:
        check_own_rows(manifest, data)
        return measured(folder, manifest, page.Given.read(folder), rows)

    def write_report(self, folder: Path, manifest: Manifest, dataset: None, measured: Measured | None = None) -> None:
        write(page.page(manifest, page.Given.read(folder)), folder)


GIVEN: Final = GivenUnits()


def check_own_rows(manifest: Manifest, data: str | None) -> None:
    """Raises: DataError where one unit is to be measured on other data."""
    if data is not None:
        raise DataError(f"{manifest.name}: one unit on a table is measured on its own rows, not on {data}")


def _grid(inputs: int) -> NDArray[np.float64]:
    """Points that fill the inputs' range: a grid for one or two inputs, drawn at random for more."""
    if inputs <= 2:
        axes = np.meshgrid(*[np.linspace(-SPAN, SPAN, GRID)] * inputs)
        return np.stack([axis.ravel() for axis in axes], axis=1)
    return np.random.default_rng(0).uniform(-SPAN, SPAN, (GRID * GRID, inputs))


def _points(manifest: Manifest) -> NDArray[np.float64]:
    assert manifest.table is not None
    return _grid(len(manifest.table.columns))


def _deviation(folder: Path, manifest: Manifest, points: NDArray[np.float64], facts: page.Given) -> float:
    session = onnx_model.open_graph(folder, manifest.graphs["regressor"])
    rows = points.astype(np.float32)
    (value,) = session.run(["value"], {"row": rows})
    return float(np.abs(value - facts.output(facts.net_input(rows))).max())
