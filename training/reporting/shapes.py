"""The five shapes of recurrent nets: which of them a model has, and which models show the others."""

from __future__ import annotations

from html import escape
from typing import Final, Literal

from training.reporting.html import Section, note
from training.reporting.table import Cell, table, wide

Shape = Literal["one to one", "one to many", "many to one", "many to many", "synced many to many"]

SHAPES: Final[dict[Shape, tuple[str, tuple[str, ...]]]] = {
    "one to one": ("one input, one output: a plain net, with nothing to remember", ("mlp-mnist",)),
    "one to many": ("one input, and an output at every step until the net ends it", ("scene-captions",)),
    "many to one": (
        "an input at every step, one output at the end",
        ("spoken-digits", "spoken-commands", "sentiment-sst2"),
    ),
    "many to many": (
        "outputs of another number than the inputs",
        ("speech", "speech-streaming", "translator-en-pt", "translator-de-en"),
    ),
    "synced many to many": ("an output for every input", ("motion", "lips", "lips-streaming")),
}


def shapes(own: Shape) -> Section:
    """A table with one row for each shape, the model's own in bold, and the names of the models that have it."""
    rows = []
    for shape, (words, models) in SHAPES.items():
        name = f"<strong>{shape}</strong>" if shape == own else shape
        rows.append((Cell(name), wide(words), Cell(", ".join(_link(model) for model in models)) if models else None))
    return Section(
        "shapes",
        "The five shapes of recurrent nets",
        note("By the number of steps that go in and come out; this model's is in bold.")
        + table(("Shape", "<What goes in and out", "<Models"), rows),
    )


def _link(model: str) -> str:
    """To its report, from that of a model in the same folder of models."""
    return f'<a href="../../../{escape(model)}/1/report/index.html">{escape(model)}</a>'
