"""The report of a GAN: samples, interpolations, nearest training pictures, failures and learning curves."""

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
from training.reporting import generated
from training.reporting.figures import figures
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, note
from training.reporting.latency import latency
from training.reporting.made import made
from training.reporting.page import Page

SHOWN: Final = 100
SEARCHED: Final = 5000  # pictures among which the failures are the worst
SAMPLE_SEED: Final = 0
PATHS: Final = 8
FRAMES: Final = 13
SHARED: Final = 8  # latents that are decoded as every class

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


class Generate(Protocol):
    """Latents (N, Z) and, where the model has classes, labels (N,) -> pictures (N, H, W, C) in [0, 1]."""

    def __call__(self, latent: Floats, label: Integers | None = None) -> Floats: ...


def summary(data: str, latent: int, labels: Sequence[str]) -> str:
    """The manifest's summary."""
    of_class = " of the requested class" if labels else ""
    how = (
        "Both networks get the class, and each generated picture is compared with a real one of the same class."
        if labels
        else "No labels are used: the generator found the classes and their borders in the pictures."
    )
    return (
        f"Generates a new picture{of_class} from {latent} random numbers in one evaluation. It never saw a picture of "
        f"{data}: it was trained by a second network alone, the discriminator, which saw real and generated pictures "
        f"in pairs and scored the real ones higher wherever it could tell them apart. {how} When the discriminator is "
        "right in little more than half of the pairs, it has little left to teach. A GAN has no likelihood, and a "
        "generator could satisfy its critic with a few kinds of pictures only, so recall was watched as well."
    )


@dataclass(frozen=True, kw_only=True)
class GanReport:
    """Everything the page needs; `history` has per epoch told_apart and held_fd_ratio, _precision, _recall,
    _class_share, _told_apart; `stopped` says why the run ended early, if it did.

    `readers` are the reference classifiers; the training rows of their data set are searched for neighbours.
    """

    manifest: Manifest
    history: Sequence[Mapping[str, float]]
    stopped: str | None
    generate: Generate
    readers: ReferenceClassifiers
    latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("samples", "Samples", self._samples()),
                figures(m),
                Section("interpolations", "Interpolations", self._interpolations()),
                Section("classes", "The same latents as every class", self._classes()),
                Section("neighbours", "Nearest training pictures", self._neighbours()),
                Section("failures", "Failures", self._failures()),
                Section("training", "Learning curves", self._training()),
                latency(self.latency, title="Latency of the generator"),
                made(m),
            ],
            headlines=("fd_ratio", "class_share", "recall") if m.labels else ("fd_ratio", "recall", "precision"),
            latency=self.latency,
        )

    @cached_property
    def _first(self) -> tuple[Floats, Floats, Integers | None]:
        """Latents, pictures and labels of seed 0, classes in turn."""
        assert self.manifest.latent is not None
        z = latents.sample_prior(SEARCHED, self.manifest.latent.size, SAMPLE_SEED)
        labels = len(self.manifest.labels)
        requested = np.arange(SEARCHED, dtype=np.int64) % labels if labels else None
        return z, self.generate(z, requested), requested

    def _claim(self) -> str:
        found = {q.name: q for q in self.manifest.quality}
        data = escape(self.manifest.data.name)
        if "fd_ratio" not in found:
            return f"Generates pictures like those of {data}. Nothing is measured."
        q = found["fd_ratio"]
        claim = (
            f"Ten thousand generated pictures are <strong>{q.value:.2f} times</strong> as far from the test pictures "
            f"of {data} as ten thousand real ones are (FD ratio, the mean over three feature extractors)"
        )
        if "class_share" in found:
            share = figure(found["class_share"].value, "class_share")
            claim += f", and {share} of them show the requested class"
        return claim + "; one evaluation each."

    def _samples(self) -> str:
        _, pictures, requested = self._first
        first = None if requested is None else requested[:SHOWN]
        return generated.samples(pictures[:SHOWN], first, labels=self.manifest.labels)

    def _interpolations(self) -> str:
        z, _, requested = self._first
        ends = z[: 2 * PATHS]
        path = np.stack([latents.between(ends[2 * i], ends[2 * i + 1], FRAMES, spherical=True) for i in range(PATHS)])
        label = None if requested is None else np.repeat(requested[:PATHS], FRAMES)
        frames = self.generate(path.reshape(-1, z.shape[1]), label)
        words = "Along great circles between the first latents of seed 0, in pairs"
        words += ", each line of one class." if requested is not None else ", of any class."
        words += " Neighbours are alike: the generator has not stored single pictures."
        return generated.strips(frames.reshape(PATHS, FRAMES, *frames.shape[1:]), words)

    def _classes(self) -> str:
        labels = len(self.manifest.labels)
        if not labels:
            return ""
        z = np.repeat(self._first[0][:SHARED], labels, axis=0)
        pictures = self.generate(z, np.tile(np.arange(labels, dtype=np.int64), SHARED))
        words = (
            "A line for each of the first latents, a column for each class. What a line has in common, slant, width "
            "and stroke weight, comes from the latent and not from the label."
        )
        return generated.strips(pictures.reshape(SHARED, labels, *pictures.shape[1:]), words)

    def _neighbours(self) -> str:
        return generated.neighbours(self._first[1][:SHOWN], self.readers.data.train_x.numpy())

    def _failures(self) -> str:
        _, pictures, requested = self._first
        return generated.failures(pictures, requested, self.readers)

    def _training(self) -> str:
        found = history_charts(
            self.history,
            [
                Curves(y_label="FD ratio, held-out rows", lines=[("held_fd_ratio", "FD ratio")], log_y=True),
                Curves(
                    y_label="Shares, held-out rows",
                    lines=[
                        ("held_recall", "recall"),
                        ("held_precision", "precision"),
                        ("held_class_share", "requested class"),
                    ],
                ),
                Curves(
                    y_label="Discriminator right, share",
                    lines=[("told_apart", "training"), ("held_told_apart", "held-out")],
                ),
            ],
        )
        if not found:
            return ""
        end = (
            f"The run was stopped early: {escape(self.stopped)}. The best generator until then is served."
            if self.stopped
            else "The run was not stopped early: recall never stayed below half of its best, and the discriminator did "
            "not win."
        )
        words = (
            "After each epoch up to 2,500 pictures of the averaged generator are compared with held-out rows. The "
            "discriminator is right about a pair where it scores the real picture higher than the generated one; half "
            "of the pairs would be chance. Training pairs are of the generator as it changes, held-out pairs of the "
            "averaged one. Of all epochs' generators the one with the lowest FD ratio is served. "
        )
        return note(words + end) + found
