"""The recipe for tables, from a CSV file to a published folder that answers as it was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from app.core.manifest import Manifest
from app.core.manifest.table import NumberColumn
from training.__main__ import main
from training.data import tables
from training.families.tabular import model, nested
from training.families.tabular.ensemble import Schedule, Setting
from training.families.tabular.metrics import answers_of, figures, label_words, truth_figures
from training.families.tabular.nested import Plan
from training.families.tabular.trees import Boosting
from training.metrics import onnx_model

QUICK = Plan(grid=(Setting(decay=1.0), Setting(widths=(4,), decay=1.0)), trees=(Boosting(leaves=4, rounds=20),))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three settings and few steps: enough to be right about a clear table."""
    monkeypatch.setattr("training.families.tabular.recipe.PLAN", QUICK)
    monkeypatch.setattr(Schedule, "for_rows", classmethod(lambda cls, rows: cls(steps=40, lr=0.1, batch=rows)))
    monkeypatch.setattr("sys.argv", ["python -m training"])


def table(folder: Path, *, rows: int = 60) -> Path:
    """y = 3 a + b's offset + noise; a is missing now and then; the label says whether y is above its middle."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 10, rows), rng.integers(0, 2, rows)
    y = 3 * a + 5 * b + rng.normal(size=rows)
    lines = ["a [cm],b,y [kg],label"]
    for i in range(rows):
        shown = "" if i % 20 == 7 else f"{a[i]:.3f}"
        lines.append(f"{shown},{'pq'[b[i]]},{y[i]:.3f},{'high' if y[i] > 17 else 'low'}")
    path = folder / "some.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(folder: Path, *words: str) -> int:
    return main([*words, "--models", str(folder / "models")])


def train(folder: Path, *words: str) -> int:
    where = ["--runs", str(folder / "runs"), "--threads", "1", "--precision", "fp32"]
    return run(folder, "mlp", *words, *where, "--repetitions", "2")


def test_a_csv_file_becomes_a_regression_with_intervals(tmp_path: Path, capsys: Any) -> None:
    path = table(tmp_path)
    # The label says nearly all of y: a column that tells the target is for the user to drop.
    text = "\n".join(line.rpartition(",")[0] for line in path.read_text(encoding="utf-8").splitlines())
    path.write_text(text, encoding="utf-8")
    assert train(tmp_path, "--data", str(path), "--target", "y") == 0
    folder = tmp_path / "models" / "mlp-some" / "1"
    manifest = onnx_model.load_manifest(folder)
    check_regression(folder, manifest, path)
    shown = capsys.readouterr().out
    assert "some: 60 rows to learn from, 2 columns" in shown
    assert "60 rows, 2 columns, 1 thread: about " in shown
    assert "r2 0.9" in shown
    assert run(tmp_path, "evaluate", "mlp-some") == 0
    assert "which it was trained on" in capsys.readouterr().out
    again = tmp_path / "again"
    assert run(tmp_path, "report", "mlp-some", "--to", str(again)) == 0
    pages = [(one / "report" / "index.html").read_text(encoding="utf-8") for one in (folder, again)]
    assert pages[0] == pages[1]
    assert pages[0].index("R²") < pages[0].index("python -m training")
    assert "Calibration of the intervals" in pages[0]


def check_regression(folder: Path, manifest: Manifest, path: Path) -> None:
    assert (manifest.task, manifest.modality, manifest.made.recipe) == ("regress", "table", "mlp")
    assert manifest.table is not None
    assert manifest.target is not None
    first, second = manifest.table.columns
    assert isinstance(first, NumberColumn)
    assert (first.name, first.unit, first.missing, second.kind) == ("a", "cm", True, "category")
    assert (manifest.target.name, manifest.target.unit) == ("y", "kg")
    quality = {measure.name: measure for measure in manifest.quality}
    assert quality["r2"].value > 0.9
    assert quality["r2"].seeds == (0, 1)
    assert quality["r2"].spread is not None
    assert quality["coverage_90"].value > 0.75
    assert quality["mae"].unit == "kg"
    assert manifest.conformal is not None
    assert len(manifest.conformal.scores) == 60
    # The graph itself: near the truth, with a wider interval where a is missing.
    rows = np.array([[5.0, 0.0], [5.0, 1.0], [np.nan, 0.0]], np.float32)
    answers, reach = answers_of(folder, manifest, rows)
    assert answers[:2, 0] == pytest.approx([15.0, 20.0], abs=1.5)
    assert answers[2, 1] > answers[0, 1] > 0
    assert (np.diff(reach[0]) > 0).all()


def test_an_interrupted_cross_validation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = tables.load(str(table(tmp_path)), target_column="label")
    task = model.task_of(dataset)
    calls = []
    real = nested.repeat

    def counted(*args: Any, seed: int) -> nested.Repetition:
        if len(calls) == 1:
            calls.append(-1)
            raise KeyboardInterrupt
        calls.append(seed)
        return real(*args, seed=seed)

    monkeypatch.setattr(nested, "repeat", counted)

    def rounds() -> list[nested.Repetition]:
        found = nested.nested(dataset.train_x, dataset.train_y, task, QUICK, folder=tmp_path / "run", repetitions=2)
        return list(found)

    with pytest.raises(KeyboardInterrupt):
        rounds()
    resumed = rounds()
    assert calls == [0, -1, 1]
    monkeypatch.setattr(nested, "repeat", real)
    whole = list(nested.nested(dataset.train_x, dataset.train_y, task, QUICK, repetitions=2))
    for one, other in zip(resumed, whole, strict=True):
        assert np.array_equal(one.answers, other.answers)


def test_nested_answers_come_from_nets_that_did_not_see_the_row() -> None:
    # Labels drawn at random: whoever has seen a row can know its label, nobody else can.
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(80, 20, generator=generator), torch.randint(0, 2, (80,), generator=generator)
    task = model.Task(layout=model.Layout(numbers=tuple(range(20)), categories=(), missing=()), classes=2)
    plan = Plan(grid=(Setting(widths=(8,), decay=0.01),))
    found = nested.repeat(x, y, task, plan, seed=0)
    right = figures(found.answers, y.numpy(), found.reach)["accuracy"]
    assert 0.25 < right < 0.75
    assert found.answers.sum(axis=1) == pytest.approx(np.ones(80))


def test_copies_of_rows_are_not_known_by_heart() -> None:
    """Labels at random again, every row three times: nets that saw a copy would know."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 20, generator=generator), torch.randint(0, 2, (40,), generator=generator)
    x, y = x.repeat_interleave(3, 0), y.repeat_interleave(3)
    x[:60, 3] = float("nan")
    task = model.Task(layout=model.Layout(numbers=tuple(range(20)), categories=(), missing=(3,)), classes=2)
    found = nested.repeat(x[:100], y[:100], task, Plan(grid=(Setting(widths=(8,), decay=0.01),)), seed=0)
    assert figures(found.answers, y[:100].numpy(), found.reach)["accuracy"] < 0.75


