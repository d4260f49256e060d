"""The report of a generator: what it draws, how near that is to the real thing, and how its two players got on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import figure
from app.core.sampling import latents
from training.metrics.onnx_model import Latency
from training.metrics.reference_classifiers import ReferenceClassifiers
from training.reporting import charts, sections
from training.reporting import generated as drawn
from training.reporting.page import Page, Section

SHOWN: Final = 100
SEARCHED: Final = 5000  # pictures among which the failures are the worst
DRAWN_SEED: Final = 0
WAYS: Final = 8
FRAMES: Final = 13
KEPT: Final = 8  # latents that go through all classes

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Draw(Protocol):
    """Latents (N, Z) and, where classes can be asked for, labels (N,) -> pictures (N, H, W, C) in [0, 1]."""

    def __call__(self, latent: Floats, label: Integers | None = None) -> Floats: ...


def summary(data: str, latent: int, labels: Sequence[str]) -> str:
    """What the model is and what it teaches, in plain words."""
    told = " of the class that you ask for, from" if labels else " from"
    how = (
        "Both are told the class, and each drawn picture is compared with a real one of the same class."
        if labels
        else "Nobody tells it what a class is: that there are several, and where one ends, it found in the pictures."
    )
    return (
        f"Draws a new picture{told} {latent} random numbers in one evaluation. It never saw a picture of {data}: "
        "it learnt from a second network alone, the discriminator, which saw real and drawn pictures in pairs and "
        f"scored the real ones higher wherever it could tell them apart. {how} When the second network is right in "
        "little more than half of the pairs, it has little left to teach. Nothing measures a probability here: a "
        "generator could please its critic with a few kinds of pictures only, so recall was watched as well."
    )


@dataclass(frozen=True, kw_only=True)
class GanReport:
    """Everything the page needs; `history` has per epoch told_apart and held_fd_ratio, _precision, _recall,
    _class_share, _told_apart; `stopped` says why the run ended early, if it did."""

    manifest: Manifest
    history: Sequence[Mapping[str, float]]
    stopped: str | None
    draw: Draw
    judge: ReferenceClassifiers
    latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        parts = [
            ("samples", "What it draws", self._samples()),
            ("figures", "Figures", sections.measures(m)),
            ("ways", "From one to another", self._ways()),
            ("classes", "The same numbers through all classes", self._classes()),
            ("neighbours", "Nothing is copied", self._neighbours()),
            ("failures", "What it fails at", self._failures()),
            ("training", "Two players", self._training()),
            ("latency", "How fast it draws", sections.latency(self.latency)),
            ("facts", "Facts", sections.facts(m)),
        ]
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[Section(key=key, title=title, inside=inside) for key, title, inside in parts],
            headlines=("fd_ratio", "class_share", "recall") if m.labels else ("fd_ratio", "recall", "precision"),
            latency=self.latency,
        )

    @cached_property
    def _first(self) -> tuple[Floats, Floats, Integers | None]:
        """Latents, pictures and labels of seed 0, classes in turn."""
        assert self.manifest.latent is not None
        z = latents.draw(SEARCHED, self.manifest.latent.size, DRAWN_SEED)
        labels = len(self.manifest.labels)
        asked = np.arange(SEARCHED, dtype=np.int64) % labels if labels else None
        return z, self.draw(z, asked), asked

    def _claim(self) -> str:
        found = {q.name: q for q in self.manifest.quality}
        data = escape(self.manifest.data.name)
        if "fd_ratio" not in found:
            return f"Draws pictures like those of {data}. Nothing is measured."
        q = found["fd_ratio"]
        claim = (
            f"Ten thousand pictures drawn by it are <strong>{q.value:.2f} times</strong> as far from the test pictures "
            f"of {data} as ten thousand real ones are (FD ratio, the mean over three extractors of features)"
        )
        if "class_share" in found:
            share = figure(found["class_share"].value, "class_share")
            claim += f", and {share} of them show what was asked for"
        return claim + "; one evaluation each."

    def _samples(self) -> str:
        _, pictures, asked = self._first
        return drawn.gallery(pictures[:SHOWN], None if asked is None else asked[:SHOWN], labels=self.manifest.labels)

    def _ways(self) -> str:
        z, _, asked = self._first
        ends = z[: 2 * WAYS]
        path = np.stack([latents.between(ends[2 * i], ends[2 * i + 1], FRAMES, spherical=True) for i in range(WAYS)])
        label = None if asked is None else np.repeat(asked[:WAYS], FRAMES)
        frames = self.draw(path.reshape(-1, z.shape[1]), label)
        words = "Along great circles between the first draws of seed 0, two by two"
        words += ", each line of one class." if asked is not None else ", whatever digit they happen to be."
        words += " Neighbours are alike: it has not learnt pictures by heart, but ways to draw."
        return drawn.ways(frames.reshape(WAYS, FRAMES, *frames.shape[1:]), words)

    def _classes(self) -> str:
        labels = len(self.manifest.labels)
        if not labels:
            return ""
        z = np.repeat(self._first[0][:KEPT], labels, axis=0)
        pictures = self.draw(z, np.tile(np.arange(labels, dtype=np.int64), KEPT))
        words = (
            "A line for each of the first draws, a column for each class. What a line has in common, slant, width, "
            "weight of the pen, is in the random numbers: no label says it."
        )
        return drawn.ways(pictures.reshape(KEPT, labels, *pictures.shape[1:]), words)

    def _neighbours(self) -> str:
        return drawn.neighbours(self._first[1][:SHOWN], self.judge.data.train_x.numpy())

    def _failures(self) -> str:
        _, pictures, asked = self._first
        return drawn.failures(pictures, asked, self.judge)

    def _training(self) -> str:
        def line(key: str, label: str, colour: charts.Colour = "one") -> charts.Line:
            points = [(row.get("epoch", i + 1.0), row[key]) for i, row in enumerate(self.history) if key in row]
            return charts.Line(label=label, points=points, colour=colour)

        def chart(*lines: charts.Line, y_label: str, log_y: bool = False) -> str:
            return charts.line_chart(
                [entry for entry in lines if entry.points], x_label="epoch", y_label=y_label, log_y=log_y
            )

        found = [
            chart(line("held_fd_ratio", "FD ratio"), y_label="FD ratio, held-out rows", log_y=True),
            chart(
                line("held_recall", "recall"),
                line("held_precision", "precision", "two"),
                line("held_class_share", "asked-for class", "three"),
                y_label="Shares, held-out rows",
            ),
            chart(
                line("told_apart", "training"),
                line("held_told_apart", "held-out", "two"),
                y_label="Pairs told apart, share",
            ),
        ]
        if not any(found):
            return ""
        end = (
            f"The run was stopped before its time: {escape(self.stopped)}. The best generator until then is served."
            if self.stopped
            else "Recall never stayed below half of its best, nor did the discriminator win: the run was not stopped."
        )
        return (
            '<p class="note">After each epoch up to 2,500 pictures of the averaged generator beside held-out rows. A '
            "pair "
            "is told apart where the discriminator scores the real picture higher than the drawn one: half of the "
            "pairs would be chance. Training pairs have the generator in motion, held-out pairs the averaged one. Of "
            "all epochs' generators the one with the lowest FD ratio is served. "
            f'{end}</p><div class="charts">{"".join(found)}</div>'
        )
