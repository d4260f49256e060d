"""How long a model takes: measured once, when it is published, and kept beside its report.

A report that is written again shows the kept times: the machine that writes it may be another one, or busy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any, Final

from training.metrics import onnx_model
from training.metrics.onnx_model import Latency
from training.reporting.charts import Line, line_chart
from training.reporting.formatting import milliseconds
from training.reporting.html import Section, beside, note
from training.reporting.table import table

LATENCY_FILE: Final = "report/latency.json"


def kept_latency(folder: Path, graph: str, *, threads: int = 0) -> list[Latency]:
    """The times of one graph of `folder` by batch size; 0 threads lets the runtime choose.

    Raises `LoadRefused` where they must be measured but cannot.
    """

    def measure() -> list[dict[str, Any]]:
        return [asdict(one) for one in onnx_model.latency_ms(folder, graph, threads=threads)]

    entries = measured_once(folder, graph, measure)
    return [Latency(**entry) for entry in entries]


def measured_once(folder: Path, name: str, measure: Callable[[], Any]) -> Any:
    """What `folder/report/latency.json` holds under `name`; measured and written there where it holds nothing."""
    path = folder / LATENCY_FILE
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if name not in kept:
        kept[name] = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return kept[name]


def latency(entries: Sequence[Latency], *, key: str = "latency", title: str = "Latency", before: str = "") -> Section:
    """Time of one run by batch size: table and plot. `before` (HTML) opens the section."""
    if not entries:
        return Section(key, title, "")
    entries = sorted(entries, key=lambda entry: entry.rows)
    rows = [
        (
            str(e.rows),
            milliseconds(e.median_ms),
            milliseconds(e.p95_ms),
            round(1000 * e.rows / e.median_ms),
            str(e.repeats),
        )
        for e in entries
    ]
    plot = line_chart(
        [
            Line(
                label="median to 95th percentile",
                points=[(e.rows, e.median_ms) for e in entries],
                high=[(e.rows, e.p95_ms) for e in entries],
            )
        ],
        x_label="pictures per run",
        y_label="One run, ms: median, and up to the 95th percentile",
        log_x=True,
        log_y=True,
        x_ticks=[e.rows for e in entries],
    )
    titles = ("Pictures per run", "Median, ms", "95th percentile, ms", "Pictures per s", "Runs timed")
    words = (
        f"One run of the graph after a warm-up: {escape(entries[0].device)}. Decoding of the request, waiting in the "
        "queue and HTTP are not included."
    )
    return Section(key, title, f"{before}{note(words)}{beside(table(titles, rows), plot)}")
