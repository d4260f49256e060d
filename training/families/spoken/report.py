"""The report of a classifier of spoken words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import THIN
from training.data.sound import RATE, Clip
from training.families.spoken.network import SpokenNet
from training.families.spoken.trainer import tensors
from training.metrics import classification as measure
from training.metrics import onnx_model
from training.networks.sound import BEFORE, padded
from training.reporting import classification
from training.reporting.ablations import tried
from training.reporting.calibration import calibration
from training.reporting.figures import figures
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, charts, figure, note
from training.reporting.made import made
from training.reporting.mosaics import mosaic
from training.reporting.page import Page
from training.reporting.shapes import shapes
from training.reporting.table import Cell, table

UNITS: Final = 40
MISTAKES: Final = 24


@torch.no_grad()
def inside(network: SpokenNet, clip: Clip) -> dict[str, Any]:
    """What the net makes of a clip, step by step: log-mel frames, GRU states, and how much each step counts."""
    network.eval()
    mel = network.mel(padded(torch.from_numpy(clip.samples)[None], BEFORE // 2))
    y, _ = network.gru(network.subsampling(mel))
    weight = network.query(y)[0, :, 0].softmax(0)
    moving = y[0].std(dim=0).argsort(descending=True)[:UNITS]

    def levels(values: torch.Tensor) -> list[list[int]]:
        found: list[list[int]] = (values.clamp(0, 1) * 255).round().int().tolist()
        return found

    return {
        "label": clip.label,
        "mel": levels((mel[0].flip(1) + 2.13) / 4.5),
        "hidden": levels((y[0][:, moving] + 1) / 2),
        "weight": levels(weight[:, None] / weight.max()),
    }


def speed(folder: Path, manifest: Manifest, clips: Sequence[Clip]) -> list[dict[str, float]]:
    """Milliseconds of one run by one thread, by clips in it."""
    session = onnx_model.open_graph(folder, manifest.graphs["classifier"], threads=1)
    found = []
    for rows in (1, 8, 32):
        sound, length = tensors([clip.samples for clip in clips[:rows]])
        taken = []
        for _ in range(10):
            begun = perf_counter()
            session.run(None, {"sound": sound.numpy(), "length": length.numpy()})
            taken.append(1000 * (perf_counter() - begun))
        found.append(
            {"rows": rows, "ms": float(np.median(taken)), "seconds": sound.shape[1] / RATE},
        )
    return found


@dataclass(frozen=True, kw_only=True)
class SpokenReport:
    """Everything the page needs; `clips` are the test clips and `probabilities` (N, labels) what the graph says."""

    manifest: Manifest
    found: Mapping[str, Any]
    clips: Sequence[Clip]
    probabilities: NDArray[np.float32]
    speed: Sequence[Mapping[str, float]]

    def page(self) -> Page:
        """The page, ready to be written."""
        m, p = self.manifest, self.probabilities
        y = np.array([m.labels.index(clip.label) for clip in self.clips])
        matrix = np.zeros((len(m.labels), len(m.labels)), np.int64)
        np.add.at(matrix, (y, p.argmax(axis=1)), 1)
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("inside", "From sound to one label", self._inside()),
                figures(m, unit="clips"),
                classification.confusion(matrix, m.labels),
                classification.classes(matrix, m.labels),
                Section("mistakes", "The most confident mistakes", self._mistakes(y)),
                Section("speakers", "Voices that were never heard", self._speakers()),
                calibration(p, None, y, m),
                Section("training", "Learning curves", self._training()),
                tried(Path(__file__).parent, m.data.spec),
                Section("speed", "Speed", self._speed()),
                shapes("many to one"),
                made(m),
            ],
            headlines=("accuracy", "accuracy_unseen_speakers", "nll", "ece"),
        )

    def _claim(self) -> str:
        q = next(q for q in self.manifest.quality if q.name == "accuracy")
        return (
            f"Hears which of {len(self.manifest.labels)} labels a recording has, and is right in "
            f"<strong>{100 * q.value:.1f}{THIN}%</strong> of {q.rows:,} test clips. Many steps in, one label out: the "
            "recurrent net reads 25 steps a second and learns which of them count."
        )

    def _inside(self) -> str:
        drawn = []
        for part in self.found["inside"]:
            mel, hidden = (np.array(part[key]).T / 255 for key in ("mel", "hidden"))
            weight = np.array(part["weight"]).T / 255
            wide = np.repeat(np.repeat(hidden, 8, axis=1), 3, axis=0)
            count = np.repeat(np.repeat(weight, 8, axis=1), 16, axis=0)
            words = escape(part["label"])
            drawn += [
                figure(
                    mosaic(np.repeat(mel, 2, axis=1)[None, ..., None], columns=1, alt=f"log-mel of {words}"),
                    title=f"“{words}”: log-mel energies",
                ),
                figure(mosaic(wide[None, ..., None], columns=1, alt="hidden state"), title="Hidden state over time"),
                figure(mosaic(count[None, ..., None], columns=1, alt="weights"), title="How much each step counts"),
            ]
        return note(
            "Two test clips, time from left to right. White steps of the last picture are those whose states make the "
            "answer."
        ) + charts(drawn)

    def _mistakes(self, y: NDArray[np.int64]) -> str:
        p, labels = self.probabilities, self.manifest.labels
        chosen = measure.most_confident_mistakes(p, y, limit=MISTAKES)
        rows = [
            (
                self.clips[i].name,
                self.clips[i].words[0][0] if self.clips[i].words else "(nobody speaks)",
                labels[int(y[i])],
                Cell(f"{escape(labels[int(p[i].argmax())])} <small>{100 * float(p[i].max()):.0f} %</small>"),
                f"{100 * float(p[i, y[i]]):.1f} %",
            )
            for i in chosen
        ]
        return table(("Clip", "<Word", "<True label", "<Predicted", "Probability of the true one"), rows)

    def _speakers(self) -> str:
        unseen = self.found["unseen"]
        if not unseen:
            return ""
        rows = [(name, f"{100 * share:.1f} %") for name, share in sorted(unseen.items())]
        return note(
            "One model for each speaker, trained on the five others for half the epochs, measured on all clips of that "
            "speaker: what to expect of a voice that is not in the data."
        ) + table(("Speaker", "Right"), rows)

    def _training(self) -> str:
        return history_charts(
            self.found["history"],
            [
                Curves(
                    y_label="Right, %",
                    lines=[("held_accuracy", "held-out"), ("accuracy", "training, noisy")],
                    shown=lambda v: 100 * v,
                ),
                Curves(y_label="Loss", lines=[("held_loss", "held-out"), ("loss", "training, noisy")], log_y=True),
            ],
            skip=0.04,
        )

    def _speed(self) -> str:
        rows = [
            (int(one["rows"]), f"{one['ms']:.1f}", f"{1000 * one['rows'] * one['seconds'] / one['ms']:.0f} ×")
            for one in self.speed
        ]
        return note("One run of the graph by one thread, front end included; reading files and HTTP are not.") + table(
            ("Clips per run", "ms", "Times real time"), rows
        )
