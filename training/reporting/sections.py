"""The sections of reports, each a function from figures to HTML. Every foreign word is escaped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from string import ascii_lowercase
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest, Measure
from app.core.metric_names import THIN, decimals, figure, goal_of, kind_of, title_of, verdict
from training.metrics import classification as measure
from training.metrics.onnx_model import Latency
from training.reporting import charts
from training.reporting.words import count, milliseconds, reading, seconds, table

HEADLINES: Final = ("accuracy", "nll", "ece")
LONG: Final = 40  # letters of a clause from which on a letter stands for it

Probabilities = NDArray[np.float32]


def tiles(
    m: Manifest, headlines: Sequence[str], own: Mapping[str, float], rows: str, latency: Sequence[Latency]
) -> str:
    """The headline figures beside their goals; `rows` says what the model's own figures were measured on."""
    found = []
    for name in headlines:
        q = next((q for q in m.quality if name in (q.name, kind_of(q.name))), None)
        if q is not None:
            lines = [_spread(q), _seeds(q.seeds)]
            if q.goal is not None:
                lines += [f"goal: {goal_of(q)}", verdict(q)]
            if len(q.seeds) > 1 and name in own:
                lines.append(f"this model alone: {figure(own[name], name)}")
            found.append(_tile(title_of(name), figure(q.value, q.name, q.unit), lines))
        elif name in own:
            found.append(_tile(title_of(name), figure(own[name], name), [escape(rows)]))
    if latency:
        first = min(latency, key=lambda entry: entry.rows)
        unit = "picture" if m.sampling is None else "evaluation"
        what = f"one {unit}" if first.rows == 1 else f"{first.rows} {unit}s"
        lines = [f"95{THIN}% within {milliseconds(first.p95_ms)}{THIN}ms", escape(first.device)]
        found.append(_tile(f"Time for {what}", f"{milliseconds(first.median_ms)}{THIN}ms", lines))
    return f'<div class="tiles">{"".join(found)}</div>' if found else ""


def _tile(title: str, value: str, lines: Sequence[str]) -> str:
    number, _, unit = value.partition(THIN)
    inside = "".join(f"<span>{line}</span>" for line in lines if line)
    return f'<div class="tile">{title}<b>{number}<i>{THIN}{unit}</i></b>{inside}</div>'


def reproduce(m: Manifest, evaluate_command: str) -> str:
    """The two commands that make the model and its figures again."""
    return (
        f'<div class="commands"><h3>Make it again</h3><pre>{escape(m.made.command)}</pre>'
        f"<h3>Measure it again, from the ONNX file alone</h3><pre>{escape(evaluate_command)}</pre></div>"
    )


def figures(m: Manifest, own: Mapping[str, float]) -> str:
    """Every measure of the manifest with protocol and seeds; this model's own where the manifest has none."""
    rows = []
    said, about = _protocols(m.quality)
    for q, words in zip(m.quality, about, strict=True):
        spread = "" if q.spread is None else f"<small>{_spread(q)}</small>"
        same = next((figure(own[name], name) for name in own if name == kind_of(q.name)), "–")
        goal = f"{goal_of(q)}<small>{verdict(q)}</small>" if q.goal is not None else "–"
        value = figure(q.value, q.name, q.unit)
        rows.append(_row(title_of(q.name), words, f"{value}{spread}", same, goal))
    known = {kind_of(q.name) for q in m.quality}
    rows += [
        _row(title_of(name), PROTOCOLS[name], *(("–", figure(mine, name), "–") if m.quality else (figure(mine, name),)))
        for name, mine in own.items()
        if name not in known
    ]
    if not rows:
        return ""
    if not m.quality:
        return table(("Measure", "This model"), rows)
    return (
        '<p class="note">Published: as the manifest says, the mean and sample standard deviation where there are '
        "several seeds. This model: worked out for this page from the probabilities of the model beside it.</p>"
        f"{table(('Measure', 'Published', 'This model', 'Goal'), rows)}{said}"
    )


def measures(m: Manifest, *, unit: str = "rows") -> str:
    """Every measure of the manifest with its protocol and goal, for models whose figures are all of one net.

    `unit` says of what there were so many.
    """
    said, about = _protocols(m.quality, unit=unit)
    rows = [
        _row(
            title_of(q.name),
            words,
            f"{figure(q.value, q.name, q.unit)}{'' if q.spread is None else f'<small>{_spread(q)}</small>'}",
            f"{goal_of(q)}<small>{verdict(q)}</small>" if q.goal is not None else "–",
        )
        for q, words in zip(m.quality, about, strict=True)
    ]
    return f"{table(('Measure', 'Value', 'Goal'), rows)}{said}" if rows else ""


