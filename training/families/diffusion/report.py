"""The report of a diffusion model: samples, quality by number of evaluations, the chain, denoising and failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.manifest.sampling import SamplerName
from app.core.metric_names import figure
from app.core.sampling import factory as samplers
from app.core.sampling import latents, schedules
from training.families.diffusion import denoising, generation
from training.families.diffusion.metrics import CURVE_PICTURES, PublishedDenoiser
from training.metrics.onnx_model import Latency
from training.metrics.reference_classifiers import ReferenceClassifiers
from training.reporting import generated, mosaics
from training.reporting.charts import COLOURS, Line, line_chart
from training.reporting.figures import figures
from training.reporting.formatting import count, plural
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, beside, note, stack
from training.reporting.latency import latency
from training.reporting.made import made
from training.reporting.page import Page
from training.reporting.table import Cell, Row, table

Array = NDArray[np.float32]

SEED: Final = 0
ACROSS: Final = 20
BESIDE: Final = 10
SEARCHED: Final = 1000  # pictures among which the failures are the worst
FRAMES: Final = 12
WORDS: Final = {
    "multistep": "DPM-Solver++(2M), second order",
    "heun": "Heun, second order, two evaluations a step",
    "ddim": "DDIM, first order",
    "ancestral": "ancestral sampling, new noise at each step",
    "consistency": "consistency: straight to the end, new noise, and again",
}


def summary(data: str, *, few: bool) -> str:
    """The manifest's summary."""
    if few:
        return (
            f"Generates pictures like {data}'s from noise in one to four evaluations, with or without a label. A "
            "consistency model: trained on a diffusion model's trajectories and with a discriminator. That model, its "
            "teacher, is made by `python -m training diffusion` and left in its run, as checkpoint.pt."
        )
    return (
        f"Generates pictures like {data}'s from noise, step by step, with or without a label, from a seed, a picture "
        "or the unmasked part of one; and denoises pictures, with the noise level given or estimated."
    )


