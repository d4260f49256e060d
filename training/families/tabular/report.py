"""The report of a model of a table."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest, Measure
from app.core.manifest.table import CategoryColumn, NumberColumn
from app.core.metric_names import THIN, figure
from training.data.table import TableDataset
from training.families.tabular import charts as drawn
from training.families.tabular import surface
from training.families.tabular.evidence import SHUFFLES, Evidence
from training.families.tabular.metrics import answers_of, figures, truth_figures
from training.families.tabular.nested import COVERAGES, OUTER
from training.reporting import sections
from training.reporting.charts import Line, line_chart
from training.reporting.page import Page, Section
from training.reporting.words import count, table

Floats = NDArray[np.floating[Any]]
SHOWN: Final = 200  # rows in a chart of single rows
ABLATION: Final = (
    "Why several vote: in two or three nested rounds the best setting alone had an NLL of 0.082 (wine) and 0.077 "
    "(breast cancer), the best six of nine together 0.044 and 0.073; on “grade” they cost 0.005 of R², so a setting "
    "that is clearly worse has no vote. Noise on the inputs, more folds' nets or nets learnt again on all rows changed "
    "nothing that could be told from chance (wine: accuracy 98.0 to 98.3 % each)."
)


def page(folder: Path, manifest: Manifest, dataset: TableDataset, evidence: Evidence) -> Page:
    """The page of the model in `folder`; runs its graph on the test rows, where there are any."""
    judged = Judged(folder, manifest, dataset, evidence)
    parts: list[tuple[str, str, str]] = [
        ("figures", "Figures", sections.figures(manifest, {})),
        ("surface", "What it has learnt", surface.section(folder, manifest, dataset, evidence)),
    ]
    if dataset.labels:
        inside = sections.calibration(judged.answers, None, judged.y, manifest)
        parts.append(("calibration", "Can the probabilities be believed?", inside))
    else:
        parts.append(("intervals", "Can the intervals be believed?", _intervals(judged, manifest)))
    parts += [
        ("importances", "What it looks at", _importances(dataset, evidence)),
        ("curves", "Learning curves", _curves(evidence, manifest)),
        ("choice", "How it was chosen", _choice(evidence, manifest)),
        ("facts", "Facts", _columns(manifest) + sections.facts(manifest)),
    ]
    return Page(
        manifest=manifest,
        claim=_claim(judged, manifest, evidence) + _best_possible(dataset),
        sections=[Section(key=key, title=title, inside=inside) for key, title, inside in parts],
        headlines=("accuracy", "nll", "brier") if dataset.labels else ("r2", "mae", "coverage_90", "width_90"),
    )


class Judged:
    """Rows that the model had not seen when it answered them: the test rows, or all in the first nested round.

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
        self.figures = figures(answers, self.y, reach)


def _measure(m: Manifest, name: str) -> Measure | None:
    return next((q for q in m.quality if q.name == name), None)


def _claim(judged: Judged, m: Manifest, evidence: Evidence) -> str:
    rows = count(len(judged.y))
    how = (
        f"on {rows} test rows that it has not seen"
        if judged.tested
        else f"on all {rows} rows, each answered by nets that had not seen it ({evidence.rounds} × {OUTER} nested "
        "cross-validation)"
    )
    if m.task == "classify":
        accuracy, nll = _measure(m, "accuracy"), _measure(m, "nll")
        if accuracy is None or nll is None:
            return escape(m.summary)
        return (
            f"Names the right one of {len(m.labels)} labels in "
            f"<strong>{figure(accuracy.value, 'accuracy')}</strong> of cases, {how}; its probabilities cost "
            f"{figure(nll.value, 'nll')} a row."
        )
    r2, covered = _measure(m, "r2"), _measure(m, "coverage_90")
    if r2 is None or covered is None or m.target is None:
        return escape(m.summary)
    unit = f"{THIN}{escape(m.target.unit)}" if m.target.unit else ""
    width = _measure(m, "width_90")
    wide = f", {width.value:.3g}{unit} wide on average" if width is not None else ""
    return (
        f"Foretells {escape(m.target.name)} with <strong>R² {r2.value:.3f}</strong>, {how}. "
        f"Its 90{THIN}% intervals{wide}, held {100 * covered.value:.1f}{THIN}% of them."
    )


def _best_possible(dataset: TableDataset) -> str:
    """What the rule that made the test rows would reach, where there is one."""
    found = truth_figures(dataset)
    if not found:
        return ""
    if dataset.labels:
        reached = f"{figure(found['accuracy'], 'accuracy')} and {figure(found['nll'], 'nll')}"
    else:
        gaps = " where no value is missing" if bool(dataset.test_x.isnan().any()) else ""
        reached = f"R² {found['r2']:.3f}{gaps}"
    return f" The rule itself that drew these rows has {reached}: no model can be expected to do better."