def test_each_label_has_figures_of_its_own() -> None:
    answers = np.array([[0.9, 0.1, 0.0]] * 6 + [[0.2, 0.8, 0.0]] * 2)
    y = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    labels = ("ok", "fraud!", "\u732b")
    found = figures(answers, y, np.zeros((8, 0)), labels=labels)
    own = {name: value for name, value in found.items() if name not in ("accuracy", "nll", "brier", "ece")}
    assert own == {
        "share_commonest": 5 / 8,
        "recall_ok": 1.0,
        "precision_ok": 5 / 6,
        "recall_fraud": 0.5,
        "precision_fraud": 0.5,
        "recall_2": 0.0,  # and what is never answered has no precision
    }
    assert set(own) <= set(label_words(labels))
    assert "'\u732b'" in label_words(labels)["recall_2"]


def test_a_rare_label_that_is_never_answered_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{v:.3f},{'rare' if i % 20 == 0 else 'common'}" for i, v in enumerate(rng.normal(size=200))]
    path = tmp_path / "some.csv"
    path.write_text("\n".join(["x,label", *rows]), encoding="utf-8")
    assert train(tmp_path, "--data", str(path), "--target", "label") == 0
    folder = tmp_path / "models" / "mlp-some" / "1"
    quality = {one.name: one for one in onnx_model.load_manifest(folder).quality}
    assert quality["share_commonest"].value == 0.95
    assert quality["recall_rare"].value < 0.3
    assert "of 10 rows, 95 % interval" in quality["recall_rare"].protocol
    report = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "Share of the commonest label" in report
    assert "Recall, rare" in report


