"""The report of a model of a table."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest, Measure
from app.core.manifest.table import DateColumn, NumberColumn
from app.core.metric_names import THIN, figure
from training.data.table import TableDataset
from training.families.tabular import charts as tabular_charts
from training.families.tabular import surface
from training.families.tabular.evidence import SHUFFLES, Evidence
from training.families.tabular.groups import ENOUGH, groups_of
from training.families.tabular.metrics import answers_of, truth_figures, within_90
from training.families.tabular.metrics import figures as figures_of
from training.families.tabular.nested import COVERAGES, OUTER
from training.metrics.classification import wilson_interval
from training.reporting.ablations import tried
from training.reporting.calibration import calibration
from training.reporting.figures import figures
from training.reporting.formatting import count
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, charts, note
from training.reporting.html import figure as shown
from training.reporting.made import made
from training.reporting.page import Page
from training.reporting.table import Cell, Row, label, table, wide

Floats = NDArray[np.floating[Any]]
SHOWN: Final = 200  # rows in a chart of single rows


def page(folder: Path, manifest: Manifest, dataset: TableDataset, evidence: Evidence) -> Page:
    """The page of the model in `folder`; runs its graph on the test rows, where there are any."""
    unseen = Unseen(folder, manifest, dataset, evidence)
    if dataset.labels:
        trust = calibration(unseen.answers, None, unseen.y, manifest)
    else:
        trust = _intervals(unseen, manifest)
    return Page(
        manifest=manifest,
        claim=_claim(unseen, manifest, evidence) + _best_possible(dataset),
        sections=[
            figures(manifest),
            Section("surface", "Predictions over two columns", surface.section(folder, manifest, dataset, evidence)),
            trust,
            Section("importances", "Importance of the columns", _importances(dataset, evidence)),
            Section("training", "Learning curves", _curves(evidence, manifest)),
            Section("choice", "Model selection", _choice(evidence, manifest)),
            tried(Path(__file__).parent, "tables"),
            made(manifest, before=_columns(manifest)),
        ],
        headlines=("accuracy", "nll", "brier") if dataset.labels else ("r2", "mae", "coverage_90", "width_90"),
    )


class Unseen:
    """Predictions of rows not used in training: the test rows, or all rows by the nets of the first nested round.

    `answers` (N, K) are probabilities, or (N, 2) value and scale; `reach` (N, C); `y` (N,).
    """

    def __init__(self, folder: Path, manifest: Manifest, dataset: TableDataset, evidence: Evidence) -> None:
        self.tested = len(dataset.test_y) > 0
        if self.tested:
            answers, reach = answers_of(folder, manifest, dataset.test_x.numpy())
        else:
            answers, reach = evidence.answers, evidence.reach
        self.answers, self.reach = answers.astype(np.float32), reach
        self.y = (dataset.test_y if self.tested else dataset.train_y).numpy()
        self.groups = groups_of(dataset.table, (dataset.test_x if self.tested else dataset.train_x).numpy())
        self.figures = figures_of(answers, self.y, reach)


def _measure(m: Manifest, name: str) -> Measure | None:
    return next((q for q in m.quality if q.name == name), None)


def _claim(unseen: Unseen, m: Manifest, evidence: Evidence) -> str:
    rows = count(len(unseen.y))
    how = (
        f"on {rows} test rows not used in training"
        if unseen.tested
        else f"on all {rows} rows, each predicted by members not trained on it ({evidence.rounds} × {OUTER} nested "
        "cross-validation)"
    )
    if m.task == "classify":
        accuracy, nll = _measure(m, "accuracy"), _measure(m, "nll")
        if accuracy is None or nll is None:
            return escape(m.summary)
        return (
            f"Predicts the right one of {len(m.labels)} labels in "
            f"<strong>{figure(accuracy.value, 'accuracy')}</strong> of cases, {how}. The negative log-likelihood of "
            f"its probabilities is {figure(nll.value, 'nll')} a row."
        )
    r2, covered = _measure(m, "r2"), _measure(m, "coverage_90")
    if r2 is None or covered is None or m.target is None:
        return escape(m.summary)
    unit = f"{THIN}{escape(m.target.unit)}" if m.target.unit else ""
    width = _measure(m, "width_90")
    mean_width = f", {width.value:.3g}{unit} wide on average," if width is not None else ""
    return (
        f"Predicts {escape(m.target.name)} with <strong>R² {r2.value:.3f}</strong>, {how}. "
        f"Its 90{THIN}% intervals{mean_width} contain {100 * covered.value:.1f}{THIN}% of the true values."
    )


def _best_possible(dataset: TableDataset) -> str:
    """What the rule that generated the test rows reaches, where there is one."""
    found = truth_figures(dataset)
    if not found:
        return ""
    if dataset.labels:
        reached = f"{figure(found['accuracy'], 'accuracy')} and {figure(found['nll'], 'nll')}"
    else:
        gaps = " where no value is missing" if bool(dataset.test_x.isnan().any()) else ""
        reached = f"R² {found['r2']:.3f}{gaps}"
    return f" The rule that generated these rows has {reached}: no model can be expected to do better."


def _intervals(unseen: Unseen, m: Manifest) -> Section:
    """Calibration of a regression: whether its prediction intervals hold as often as they say."""
    assert m.target is not None
    name = m.target.name + (f", {m.target.unit}" if m.target.unit else "")
    value, half, y = unseen.answers[:, 0], unseen.answers[:, 1:] * unseen.reach, unseen.y
    nine = half[:, COVERAGES.index(0.9)]
    some = np.random.default_rng(0).permutation(len(y))[:SHOWN]
    found = [unseen.figures[f"coverage_{round(100 * c)}"] for c in COVERAGES]
    drawings = [
        tabular_charts.prediction_chart(value[some], nine[some], y[some], name=name),
        tabular_charts.coverage_chart(COVERAGES, found, len(y)),
        tabular_charts.residual_chart(value[some], nine[some], y[some], name=name),
    ]
    words = (
        f"Left: {count(len(some))} rows with their 90{THIN}% intervals; nine of ten bars should cross the diagonal. "
        "Middle: the share of rows inside an interval over its nominal coverage, with 95 % intervals of the share. "
        "Right: residuals, and the median half-width of the 90 % intervals around them. It differs from row to row: "
        "the nets predict a scale, and the conformal scores of "
        f"{count(len(m.conformal.scores) if m.conformal else 0)} rows calibrate it (Barber et al. 2021)."
    )
    body = note(words) + charts(drawings) + _by_group(unseen)
    return Section("calibration", "Calibration of the intervals", body)


def _by_group(unseen: Unseen) -> str:
    """The share of rows in their 90 % interval, group by group."""
    inside = within_90(unseen.answers, unseen.y, unseen.reach)
    rows: list[Row] = []
    for group in unseen.groups:
        hits, size = int(inside[group.rows].sum()), int(group.rows.sum())
        low, high = wilson_interval(hits, size)
        share = f"{100 * hits / size:.1f}{THIN}%" if group.judged else "too few rows"
        rows.append((label(group.name), size, share, f"{100 * low:.1f} to {100 * high:.1f}{THIN}%"))
    words = (
        f"Rows inside their 90{THIN}% interval, by what they have in common, with the 95{THIN}% interval of the share. "
        f"Of fewer than {ENOUGH} rows the share says too little."
    )
    return note(words) + table(("Group", "Rows", "Inside", "95 % interval"), rows)


def _importances(dataset: TableDataset, evidence: Evidence) -> str:
    names = [column.name for column in dataset.table.columns]
    axis = "NLL gained, nats" if evidence.importance_of == "nll" else "R² lost"
    words = (
        "How much worse the predictions of rows not trained on become when one column is shuffled among them: mean "
        f"and standard deviation of {SHUFFLES} shuffles. Correlated columns share their importance: each alone may "
        "look unimportant."
    )
    return note(words) + shown(tabular_charts.importance_chart(names, evidence.importances, label=axis))


def _curves(evidence: Evidence, m: Manifest) -> str:
    steps, train, held = (evidence.curve[key] for key in ("step", "train", "held"))
    history = [{"step": step, "train": loss} for step, loss in zip(steps, train, strict=True)]
    for row, loss in zip(history, held, strict=False):
        row["held"] = loss
    axis = "Cross-entropy, nats" if m.task == "classify" else "Half squared error"
    lines = [("train", "training"), ("held", "held-out")]
    words = "Mean over the nets of the best shape, each on the rows that it is trained on and on the fold left out."
    if m.task == "regress":
        words += " The target is standardised: predicting its mean would cost 0.5."
    return note(words) + history_charts(history, [Curves(y_label=axis, lines=lines)], x="step")


def _choice(evidence: Evidence, m: Manifest) -> str:
    """Every setting's loss on rows that it was not trained on."""
    loss = "NLL, nats" if m.task == "classify" else "Mean squared error"
    best = min(one["loss"] for one in evidence.grid)
    nets = [one for one in evidence.grid if "widths" in one]
    linear = min((one["loss"] for one in nets if not one["widths"]), default=best)
    rows: list[Row] = []
    for one in sorted(evidence.grid, key=lambda one: float(one["loss"])):
        if "leaves" in one:
            shape, decay = f"trees of {one['leaves']} leaves, {one['rounds']} rounds", "–"
        else:
            shape, decay = " × ".join(map(str, one["widths"])) or "no hidden layer", f"{one['decay']:g}"
        voter = Cell("<strong>in the ensemble</strong>" if one["kept"] else "")
        chosen = [f"{one['chosen']} of {evidence.rounds * OUTER}"] if evidence.rounds else []
        rows.append((shape, decay, f"{one['loss']:.4g}", *chosen, voter))
    titles = [
        "Hidden layers, or trees" if len(nets) < len(evidence.grid) else "Hidden layers",
        "Weight decay",
        loss,
        *(["Chosen"] if evidence.rounds else []),
        "",
    ]
    kept = sum(bool(one["kept"]) for one in nets)
    words = (
        f"{evidence.folds}-fold cross-validation of every setting. The best nets and all within a standard error "
        f"of them form the ensemble, here {kept} with {evidence.nets} nets, one for each fold left out. The best "
        f"setting has {best:.4g}, the best without a hidden layer {linear:.4g}."
    )
    if len(nets) < len(evidence.grid):
        words += (
            f" The best trees beside them have the weight {evidence.weight:.1f} of 1, with which the rows left out are "
            "predicted best"
            + (
                f" ({min(evidence.weights):.1f} to {max(evidence.weights):.1f} in the nested rounds)."
                if evidence.weights
                else "."
            )
        )
    if evidence.dropped:
        words += f" To keep the time that was given: {escape(evidence.dropped)}."
    if evidence.rounds:
        words += (
            f" In the nested rounds the choice was made again {evidence.rounds * OUTER} times, each without a fifth of "
            "the rows."
        )
    return note(words) + table(titles, rows)


def _columns(m: Manifest) -> str:
    assert m.table is not None
    rows: list[Row] = []
    for column in m.table.columns:
        if isinstance(column, NumberColumn):
            unit = f"{THIN}{escape(column.unit)}" if column.unit else ""
            values = f"{column.low:g} to {column.high:g}{unit}"
        elif isinstance(column, DateColumn):
            values = f"{column.written(column.low)} to {column.written(column.high)}"
        else:
            some = ", ".join(column.categories[:12]) + (", …" if len(column.categories) > 12 else "")
            values = escape(some)
        missing = "may be missing" if column.missing else ""
        rows.append((wide(column.name, escape(column.about)), Cell(values), missing))
    return table(("Column", "<Values in training", "<"), rows)
