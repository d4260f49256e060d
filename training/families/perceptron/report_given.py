"""The report of a unit with given weights, as in the lecture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from training.reporting.charts import Line, line_chart
from training.reporting.formatting import count
from training.reporting.html import Section, charts, figure, note, plane_and_words
from training.reporting.made import made
from training.reporting.page import Page
from training.reporting.plane import Plane
from training.reporting.table import Cell, Row, table

Numbers = NDArray[np.floating[Any]]

GIVEN_FILE: Final = "report/given.json"
FINE: Final = 121
CURVE: Final = 241
NAMES: Final = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU", "identity": "identity"}
WORDS: Final = {
    "sigmoid": "1 / (1 + e⁻ᶻ), from 0 to 1: the probability of one of two classes",
    "tanh": "(eᶻ − e⁻ᶻ) / (eᶻ + e⁻ᶻ), from −1 to 1: a sigmoid centred at zero",
    "relu": "max(0, z): the slope is 1 above zero and 0 below",
    "identity": "z itself: linear regression; a net of such units is linear whatever its depth",
}
FUNCTIONS: Final[dict[str, Callable[[Numbers], Numbers]]] = {
    "sigmoid": lambda z: np.exp(-np.logaddexp(0.0, -z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0.0),
    "identity": lambda z: z,
}
SLOPES: Final[dict[str, Callable[[Numbers], Numbers]]] = {
    "sigmoid": lambda z: FUNCTIONS["sigmoid"](z) * FUNCTIONS["sigmoid"](-z),
    "tanh": lambda z: 1 - np.tanh(z) ** 2,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "identity": np.ones_like,
}


@dataclass(frozen=True, kw_only=True)
class Given:
    """A unit with given weights and the input of the worked example."""

    weights: tuple[float, ...]
    bias: float
    activation: str
    example: tuple[float, ...]

    @classmethod
    def read(cls, folder: Path) -> Given:
        found = json.loads((folder / GIVEN_FILE).read_text(encoding="utf-8"))
        return cls(**found | {key: tuple(found[key]) for key in ("weights", "example")})

    def write(self, folder: Path) -> None:
        (folder / GIVEN_FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    def net_input(self, x: Numbers) -> Numbers:
        """(..., D) -> z (...), in float64."""
        return np.asarray(x, np.float64) @ np.array(self.weights, np.float64) + self.bias

    def output(self, z: Numbers) -> Numbers:
        return FUNCTIONS[self.activation](np.asarray(z, np.float64))

    @property
    def formula(self) -> str:
        """y = sigmoid(1 + 3 x1 − 2 x2)."""
        terms = [number(self.bias), *(f"{number(abs(w))} x{i + 1}" for i, w in enumerate(self.weights))]
        joined = terms[0] + "".join(
            f" {'−' if w < 0 else '+'} {term}" for w, term in zip(self.weights, terms[1:], strict=True)
        )
        return f"y = {NAMES[self.activation]}({joined})"


def number(value: float) -> str:
    """-2 -> −2; six significant figures at most."""
    return f"{value:.6g}".replace("-", "−")


def page(manifest: Manifest, unit: Given) -> Page:
    """The page of a unit with given weights."""
    z = float(unit.net_input(np.array(unit.example)))
    y = float(unit.output(np.array(z)))
    at = ", ".join(map(number, unit.example))
    claim = (
        f"<strong>{escape(unit.formula)}</strong>. At x = ({at}) its net input is z = {number(z)} and its output "
        f"y = {number(float(f'{y:.3g}'))}. Nothing was trained: the weights are those of the command."
    )
    plane = _plane(manifest, unit) if len(unit.weights) == 2 else ""
    return Page(
        manifest=manifest,
        claim=claim,
        sections=[
            Section("example", "A worked example", _worked(manifest, unit)),
            Section("plane", "The output over the plane", plane),
            Section("activations", "Activation functions", _activations(unit, z)),
            made(manifest),
        ],
        headlines=(),
    )


def _worked(m: Manifest, unit: Given) -> str:
    columns = m.table.columns if m.table else ()
    rows: list[Row] = [("bias", "1", Cell(f"w<sub>0</sub> = {number(unit.bias)}"), number(unit.bias))]
    rows += [
        (column.name, number(x), Cell(f"w<sub>{i + 1}</sub> = {number(w)}"), number(w * x))
        for i, (column, w, x) in enumerate(zip(columns, unit.weights, unit.example, strict=True))
    ]
    z = unit.net_input(np.array(unit.example))
    y = float(unit.output(z))
    rows.append((Cell("<strong>z</strong>"), "", "their sum", number(float(z))))
    rows.append((Cell("<strong>y</strong>"), "", f"{NAMES[unit.activation]}(z)", f"{y:.9g}"))
    deviation = next((q for q in m.quality if q.name == "max_deviation"), None)
    words = (
        ""
        if deviation is None
        else (
            f"The ONNX graph differs from this arithmetic, done in double precision, by {deviation.value:.1e} at most "
            f"over {count(deviation.rows)} points of the inputs' range."
        )
    )
    return table(("Input", "Value", "Weight", "Product"), rows) + note(words)


def _plane(m: Manifest, unit: Given) -> str:
    assert m.table is not None
    first, second = m.table.columns
    assert first.kind == second.kind == "number"
    plane = Plane(
        x_range=(first.low, first.high),
        y_range=(second.low, second.high),
        x_label=first.name,
        y_label=second.name,
        width=460,
        height=450,
    )
    z = unit.net_input(np.stack(plane.grid(FINE), axis=-1))
    y = unit.output(z)
    if unit.activation == "sigmoid":
        field, levels = 2 * y - 1, [0.01, 0.1, 0.25, 0.75, 0.9, 0.99]
    elif unit.activation == "tanh":
        field, levels = y, [-0.99, -0.9, -0.5, 0.5, 0.9, 0.99]
    else:
        most = max(float(np.abs(y).max()), 1e-12)
        field, levels = y / most, [most * share for share in (-0.75, -0.5, -0.25, 0.25, 0.5, 0.75)]
    example = (unit.example[0], unit.example[1])
    net = float(unit.net_input(np.array(example)))
    out = float(unit.output(np.array(net)))
    drawing = plane.svg(
        [
            plane.coloured(field),
            plane.contours(y, levels),
            plane.contours(z, [0.0], name="border"),
            f'<g class="example">{plane.dots([example], "five", radius=5)}</g>',
            plane.note(
                example,
                f"({number(example[0])}, {number(example[1])}): y = {out:.3g}",
                anchor="end" if net * unit.weights[0] < 0 else "start",  # away from the line
            ),
        ],
        label=f"The plane of {first.name} and {second.name}, coloured by the unit's output, with the line z = 0",
    )
    w = np.array(unit.weights)
    length = float(np.linalg.norm(w))
    middle = {"sigmoid": "y = 0.5", "tanh": "y = 0"}.get(unit.activation, "y = 0")
    words = (
        f"Blue where the unit's output is high, orange where it is low. On the thick line z = 0, so {middle}: the "
        "decision line. The thin lines have outputs of "
        f"{', '.join(number(float(f'{v:.3g}')) for v in levels)}; all are parallel, because the output depends on one "
        "number only, the distance of the point from the line."
    )
    if length:
        distance = net / length
        side = "on the side that the weights point to" if distance > 0 else "on the side away from the weights"
        words += (
            f" The weights ({number(w[0])}, {number(w[1])}) stand at right angles to it. The example lies "
            f"{abs(distance):.3g} from the line, {side}: z is that distance times the weights' length, {length:.4g}."
        )
    return plane_and_words(drawing, escape(words))


def _activations(unit: Given, z: float) -> str:
    reach = max(6.0, abs(z) * 1.1)
    zs = np.linspace(-min(reach, 50.0), min(reach, 50.0), CURVE)
    panels = []
    for name, function in FUNCTIONS.items():
        y = function(zs)
        slope = SLOPES[name](zs)
        lines = [
            Line(label="f(z)", points=list(zip(zs.tolist(), y.tolist(), strict=True))),
            Line(label="slope", points=list(zip(zs.tolist(), slope.tolist(), strict=True)), colour="two"),
        ]
        if name == unit.activation and abs(z) <= 50:
            lines.append(Line(label="example", points=[(z, float(function(np.array(z))))], colour="five"))
        panels.append(figure(line_chart(lines, x_label="z", y_label=NAMES[name]), caption=WORDS[name]))
    words = "Functions of a unit's net input z. Gradients are products of slopes: where the slope is zero, the weights "
    words += "below get no gradient."
    return note(words) + charts(panels, columns="two")