def _protocols(quality: Sequence[Measure], *, unit: str = "rows") -> tuple[str, list[str]]:
    """What is to be said once below the table, and of each measure what is its own. HTML.

    A protocol is clauses between semicolons. What all share is said once, and so is a long clause that some share: it
    gets a letter there, which stands for it in the rows.
    """
    clauses = [[*q.protocol.rstrip(".").split("; "), f"{count(q.rows)} {unit}", _seeds(q.seeds)] for q in quality]
    often = Counter(clause for own in clauses for clause in dict.fromkeys(own))
    common = [clause for clause in often if len(quality) > 1 and often[clause] == len(quality)]
    shared = [clause for clause in often if clause not in common and often[clause] > 1 and len(clause) > LONG]
    letters = dict(zip(shared, ascii_lowercase, strict=False))
    about = [
        "; ".join(f"({letters[c]})" if c in letters else escape(c) for c in own if c not in common) for own in clauses
    ]
    lines = [f"({letter}) {escape(clause)}." for clause, letter in letters.items()]
    if common:
        lines.append(f"All: {escape('; '.join(common))}.")
    return "".join(f'<p class="said">{line}</p>' for line in lines), about


def _spread(q: Measure) -> str:
    """`± 0.02 %`, with the decimals of the value; nothing where there is none."""
    digits = decimals(q.value, q.name, q.unit)
    return "" if q.spread is None else f"± {figure(q.spread, q.name, q.unit, digits=digits)}"


def _row(title: str, about: str, *cells: str) -> str:
    inside = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><td class="wide">{escape(title)}<small>{about}</small></td>{inside}</tr>'


PROTOCOLS: Final = {
    "accuracy": "share of rows whose largest probability is at the true label",
    "nll": "mean of −ln p(true label), probabilities clipped at 1e-12",
    "ece": "expected calibration error in 15 bins of equal mass",
    "brier": "squared distance to the one-hot truth, summed over classes, 0 to 2",
}


def curves(history: Sequence[Mapping[str, float]]) -> str:
    """Loss, errors and learning rate by epoch."""

    def line(key: str, label: str, colour: str = "one", *, errors: bool = False) -> charts.Line:
        points = [
            (row.get("epoch", i + 1.0), 100 * (1 - row[key]) if errors else row[key])
            for i, row in enumerate(history)
            if math.isfinite(row.get(key, math.nan))
        ]
        return charts.Line(label=label, points=points, colour="two" if colour == "two" else "one")

    def chart(lines: Sequence[charts.Line], y_label: str, *, log: bool) -> str:
        drawn = charts.line_chart(
            [entry for entry in lines if entry.points], x_label="epoch", y_label=y_label, log_y=log, from_zero=not log
        )
        return f"<figure style='margin:0'>{drawn}</figure>" if drawn else ""

    found = [
        chart([line("loss", "training"), line("held_loss", "held-out", "two")], "Loss, nats", log=True),
        chart(
            [line("accuracy", "training", errors=True), line("held_accuracy", "held-out", "two", errors=True)],
            "Errors, % of rows",
            log=True,
        ),
        chart([line("lr", "learning rate")], "Learning rate", log=False),
    ]
    if not any(found):
        return ""
    last = history[-1]
    words = f"After {len(history)} epoch{'s' * (len(history) > 1)}"
    if math.isfinite(last.get("held_accuracy", math.nan)):
        words += f": {100 * last['held_accuracy']:.2f}{THIN}% of the held-out rows right"
    took = [row["seconds"] for row in history if math.isfinite(row.get("seconds", math.nan))]
    speeds = [row.get("images_per_s", row.get("rows_per_s", math.nan)) for row in history]
    speeds = [v for v in speeds if math.isfinite(v)]
    if took:
        words += f"; {seconds(float(np.mean(took)))} per epoch"
    if speeds:
        words += f", {count(round(float(np.median(speeds))))} pictures per second"
    return (
        f'<p class="note">{words}. Training figures are running means over augmented rows, '
        "and of a smoothed loss if the recipe smooths labels: they may well lie above the held-out ones.</p>"
        f'<div class="charts">{"".join(found)}</div>'
    )