def _intervals(judged: Judged, m: Manifest) -> str:
    assert m.target is not None
    name = m.target.name + (f", {m.target.unit}" if m.target.unit else "")
    value, half, y = judged.answers[:, 0], judged.answers[:, 1:] * judged.reach, judged.y
    nine = half[:, COVERAGES.index(0.9)]
    some = np.random.default_rng(0).permutation(len(y))[:SHOWN]
    found = [judged.figures[f"coverage_{round(100 * c)}"] for c in COVERAGES]
    figs = [
        drawn.foretold_chart(value[some], nine[some], y[some], name=name),
        drawn.coverage_chart(COVERAGES, found, len(y)),
        drawn.residual_chart(value[some], nine[some], y[some], name=name),
    ]
    words = (
        f"Left: {count(len(some))} rows with their 90{THIN}% intervals; nine of ten bars should cross the diagonal. "
        "Middle: how many rows lie inside an interval against what was asked for, with 95 % intervals of the share. "
        "Right: what is left over, and the median reach of the 90 % intervals around it, which differs from row to "
        "row: the nets foretell how far off they may be, and the conformal scores of "
        f"{count(len(m.conformal.scores) if m.conformal else 0)} rows set the scale (Barber et al. 2021)."
    )
    charts = "".join(f"<figure style='margin:0'>{one}</figure>" for one in figs)
    return f'<p class="note">{words}</p><div class="charts">{charts}</div>'


def _importances(dataset: TableDataset, evidence: Evidence) -> str:
    names = [column.name for column in dataset.table.columns]
    label = "NLL gained, nats" if evidence.importance_of == "nll" else "R² lost"
    words = (
        f"How much worse rows are answered when one column is shuffled among them, by nets that have not seen them: "
        f"mean and standard deviation of {SHUFFLES} shuffles. Columns that say the same share their importance: each "
        "alone may look idle."
    )
    chart = drawn.importance_chart(names, evidence.importances, label=label)
    return f'<p class="note">{words}</p><figure style="margin:0;max-width:44rem">{chart}</figure>'


def _curves(evidence: Evidence, m: Manifest) -> str:
    steps = evidence.curve["step"]
    lines = [
        Line(label="learnt from", points=list(zip(steps, evidence.curve["train"], strict=True))),
        Line(label="left out", points=list(zip(steps, evidence.curve["held"], strict=False)), colour="two"),
    ]
    label = "Cross-entropy, nats" if m.task == "classify" else "Half squared error"
    chart = line_chart([line for line in lines if line.points], x_label="step", y_label=label)
    words = "Mean over the nets of the best shape, each on the rows that it learns from and on the fold left out."
    if m.task == "regress":
        words += " The target is standardised: 0.5 is what its mean alone would cost."
    return f'<p class="note">{words}</p><figure style="margin:0;max-width:34rem">{chart}</figure>'


def _choice(evidence: Evidence, m: Manifest) -> str:
    """The ablation in a few lines: every setting's loss on rows that it had not seen."""
    loss = "NLL, nats" if m.task == "classify" else "Mean squared error"
    best = min(one["loss"] for one in evidence.grid)
    linear = min((one["loss"] for one in evidence.grid if not one["widths"]), default=best)
    rows = []
    for one in sorted(evidence.grid, key=lambda one: float(one["loss"])):
        shape = " × ".join(map(str, one["widths"])) or "no hidden layer"
        voter = "<strong>in the ensemble</strong>" if one["kept"] else ""
        chosen = f"<td>{one['chosen']} of {evidence.rounds * OUTER}</td>" if evidence.rounds else ""
        rows.append(
            f"<tr><td>{shape}</td><td>{one['decay']:g}</td><td>{one['loss']:.4g}</td>{chosen}<td>{voter}</td></tr>"
        )
    titles = ["Hidden layers", "Weight decay", loss, *(["Chosen"] if evidence.rounds else []), "<"]
    kept = sum(bool(one["kept"]) for one in evidence.grid)
    words = (
        f"{evidence.folds}-fold cross-validation of every setting. The best one and all within a standard error of it "
        f"vote together, here {kept} with {evidence.nets} nets, one for each fold left out. The best setting has "
        f"{best:.4g}, the best without a hidden layer {linear:.4g}."
    )
    if evidence.rounds:
        words += (
            f" In the nested rounds the choice was made anew {evidence.rounds * OUTER} times, each without a fifth of "
            "the rows."
        )
    words += "</p><p class='note'>" + ABLATION
    return f'<p class="note">{words}</p>{table(titles, rows)}'


def _columns(m: Manifest) -> str:
    assert m.table is not None
    rows = []
    for column in m.table.columns:
        if isinstance(column, NumberColumn):
            unit = f"{THIN}{escape(column.unit)}" if column.unit else ""
            values = f"{column.low:g} to {column.high:g}{unit}"
        else:
            assert isinstance(column, CategoryColumn)
            some = ", ".join(column.categories[:12]) + (", …" if len(column.categories) > 12 else "")
            values = escape(some)
        missing = "may be missing" if column.missing else ""
        about = f"<small>{escape(column.about)}</small>" if column.about else ""
        rows.append(
            f'<tr><td class="wide">{escape(column.name)}{about}</td><td class="left">{values}</td>'
            f'<td class="left">{missing}</td></tr>'
        )
    return table(("Column", "<Values in training", "<"), rows)
