"""The parts that every report is made of: tables, learning curves, ablation notes, latencies measured once."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from training.metrics.onnx_model import Latency
from training.reporting.ablations import FILE, tried
from training.reporting.history import Curves, history_charts
from training.reporting.latency import LATENCY_FILE, latency, measured_once
from training.reporting.mosaics import in_turn
from training.reporting.shapes import shapes
from training.reporting.table import Cell, label, table, wide


def test_cells_of_a_table_are_text_numbers_dashes_or_html() -> None:
    drawing = ET.fromstring(table(("A & b", "<Left", "Rows"), [("<i>", "x", 12345), (Cell("<b>y</b>"), None, "1")]))
    assert ["".join(cell.itertext()) for cell in drawing.iter("td")] == ["<i>", "x", "12,345", "y", "–", "1"]
    assert [cell.get("class") for cell in drawing.iter("td")] == [None, "left", None] * 2
    assert [head.text for head in drawing.iter("th")] == ["A & b", "Left", "Rows"]


def test_a_wide_cell_holds_small_print_and_a_label_its_whole_name() -> None:
    drawing = ET.fromstring(table(("<a",), [(wide("x < y", "<i>z</i>"),), (label('say "a"'),)]))
    first, second = drawing.iter("td")
    assert (first.get("class"), "".join(first.itertext())) == ("wide left", "x < yz")
    assert (second.get("class"), second.get("title")) == ("label left", 'say "a"')


def test_a_row_of_another_length_than_the_titles_is_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        table(("a", "b"), [("1",)])


def points(html: str) -> list[list[str]]:
    return [line.attrib["points"].split() for line in ET.fromstring(html).iter("polyline")]


def test_learning_curves_leave_gaps_and_charts_without_points_are_left_out() -> None:
    history = [{"epoch": 1.0, "loss": 3.0}, {"epoch": 2.0, "loss": float("nan")}, {"epoch": 3.0, "loss": 1.0}]
    curves = [Curves(y_label="Loss", lines=[("loss", "training"), ("held", "held-out")])]
    assert [len(line) for line in points(history_charts(history, curves))] == [2]
    assert history_charts(history, [Curves(y_label="Rate", lines=[("lr", "rate")])]) == ""


def test_the_start_of_a_long_history_can_be_left_out_and_values_converted() -> None:
    history = [{"share": i / 100} for i in range(20)]
    curves = [Curves(y_label="Errors, %", lines=[("share", "errors")], shown=lambda v: 100 * v)]
    assert [len(points(history_charts(history, curves, skip=share))[0]) for share in (0.0, 0.01, 0.1)] == [20, 19, 18]
    assert len(points(history_charts(history[:4], curves, skip=0.1))[0]) == 4
    assert ">15<" in history_charts(history, curves)


def test_the_notes_of_one_data_set_are_read_and_escaped(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(
        "# Notes\n\n## one\n\nAll on\none core, p < 5 %.\n\n- a - b\n  goes `on`\n- c\n\n"
        "| What | Rows |\n|---|---|\n| x & y | 12 |\n\n## two\n\nother\n",
        encoding="utf-8",
    )
    section = tried(tmp_path, "one")
    drawing = ET.fromstring(f"<div>{section.body}</div>")
    assert [p.text for p in drawing.iter("p")] == ["All on one core, p < 5 %."]
    assert ["".join(li.itertext()) for li in drawing.iter("li")] == ["a - b goes on", "c"]
    assert [code.text for code in drawing.iter("code")] == ["on"]
    assert ["".join(cell.itertext()) for cell in drawing.iter("td")] == ["x & y", "12"]
    assert "other" not in section.body
    assert tried(tmp_path, "three").body == ""


def test_every_family_that_tried_something_has_notes_that_can_be_shown() -> None:
    files = sorted((Path(__file__).parents[3] / "training" / "families").glob(f"*/{FILE}"))
    assert len(files) >= 5
    for file in files:
        headings = [line[3:] for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("## ")]
        assert headings, file
        for heading in headings:
            ET.fromstring(f"<div>{tried(file.parent, heading).body}</div>")


def test_times_are_measured_once_and_then_read(tmp_path: Path) -> None:
    taken = iter([1.5, 2.5])
    assert [measured_once(tmp_path, "one", lambda: next(taken)) for _ in range(2)] == [1.5, 1.5]
    assert measured_once(tmp_path, "two", lambda: next(taken)) == 2.5
    assert json.loads((tmp_path / LATENCY_FILE).read_text(encoding="utf-8")) == {"one": 1.5, "two": 2.5}


def test_the_latency_of_a_graph_is_a_table_by_batch_size() -> None:
    entries = [Latency(rows=n, median_ms=0.5 * n, p95_ms=0.75 * n, repeats=20, device="a <cpu>") for n in (4, 1)]
    section = latency(entries, title="Latency of it")
    assert "a &lt;cpu&gt;" in section.body
    assert section.body.index("<td>1</td><td>0.50</td>") < section.body.index("<td>4</td><td>2.00</td><td>3.00</td>")
    assert latency([]).body == ""


def test_rows_in_turn_are_the_first_of_each_class_then_the_second() -> None:
    assert in_turn(np.array([1, 1, 0, 2, 0, 1])).tolist() == [2, 0, 3, 4, 1, 5]


def test_the_table_of_shapes_marks_the_models_own_and_links_the_plain_net() -> None:
    drawing = ET.fromstring(f"<div>{shapes('many to one').body}</div>")
    assert [strong.text for strong in drawing.iter("strong")] == ["many to one"]
    first = next(row for row in drawing.iter("tr") if "".join(row.itertext()).startswith("one to one"))
    assert [link.attrib["href"] for link in first.iter("a")] == ["../../../mlp-mnist/1/report/index.html"]