def calibration(p: Probabilities, uncalibrated: Probabilities | None, y: NDArray[np.int64], m: Manifest) -> str:
    """Reliability diagrams before and after the temperature, and the equal-mass bins that the ECE is made of."""
    panels = []
    for title, label, q in (("Before", "before calibration", uncalibrated), ("After", "after calibration", p)):
        if q is None:
            continue
        heading = "" if uncalibrated is None else f"{title}: "
        ece, nll = measure.expected_calibration_error(q, y), measure.negative_log_likelihood(q, y)
        panels.append(
            f"<figure style='margin:0'><h3>{heading}ECE {figure(ece, 'ece')}, NLL {figure(nll, 'nll')}</h3>"
            f"{charts.reliability_chart(measure.equal_width_bins(q, y), label=label)}</figure>"
        )
    words = (
        "Of the rows answered with 80 % confidence, about 80 % should be right: then the dots lie on the diagonal. "
        "Whiskers are 95 % intervals; the bars count the rows of each step of confidence, on a log scale."
    )
    if m.calibration is not None:
        words += (
            f" The temperature is {m.calibration.temperature:.3f}, fitted on {count(m.calibration.rows)} held-out rows "
            "and baked into the graph."
        )
    rows = [
        f"<tr><td>{100 * b.low:.3f} to {100 * b.high:.3f}</td><td>{count(b.rows)}</td><td>{100 * b.confidence:.3f}</td>"
        f"<td>{100 * b.accuracy:.3f}</td><td>{100 * (b.accuracy - b.confidence):+.3f}</td></tr>"
        for b in measure.equal_mass_bins(p, y)
    ]
    titles = ("Confidence, %", "Rows", "Mean confidence, %", "Right, %", "Gap, points")
    return (
        f'<p class="note">{words}</p><div class="charts two">{"".join(panels)}</div>'
        "<details><summary>The 15 bins of equal mass that the ECE is made of</summary>"
        f"{table(titles, rows)}</details>"
    )


def latency(entries: Sequence[Latency]) -> str:
    """Time of one run by batch size: table and plot."""
    if not entries:
        return ""
    entries = sorted(entries, key=lambda entry: entry.rows)
    rows = [
        f"<tr><td>{e.rows}</td><td>{milliseconds(e.median_ms)}</td><td>{milliseconds(e.p95_ms)}</td>"
        f"<td>{count(round(1000 * e.rows / e.median_ms))}</td><td>{e.repeats}</td></tr>"
        for e in entries
    ]
    plot = charts.line_chart(
        [
            charts.Line(
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
    titles = ("Pictures per run", "Median, ms", "95 % within, ms", "Pictures per s", "Runs timed")
    return (
        f'<p class="note">One run of the graph after a warm-up: {escape(entries[0].device)}. Decoding, queue and '
        f'HTTP come on top.</p><div class="side">{table(titles, rows)}'
        f'<div class="plot">{plot}</div></div>'
    )


def facts(m: Manifest) -> str:
    """Data, training and files, as the manifest says."""
    d, made = m.data, m.made
    split = f"{count(d.rows_train)} to train, {count(d.rows_held_out)} held out, {count(d.rows_test)} to test"
    entries = [
        ("Summary", m.summary),
        ("Data", d.name),
        ("Source", d.source),
        ("Licence", d.licence),
        ("Rows", split),
        ("Note", d.note),
        ("Classes", f"{len(m.labels)}" if m.labels else ""),
        ("Pictures are read", reading(m.picture)),
        ("Parameters", count(made.parameters)),
        ("Precision in training", made.precision),
        ("Training took", seconds(made.train_s)),
        ("Trained on", made.machine),
        ("Made at", made.at),
        (
            "Parity",
            f"at most {made.parity_max_abs:.1e} between ONNX Runtime and torch, on {count(made.parity_rows)} rows",
        ),
        ("Packages", ", ".join(f"{name} {version}" for name, version in sorted(made.packages.items()))),
    ]
    entries += [(f"Graph “{name}”", f"{graph.file}, sha256 {graph.sha256}") for name, graph in m.graphs.items()]
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in entries if v) + "</dl>"


def _seeds(seeds: Sequence[int]) -> str:
    return f"one seed: {seeds[0]}" if len(seeds) == 1 else f"mean of seeds {', '.join(map(str, seeds))}"
