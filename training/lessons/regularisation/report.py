"""The page of the lesson on regularisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from app.core.metric_names import THIN
from training.reporting import lesson
from training.reporting.charts import COLOURS, Line, line_chart
from training.reporting.formatting import count
from training.reporting.html import Section, charts, note
from training.reporting.table import Row, table


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One remedy on one draw: its curves up to where its net was taken, and that net on the test rows."""

    name: str
    chosen: str
    epochs: list[int]
    train: list[float]
    held: list[float]
    test_loss: float
    test_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Contest:
    """All remedies on one draw, in the same order always; strength, training loss and held-out loss at the end."""

    entries: list[Entry]
    by_decay: list[tuple[float, float, float]]
    by_dropout: list[tuple[float, float, float]]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    contests: list[Contest]
    least: float  # the test loss of the rule that generated the rows
    setting: str
    test_rows: int


def findings(contests: Sequence[Contest], least: float) -> list[str]:
    """A line per remedy with its test figures, mean and sample standard deviation over the draws."""
    lines = []
    for name, losses, accuracies in _by_name(contests):
        spread = f" +- {np.std(losses, ddof=1):.3f}" if len(losses) > 1 else ""
        lines.append(
            f"{name:15} test loss {np.mean(losses):.3f}{spread} nats, right {100 * float(np.mean(accuracies)):.1f} %"
        )
    return [*lines, f"{'the rule itself':15} test loss {least:.3f} nats"]


def claim(contests: Sequence[Contest], least: float) -> str:
    """What the test rows say, and no more than that."""
    means = {name: float(np.mean(losses)) for name, losses, _ in _by_name(contests)}
    nothing = means.pop("nothing")
    helped = [
        f"{name} {mean:.2f}" for name, mean in sorted(means.items(), key=lambda entry: entry[1]) if mean < nothing
    ]
    rest = [f"{name} {mean:.2f}" for name, mean in means.items() if mean >= nothing]
    words = f"Test loss with nothing done: {nothing:.2f} nats"
    words += f"; with {', with '.join(helped)}" if helped else "; no remedy had less"
    words += f"; no better: {', '.join(rest)}" if rest else ""
    return f"{words}. The rule that generated the rows has {least:.2f}. Means over {len(contests)} draws of the rows."


def write(found: Lesson, folder: Path) -> Path:
    """Write `folder/index.html`."""
    first = found.contests[0]
    return lesson.write(
        folder,
        title="Three remedies for overfitting",
        claim=escape(claim(found.contests, found.least)),
        command="python -m training regularisation",
        sections=[
            Section("curves", "Overfitting", _curves(first, found)),
            Section("strengths", "Strength of each remedy", _strengths(first)),
            Section("test", "Test rows", _test(found)),
        ],
    )


def _by_name(contests: Sequence[Contest]) -> list[tuple[str, list[float], list[float]]]:
    """(name, test losses, test accuracies), one value per draw."""
    return [
        (one[0].name, [entry.test_loss for entry in one], [entry.test_accuracy for entry in one])
        for one in zip(*(contest.entries for contest in contests), strict=True)
    ]


def _curves(first: Contest, found: Lesson) -> str:
    drawings = []
    for title, part in (("Loss on the training rows, nats", "train"), ("Loss on held-out rows, nats", "held")):
        lines = [
            Line(
                label=entry.name,
                points=list(zip(map(float, entry.epochs), getattr(entry, part), strict=True)),
                colour=colour,
            )
            for entry, colour in zip(first.entries, COLOURS, strict=False)
        ]
        drawings.append(line_chart(lines, x_label="epoch", y_label=title, log_y=True, legend=False))
    names = [entry.name for entry in first.entries]
    return (
        note(
            f"{escape(found.setting)} The first of {len(found.contests)} draws. Left, the training rows; right, rows "
            "that are not trained on. Early stopping is the same training as nothing, stopped where the held-out loss "
            "was lowest."
        )
        + lesson.key(names)
        + charts(drawings, columns="two")
    )


def _strengths(first: Contest) -> str:
    drawings = [
        line_chart(
            [
                Line(label="training", points=[(s, train) for s, train, _ in by]),
                Line(label="held-out", points=[(s, held) for s, _, held in by], colour="two"),
            ],
            x_label=f"{name}, the smallest to the greatest tried",
            y_label="Loss at the end, nats",
            log_x=True,
            log_y=True,
            x_ticks=[s for s, _, _ in by],
        )
        for name, by in (("weight decay", first.by_decay), ("dropout", first.by_dropout))
    ]
    return note(
        "Each remedy has a strength, and each was tried at four; the one with the lowest held-out loss at the end was "
        "taken. The training loss cannot show which is best."
    ) + charts(drawings, columns="two")


def _test(found: Lesson) -> str:
    rows: list[Row] = []
    for i, (name, losses, accuracies) in enumerate(_by_name(found.contests)):
        every = [contest.entries[i].chosen for contest in found.contests]
        chosen = every[0] if len(set(every)) == 1 else ", ".join(every)
        spread = f" ± {np.std(losses, ddof=1):.3f}" if len(losses) > 1 else ""
        rows.append(
            (
                name,
                f"{np.mean([c.entries[i].train[-1] for c in found.contests]):.3f}",
                f"{np.mean([c.entries[i].held[-1] for c in found.contests]):.3f}",
                f"{np.mean(losses):.3f}{spread}",
                f"{100 * float(np.mean(accuracies)):.1f}{THIN}%",
                chosen,
            )
        )
    rows.append(("the rule itself", None, None, f"{found.least:.3f}", "", ""))
    titles = ("Remedy", "Training loss", "Held-out loss", "Test loss, nats", "Right", "Chosen, by draw")
    return note(
        f"{count(found.test_rows)} rows used for nothing else. Means over {len(found.contests)} draws of the other "
        "rows, ± one standard deviation between draws. Held-out losses are a little too low, since they chose the "
        "strengths and the epoch."
    ) + table(titles, rows)
