"""The report of a net that says in which direction digits move: what remembering does, and what goes without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import THIN
from training.metrics import classification
from training.metrics.onnx_model import Latency
from training.reporting.ablations import tried
from training.reporting.charts import Line, line_chart
from training.reporting.classification import confusion
from training.reporting.figures import figures
from training.reporting.frames import above, over_time, strips
from training.reporting.history import Curves, History, history_charts
from training.reporting.html import Section, charts, figure, note
from training.reporting.latency import latency
from training.reporting.made import made
from training.reporting.mosaics import mosaic
from training.reporting.page import Page
from training.reporting.shapes import shapes

ARROWS: Final = {
    "still": "·",
    "right": "→",
    "up-right": "↗",
    "up": "↑",
    "up-left": "↖",
    "left": "←",
    "down-left": "↙",
    "down": "↓",
    "down-right": "↘",
}
FIRST: Final = 3  # clips that are shown: the first ones
WORST: Final = 3  # and those with most mistakes


@dataclass(frozen=True, kw_only=True)
class MotionReport:
    """Everything the page needs; N test clips of T frames.

    `history` by net, "with" and "without" recurrence; `gates` (2, T, hidden), reset and update, of the first clip.
    """

    manifest: Manifest
    history: Mapping[str, History]
    gates: NDArray[np.float64]
    video: NDArray[np.uint8]  # (N, T, H, W)
    labels: NDArray[np.int64]  # (N, T)
    probabilities: NDArray[np.float32]  # (N, T, L)
    states: NDArray[np.float32]  # (N, T, hidden), after each frame
    without: NDArray[np.float32]  # (N, T, L)
    latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("clips", "Clips, with recurrence and without", self._clips()),
                Section("state", "The state, frame by frame", self._state()),
                Section("time", "Accuracy over the frames of a clip", self._time()),
                figures(m, unit="frames"),
                confusion(self._confusion(self.probabilities), m.labels),
                Section(
                    "without", "Confusion without recurrence", confusion(self._confusion(self.without), m.labels).body
                ),
                Section("training", "Learning curves", self._training()),
                latency(self.latency, before=note("A row is one frame with the state that the frame before it left.")),
                tried(Path(__file__).parent, "moving digits"),
                shapes("synced many to many"),
                made(m),
            ],
            headlines=("accuracy", "accuracy_without_recurrence", "nll"),
        )

    def _claim(self) -> str:
        found = {q.name: q.value for q in self.manifest.quality}
        return (
            "Says of every frame in which of eight directions a digit has just moved. With a state that goes on from "
            f"frame to frame it is right in <strong>{100 * found['accuracy']:.2f}{THIN}%</strong> of the frames. "
            "The same net, trained in the same way, but made to forget its state before every frame, is right in "
            f"{100 * found['accuracy_without_recurrence']:.1f}{THIN}%: one picture tells nothing of a motion."
        )

    def _clips(self) -> str:
        wrong = (self.probabilities.argmax(2) != self.labels).sum(1)
        worst = [int(i) for i in np.argsort(-wrong, kind="stable")[:WORST] if wrong[i]]
        blocks = []
        for title, numbers in (("The first test clips", range(FIRST)), ("Those with most mistakes", worst)):
            if numbers:
                blocks.append(f"<h3>{title}</h3>" + "".join(self._clip(i) for i in numbers))
        words = (
            "Frames from left to right. Below, the direction of the step from the frame before (a dot: still), and "
            "what the two nets say; red is wrong. The field has no edge: what leaves it on one side comes back on the "
            f"other, so that the place of a digit tells nothing. {int((wrong > 0).sum())} of {len(wrong):,} clips have "
            "a mistake."
        )
        return note(words) + "".join(blocks)

    def _clip(self, i: int) -> str:
        frames = mosaic(self.video[i][..., None] / 255, alt=f"test clip {i + 1}, frame by frame", fill=True)
        rows = [
            ("truth", self._arrows(self.labels[i])),
            ("recurrent", self._arrows(self.probabilities[i].argmax(1))),
            ("without", self._arrows(self.without[i].argmax(1))),
        ]
        return figure(above(frames) + strips(rows, label=f"labels of test clip {i + 1}"), caption=f"test clip {i + 1}")

    def _arrows(self, labels: NDArray[np.int64]) -> list[str]:
        return [ARROWS.get(name, name) for name in (self.manifest.labels[i] for i in labels)]

    def _state(self) -> str:
        state = over_time(self.states[0], alt="the state of the first test clip", stretch=6)
        reset, update = (
            over_time(2 * gate - 1, alt=name, stretch=6) for name, gate in zip(GATES, self.gates, strict=True)
        )
        words = (
            "The first clip again: time to the right, a line for each number of the state, blue below zero and red "
            "above. It changes at every frame, since it holds where the digit is; where the direction changes, other "
            "lines change their colour. The update gate (red: the old state stays) and the reset gate (blue: the old "
            "state is left out of the new one) say how much of it is remembered."
        )
        return note(words) + charts(
            [
                figure(state, title="State"),
                figure(update, title="Update gate"),
                figure(reset, title="Reset gate"),
            ]
        )

    def _time(self) -> str:
        def line(p: NDArray[np.float32], label: str, number: int) -> Line:
            right = 100 * (p.argmax(2) == self.labels).mean(0)
            return Line(
                label=label,
                points=[(k, float(v)) for k, v in enumerate(right)],
                colour=("one", "two")[number],
            )

        drawing = line_chart(
            [line(self.probabilities, "recurrent", 0), line(self.without, "without", 1)],
            x_label="frame",
            y_label="Right, % of clips",
            from_zero=True,
        )
        return note(
            "The first frame is still by definition: nothing has moved yet. The net without recurrence cannot know "
            "that it is the first; the recurrent one sees it by its empty state."
        ) + charts([drawing])

    def _confusion(self, p: NDArray[np.float32]) -> NDArray[np.int64]:
        return classification.confusion_matrix(p.reshape(-1, p.shape[2]), self.labels.ravel())

    def _training(self) -> str:
        both = [
            {"epoch": a["epoch"]}
            | {f"{name}_with": value for name, value in a.items()}
            | {f"{name}_without": value for name, value in b.items()}
            for a, b in zip(self.history["with"], self.history["without"], strict=False)
        ]
        lines = [("held_accuracy_with", "recurrent"), ("held_accuracy_without", "without")]
        loss = [("held_loss_with", "recurrent"), ("held_loss_without", "without")]
        return note("On held-out clips, by the averaged weights that are published.") + history_charts(
            both,
            [
                Curves(y_label="Right, % of frames", lines=lines, shown=lambda v: 100 * v, from_zero=True),
                Curves(y_label="Loss, nats", lines=loss, log_y=True),
            ],
        )


GATES: Final = ("reset gate", "update gate")