def test_a_missing_target_is_one_line(tmp_path: Path, capsys: Any) -> None:
    assert train(tmp_path, "--data", str(table(tmp_path))) == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert told.count("\n") == 0
    assert "--target; there are a [cm], b, y [kg], label" in told


def steps(folder: Path, *, rows: int = 160) -> Path:
    """A number that jumps up and down with another, which is for the trees; some of that is missing."""
    rng = np.random.default_rng(0)
    a, b, c = rng.integers(0, 60, rows) / 10, rng.integers(0, 60, rows) / 10, rng.integers(0, 4, rows)
    y = 10 * (np.floor(a) % 2) + 3 * (c == 2) + rng.normal(size=rows) * 0.3
    lines = ["a,b,c,y"] + [f"{'' if i % 9 == 0 else a[i]},{b[i]},{'pqrs'[c[i]]},{y[i]:.3f}" for i in range(rows)]
    path = folder / "steps.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_trees_are_published_with_what_they_weigh(tmp_path: Path, capsys: Any) -> None:
    assert train(tmp_path, "--data", str(steps(tmp_path)), "--target", "y") == 0
    folder = tmp_path / "models" / "mlp-steps" / "1"
    manifest = onnx_model.load_manifest(folder)
    quality = {one.name: one for one in manifest.quality}
    assert quality["r2"].value > quality["r2_nets_alone"].value + 0.2
    assert quality["r2_trees_alone"].value > 0.5
    assert quality["coverage_90"].value > 0.8
    assert "of the trees alone, whose weight in the ensemble is " in quality["rmse_trees_alone"].protocol
    assert "boosted trees of up to 4 leaves" in manifest.summary
    report = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "trees of 4 leaves" in report
    assert "in the nested rounds)" in report
    graph = onnx.load(folder / "regressor.onnx")
    assert [node.op_type for node in graph.graph.node].count("TreeEnsembleRegressor") == 1
    # Rows of a batch answer as they do alone; unknown and missing values are answered.
    rows = np.array([[1.5, 1, 0], [4.5, 1, 1], [np.nan, np.nan, np.nan], [99, -99, 7]], np.float32)
    together, _ = answers_of(folder, manifest, rows)
    alone = np.concatenate([answers_of(folder, manifest, rows[i : i + 1])[0] for i in range(4)])
    assert together == pytest.approx(alone, rel=1e-5)
    assert together[:2, 0] == pytest.approx([10, 0], abs=4)
    assert np.isfinite(together).all()
    assert manifest.made.parameters > sum(len(one.float_data) for one in graph.graph.initializer)
    capsys.readouterr()


def test_trees_that_answer_otherwise_in_the_graph_are_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("training.families.tabular.tree_graph._down", lambda threshold: threshold + 0.01)
    assert train(tmp_path, "--data", str(steps(tmp_path)), "--target", "y") == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: regressor.onnx: ")
    assert "scikit-learn" in said or "torch" in said
    assert not (tmp_path / "models" / "mlp-steps").exists()


def test_a_budget_is_kept_and_what_was_dropped_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Nothing fits into a second: one repetition, and the shortest training."""
    assert train(tmp_path, "--data", str(table(tmp_path)), "--target", "label", "--budget", "1s") == 0
    shown = capsys.readouterr().out
    words = "1 of 2 settings of nets, 1 of 1 of trees, trainings of 10 % of the length"
    assert f"to keep --budget: about 1 of 2 repetitions, {words}" in shown
    assert f"To keep --budget: 1 of 2 repetitions, {words}" in shown
    folder = tmp_path / "models" / "mlp-some" / "1"
    manifest = onnx_model.load_manifest(folder)
    assert {one.seeds for one in manifest.quality} == {(0,)}
    assert f"To keep the time that was given: 1 of 2 repetitions, {words}" in (
        folder / "report" / "index.html"
    ).read_text(encoding="utf-8")


@pytest.mark.slow
def test_will_i_pass_is_answered_as_the_rule_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("sys.argv", ["python -m training"])
    assert train(tmp_path, "--data", "pass") == 0
    folder = tmp_path / "models" / "mlp-pass" / "1"
    quality = {one.name: one.value for one in onnx_model.load_manifest(folder).quality}
    dataset = tables.load("pass")
    rule = truth_figures(dataset)
    assert quality["accuracy"] > rule["accuracy"] - 0.01
    assert quality["nll"] < rule["nll"] + 0.02