@dataclass(frozen=True, kw_only=True)
class DiffusionReport:
    """Everything the page needs; it generates its pictures itself, with the ONNX graphs of `folder`.

    Attributes:
        history: per epoch, losses and what else was measured.
        ratios: by sampler, (evaluations, FD ratio) in order.
        denoising: `Denoised` as a dict, None for a model without an estimator.
        readers: the reference classifiers; the training rows of their data set are searched for neighbours, its test
            rows are denoised.
    """

    folder: Path
    manifest: Manifest
    history: Sequence[Mapping[str, float]]
    ratios: Mapping[str, Sequence[tuple[int, float]]]
    denoising: Mapping[str, Any] | None
    readers: ReferenceClassifiers
    latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        headlines = [q.name for q in m.quality if q.name.startswith("fd_ratio_") and q.name.count("_") == 2]
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("samples", "Samples by label", self._samples()),
                Section("steps", "Quality by number of evaluations", self._steps()),
                Section("chain", "The chain, forwards and backwards", self._chain()),
                Section("denoising", "Denoising", self._denoising()),
                Section("neighbours", "Nearest training pictures", self._neighbours()),
                Section("interpolations", "Interpolations", self._interpolations()),
                Section("failures", "Failures", self._failures()),
                figures(m),
                Section("training", "Learning curves", self._training()),
                latency(self.latency, title="Latency of one evaluation"),
                made(m),
            ],
            headlines=(*headlines, "class_share"),
            latency=self.latency,
        )

    @cached_property
    def _model(self) -> PublishedDenoiser:
        return PublishedDenoiser(self.folder, self.manifest)

    @property
    def _default(self) -> tuple[SamplerName, int]:
        first = self._model.declared.samplers[0]
        return first.name, first.steps

    @cached_property
    def _generated(self) -> tuple[Array, NDArray[np.int64] | None]:
        """Pictures of seed 0 by the default sampler, and the requested labels in turn where the model has labels."""
        labels = np.arange(SEARCHED, dtype=np.int64) % max(1, self._model.classes)
        return self._model.draw(labels, *self._default), labels if self._model.classes else None

    def _claim(self) -> str:
        found = {q.name: q for q in self.manifest.quality}
        known = [q for name, q in found.items() if name.startswith("fd_ratio_") and name.count("_") == 2]
        if not known:
            return f"Generates pictures like those of {escape(self.manifest.data.name)}. Nothing is measured."
        best = min(known, key=lambda q: q.value)
        share = found.get("class_share")
        right = f"; {figure(share.value, 'accuracy')} show the requested class" if share else ""
        return (
            f"In {best.name.split('_')[2]} evaluations its pictures are <strong>{best.value:.2f}</strong> times as far "
            f"from the test pictures of {escape(self.manifest.data.name)} as real training pictures are, by the "
            f"Fréchet distance{right}."
        )

    def _samples(self) -> str:
        name, steps = self._default
        how = f"; {name} with {plural(steps, 'step')}, none selected."
        return generated.samples(*self._generated, labels=self.manifest.labels, how=how) + self._without_label()

    def _without_label(self) -> str:
        if not self._model.classes:
            return ""
        nothing = np.full(3 * ACROSS, self._model.classes, np.int64)
        pictures = self._model.draw(nothing, *self._default)
        return note("The same model without a label.") + mosaics.mosaic(
            pictures, columns=ACROSS, alt="Digits of all kinds"
        )

    def _steps(self) -> str:
        measured = {q.name: q.rows for q in self.manifest.quality}
        few = min(CURVE_PICTURES, *measured.values()) if measured else CURVE_PICTURES
        curves = {
            name: [
                (n, ratio, measured.get(f"fd_ratio_{n}", few) if name == self._default[0] else few)
                for n, ratio in points
            ]
            for name, points in self.ratios.items()
        }
        rows: list[Row] = [
            (_sampler(name) if i == 0 else "", str(n), pictures, f"{ratio:.2f}")
            for name, points in curves.items()
            for i, (n, ratio, pictures) in enumerate(points)
        ]
        words = (
            "Fréchet distance to the test pictures, over that of as many training pictures: real pictures have 1. By "
            f"the number of evaluations of the network. Hollow points are from {count(few)} pictures, compared with as "
            "many real ones. They are less certain, were lower than those of all pictures, and should not be compared "
            "with these. More evaluations are not always better: they follow the network more closely, its errors "
            "included"
        )
        if "consistency" in self.ratios:
            words += ", and a network made for few evaluations was never trained for more"
        titles = ("Sampler", "Evaluations", "Pictures", "FD ratio")
        return note(f"{words}.") + beside(table(titles, rows), generated.ratio_chart(curves)) + self._by_steps()

    def _by_steps(self) -> str:
        """The same seeds in more and more evaluations."""
        labels = np.arange(ACROSS, dtype=np.int64) % max(1, self._model.classes)
        name, _ = self._default
        tried = (1, 2, 4, 8) if name == "consistency" else (2, 4, 8, 16)
        counts = tuple(n for n in tried if n <= self._model.declared.samplers[0].max_steps)
        grid = np.stack([self._model.draw(labels, name, n) for n in counts])
        steps = ", ".join(str(n) for n in counts)
        return note(f"The same seeds by {name} in {steps} steps, from top to bottom.") + mosaics.mosaic(
            grid, alt="Digits"
        )

    def _chain(self) -> str:
        levels = schedules.karras(FRAMES, start=self._model.declared.sigma_max, end=0.05, rho=7.0)
        x = self.readers.data.test_x.numpy()[:1].astype(np.float32) / 255
        noise = next(samplers.noises(1, self._model.shape, SEED))
        forwards = np.concatenate([_seen(x + np.float32(sigma) * noise, sigma) for sigma in reversed(levels)])
        label = np.array([int(self.readers.data.test_y[0])]) if self._model.classes else np.zeros(1, np.int64)
        name = self._default[0]
        steps = FRAMES if name != "consistency" else min(4, self._model.declared.samplers[0].max_steps)
        walk = list(
            generation.chain(self._model.ask, label, self._model.shape, self._model.declared, sampler=name, steps=steps)
        )
        backwards = np.concatenate([_seen(at, sigma) for at, sigma, _ in walk])
        predicted = np.concatenate([np.clip(denoised, 0, 1) for _, _, denoised in walk])
        return (
            note(
                "Forwards, q(x | x0): a test picture under more and more noise, from left to right (each frame scaled "
                "to be visible)."
            )
            + mosaics.mosaic(forwards, columns=len(forwards), alt="A digit vanishes in noise", scale=3)
            + note(
                f"Backwards by {name}, from noise alone, with the same label: above the sampler's state, below the "
                "network's prediction from it, the mean of all pictures that could lie under the noise."
            )
            + mosaics.mosaic(np.stack([backwards, predicted]), alt="A digit appears out of noise", scale=3)
        )

    def _denoising(self) -> str:
        if self.denoising is None or self._model.estimator is None:
            return ""
        found, levels = self.denoising, denoising.LEVELS
        first = found["beside"]  # the first 500 test pictures, denoised by every method
        curves = {"given": first["told"], "BM3D": first["bm3d"], "NLM": first["nlm"]}
        lines = [
            Line(label=label, points=list(zip(levels, values, strict=True)), colour=colour)
            for (label, values), colour in zip(curves.items(), COLOURS, strict=False)
        ]
        plot = line_chart(lines, x_label="sigma, pixels in [0, 1]", y_label="PSNR, dB", log_x=True, x_ticks=levels)
        rows = [
            (
                f"{sigma:g}",
                *(f"{found[kind][i]:.2f}" for kind in ("noisy", "told", "blind")),
                f"{100 * found['sigma_error'][i]:.1f}",
                *(f"{first[kind][i]:.2f}" for kind in ("told", "bm3d", "nlm")),
            )
            for i, sigma in enumerate(levels)
        ]
        titles = ("Sigma", "Noisy", "Given", "Estimated", "Error of sigma, %", "Given, first 500", "BM3D", "NLM")
        words = (
            "One evaluation of the same network, without a label: the mean of the pictures that could lie under the "
            "noise. The noise level is given, or estimated by the estimator. PSNR in dB, mean over test pictures; the "
            "last three columns are of the same 500."
        )
        return note(words) + beside(table(titles, rows), plot) + self._denoised()

    def _denoised(self) -> str:
        x = self.readers.data.test_x.numpy()[:BESIDE]
        parts = []
        for sigma in (0.3, 0.5, 1.0):
            noisy = denoising.noised(x, sigma)
            clean = self._model.denoise(noisy, self._model.estimate(noisy))
            found = denoising.psnr(clean, x)
            grid = np.stack([np.clip(noisy, 0, 1), np.clip(clean, 0, 1), x.astype(np.float32) / 255])
            values = ", ".join(f"{value:.1f}" for value in found)
            parts.append(
                note(
                    f"Sigma {sigma:g}: noisy, denoised at the estimated level, original. PSNR from the left: {values} "
                    "dB."
                )
                + mosaics.mosaic(grid, alt="Noisy digits, denoised, and as they were", scale=3)
            )
        return stack([f"<div>{part}</div>" for part in parts])

    def _neighbours(self) -> str:
        return generated.neighbours(self._generated[0], self.readers.data.train_x.numpy())

    def _interpolations(self) -> str:
        ends = next(samplers.noises(2 * 5, self._model.shape, SEED + 1)).reshape(10, -1)
        name, steps = self._default
        steps = 1 if name == "consistency" else steps
        declared = self._model.declared
        levels = schedules.levels(declared, steps)
        rows = []
        for k in range(5):
            path = latents.between(ends[2 * k], ends[2 * k + 1], FRAMES, spherical=True)
            noise = path.reshape(FRAMES, *self._model.shape)
            fresh = samplers.noises(FRAMES, self._model.shape, SEED)
            label = np.full(FRAMES, 2 * k % max(1, self._model.classes), np.int64)
            walk = samplers.make_sampler(name, np.float32(levels[0]) * noise, levels, fresh)
            rows.append(np.clip(generation.ended(walk, self._model.ask, label), 0, 1))
        return note(
            "The noise changes from one seed's into another's along a great circle, the label is kept: the picture "
            f"changes with it. {name}, {plural(steps, 'step')}."
        ) + mosaics.mosaic(np.stack(rows), alt="Digits that turn into one another")

    def _failures(self) -> str:
        return generated.failures(*self._generated, self.readers)

    def _training(self) -> str:
        kinds = {
            "Loss": ("loss", "held_loss"),
            "Distance to the teacher": ("distance",),
            "FD ratio of held-out rows": ("held_fd_ratio_1", "held_fd_ratio_2"),
            "Adversarial losses": ("generator", "critic"),
        }
        return history_charts(
            self.history,
            [
                Curves(y_label=title, lines=[(key, key.replace("_", " ")) for key in keys])
                for title, keys in kinds.items()
            ],
            skip=0.01,
        )


def _seen(x: Array, sigma: float) -> Array:
    """Scaled so that noise does not run out of black and white: by its spread, about grey."""
    return np.clip(0.5 + (x - 0.5) / max(1.0, 3.0 * sigma), 0, 1) if sigma > 0 else np.clip(x, 0, 1)


def _sampler(name: str) -> Cell:
    return Cell(escape(name), escape(WORDS.get(name, "")))
