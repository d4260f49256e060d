"""The figures of a model: the headlines as tiles, and every measure with its protocol, seeds and goal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from string import ascii_lowercase
from typing import Final

from app.core.manifest import Manifest, Measure
from app.core.metric_names import THIN, decimals, figure, goal_of, kind_of, title_of, verdict
from training.metrics.onnx_model import Latency
from training.reporting.formatting import count, milliseconds
from training.reporting.html import Section, note
from training.reporting.table import Cell, table, wide

HEADLINES: Final = ("accuracy", "nll", "ece")
LONG: Final = 40  # letters of a clause from which on a letter stands for it
PROTOCOLS: Final = {
    "accuracy": "share of rows whose largest probability is at the true label",
    "nll": "mean of −ln p(true label), probabilities clipped at 1e-12",
    "ece": "expected calibration error in 15 bins of equal mass",
    "brier": "squared distance to the one-hot truth, summed over classes, 0 to 2",
}


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


def figures(m: Manifest, own: Mapping[str, float] | None = None, *, unit: str = "rows", before: str = "") -> Section:
    """Every measure of the manifest with its protocol, seeds and goal.

    Args:
        own: figures of this very model, worked out for this page, by the names that manifests use.
        unit: what was counted. before: HTML that opens the section, where there are figures.
    """
    body = _own_beside(m, own) if own else _published(m, unit)
    return Section("figures", "Figures", f"{before}{body}" if body else "")


def _published(m: Manifest, unit: str) -> str:
    said, about = _protocols(m.quality, unit=unit)
    rows = [(wide(title_of(q.name), words), _value(q), _goal(q)) for q, words in zip(m.quality, about, strict=True)]
    return f"{table(('Measure', 'Value', 'Goal'), rows)}{said}" if rows else ""


def _own_beside(m: Manifest, own: Mapping[str, float]) -> str:
    known = {kind_of(q.name) for q in m.quality}
    others = [(name, Cell(figure(value, name))) for name, value in own.items() if name not in known]
    if not m.quality:
        return table(("Measure", "This model"), [(wide(title_of(name), PROTOCOLS[name]), v) for name, v in others])
    said, about = _protocols(m.quality)
    rows: list[tuple[Cell | None, ...]] = [
        (
            wide(title_of(q.name), words),
            _value(q),
            next((Cell(figure(own[name], name)) for name in own if name == kind_of(q.name)), None),
            _goal(q),
        )
        for q, words in zip(m.quality, about, strict=True)
    ]
    rows += [(wide(title_of(name), PROTOCOLS[name]), None, value, None) for name, value in others]
    words = (
        "Published: as in the manifest, the mean and sample standard deviation where there are several seeds. This "
        "model: computed for this page from the probabilities of this model."
    )
    return f"{note(words)}{table(('Measure', 'Published', 'This model', 'Goal'), rows)}{said}"


def _value(q: Measure) -> Cell:
    return Cell(figure(q.value, q.name, q.unit), _spread(q))


def _goal(q: Measure) -> Cell | None:
    return None if q.goal is None else Cell(goal_of(q), verdict(q))


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


def _seeds(seeds: Sequence[int]) -> str:
    return f"one seed: {seeds[0]}" if len(seeds) == 1 else f"mean of seeds {', '.join(map(str, seeds))}"
