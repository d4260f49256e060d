"""The report of a diffusion model: what it draws, in how many steps, and what it makes of noisy pictures."""

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
from training.families.diffusion import denoising
from training.families.diffusion import generation as drawing
from training.families.diffusion.metrics import CURVE_PICTURES, PublishedDenoiser
from training.metrics.onnx_model import Latency
from training.metrics.reference_classifiers import ReferenceClassifiers
from training.reporting import charts, mosaics, sections
from training.reporting import generated as drawn
from training.reporting.page import Page, Section
from training.reporting.words import count, table

Array = NDArray[np.float32]

SEED: Final = 0
ACROSS: Final = 20
BESIDE: Final = 10
SEARCHED: Final = 1000  # pictures among which the failures are the worst
FRAMES: Final = 12
SPACE: Final = '<div style="height:10px"></div>'
WORDS: Final = {
    "multistep": "DPM-Solver++(2M), second order",
    "heun": "Heun, second order, two evaluations a step",
    "ddim": "DDIM, first order",
    "ancestral": "the ancestral chain, new noise at each step",
    "consistency": "consistency: to the end at one stroke, new noise, again",
}


def summary(data: str, *, few: bool) -> str:
    """The manifest's summary."""
    if few:
        return (
            f"Draws pictures like {data}'s from noise in one to four evaluations, by label or without one. A "
            "consistency model: learnt from a diffusion model's trajectories and a discriminator. That model, its "
            "teacher, is made by `python -m training diffusion` and left in its run, as checkpoint.pt."
        )
    return (
        f"Draws pictures like {data}'s from noise, step by step, by label or without one, from a seed, a picture or "
        "what a mask leaves of one; and takes the noise from noisy pictures, told how much there is or not."
    )


@dataclass(frozen=True, kw_only=True)
class DiffusionReport:
    """Everything the page needs; it draws its pictures itself, from the ONNX graphs of `folder`.

    Attributes:
        history: per epoch, losses and what else was measured.
        ratios: by sampler, (evaluations, FD ratio) in order.
        denoising: `Denoised` as a dict, None for a model without an estimator.
        judge: reads what was drawn; its data set's training rows are the neighbours, its test rows are denoised.
    """

    folder: Path
    manifest: Manifest
    history: Sequence[Mapping[str, float]]
    ratios: Mapping[str, Sequence[tuple[int, float]]]
    denoising: Mapping[str, Any] | None
    judge: ReferenceClassifiers
    latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        parts = [
            ("samples", "Drawn by label", self._samples()),
            ("steps", "How many evaluations it takes", self._steps()),
            ("chain", "The chain, forwards and backwards", self._chain()),
            ("denoising", "Noise taken away", self._denoising()),
            ("neighbours", "Nothing copied", self._neighbours()),
            ("between", "Between two seeds", self._between()),
            ("failures", "What fails", self._failures()),
            ("figures", "Figures", sections.measures(self.manifest)),
            ("training", "Over training", self._training()),
            ("latency", "How fast one evaluation is", sections.latency(self.latency)),
            ("facts", "Facts", sections.facts(self.manifest)),
        ]
        headlines = [q.name for q in self.manifest.quality if q.name.startswith("fd_ratio_") and q.name.count("_") == 2]
        return Page(
            manifest=self.manifest,
            claim=self._claim(),
            sections=[Section(key=key, title=title, inside=inside) for key, title, inside in parts],
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
    def _drawn(self) -> tuple[Array, NDArray[np.int64] | None]:
        """Pictures of seed 0 by the default sampler and what was asked for, the labels in turn, if it knows any."""
        labels = np.arange(SEARCHED, dtype=np.int64) % max(1, self._model.classes)
        return self._model.draw(labels, *self._default), labels if self._model.classes else None

    def _claim(self) -> str:
        found = {q.name: q for q in self.manifest.quality}
        known = [q for name, q in found.items() if name.startswith("fd_ratio_") and name.count("_") == 2]
        if not known:
            return f"Draws pictures like those of {escape(self.manifest.data.name)}. Nothing is measured."
        best = min(known, key=lambda q: q.value)
        share = found.get("class_share")
        right = f"; {figure(share.value, 'accuracy')} show what was asked for" if share else ""
        return (
            f"In {best.name.split('_')[2]} evaluations its pictures are <strong>{best.value:.2f}</strong> times as far "
            f"from the test pictures of {escape(self.manifest.data.name)} as real training pictures are, by the "
            f"Fréchet distance{right}."
        )

    def _samples(self) -> str:
        name, steps = self._default
        how = f"; {name} with {steps} {'step' if steps == 1 else 'steps'}, none chosen."
        return drawn.gallery(*self._drawn, labels=self.manifest.labels, how=how) + self._without_label()

    def _without_label(self) -> str:
        if not self._model.classes:
            return ""
        nothing = np.full(3 * ACROSS, self._model.classes, np.int64)
        pictures = self._model.draw(nothing, *self._default)
        return drawn.note("The same model without a label: it draws whatever it likes.") + mosaics.mosaic(
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
        rows = [
            f'<tr><td class="left">{_sampler(name) if i == 0 else ""}</td><td>{n}</td><td>{count(pictures)}</td>'
            f"<td>{ratio:.2f}</td></tr>"
            for name, points in curves.items()
            for i, (n, ratio, pictures) in enumerate(points)
        ]
        return (
            drawn.note(
                "Fréchet distance to the test pictures, over that of as many training pictures: 1 is what real ones "
                f"have. By how often the net is asked. Hollow points are from {count(few)} pictures, the excess over "
                "as many real ones: they are less certain, have been lower than those of all pictures, and are not to "
                "be compared with these. More evaluations are not always better: they follow the net more closely, its "
                "faults included"
                + (
                    ", and a net made for few evaluations was never trained for more."
                    if "consistency" in self.ratios
                    else "."
                )
            )
            + f'<div class="side">{table(("<Sampler", "Evaluations", "Pictures", "FD ratio"), rows)}'
            + f'<div class="plot">{drawn.ratio_chart(curves)}</div></div>'
            + self._by_steps()
        )

    def _by_steps(self) -> str:
        """The same seeds in more and more evaluations."""
        labels = np.arange(ACROSS, dtype=np.int64) % max(1, self._model.classes)
        name, _ = self._default
        tried = (1, 2, 4, 8) if name == "consistency" else (2, 4, 8, 16)
        counts = tuple(n for n in tried if n <= self._model.declared.samplers[0].max_steps)
        grid = np.stack([self._model.draw(labels, name, n) for n in counts])
        said = ", ".join(str(n) for n in counts)
        return drawn.note(f"The same seeds by {name} in {said} steps, from above.") + mosaics.mosaic(grid, alt="Digits")

    def _chain(self) -> str:
        levels = schedules.karras(FRAMES, start=self._model.declared.sigma_max, end=0.05, rho=7.0)
        x = self.judge.data.test_x.numpy()[:1].astype(np.float32) / 255
        noise = next(samplers.noises(1, self._model.shape, SEED))
        forwards = np.concatenate([_seen(x + np.float32(sigma) * noise, sigma) for sigma in reversed(levels)])
        label = np.array([int(self.judge.data.test_y[0])]) if self._model.classes else np.zeros(1, np.int64)
        name = self._default[0]
        steps = FRAMES if name != "consistency" else min(4, self._model.declared.samplers[0].max_steps)
        walk = list(
            drawing.chain(self._model.ask, label, self._model.shape, self._model.declared, sampler=name, steps=steps)
        )
        backwards = np.concatenate([_seen(at, sigma) for at, sigma, _ in walk])
        thought = np.concatenate([np.clip(denoised, 0, 1) for _, _, denoised in walk])
        return (
            drawn.note(
                "Forwards, q(x | x0): a test picture under more and more noise, from left to right (each frame scaled "
                "to be seen). The chain forgets it."
            )
            + mosaics.mosaic(forwards, columns=len(forwards), alt="A digit vanishes in noise", scale=3)
            + drawn.note(
                f"Backwards by {name}, from noise alone, asked for the same label: above what the sampler holds, below "
                "what the net believes to see in it, the mean of all pictures that could lie beneath."
            )
            + mosaics.mosaic(np.stack([backwards, thought]), alt="A digit appears out of noise", scale=3)
        )

    def _denoising(self) -> str:
        if self.denoising is None or self._model.estimator is None:
            return ""
        found, levels = self.denoising, denoising.LEVELS
        beside = {"told": found["beside"]["told"], "BM3D": found["beside"]["bm3d"], "NLM": found["beside"]["nlm"]}
        lines = [
            charts.Line(label=label, points=list(zip(levels, values, strict=True)), colour=colour)
            for (label, values), colour in zip(beside.items(), drawn.COLOURS, strict=False)
        ]
        plot = charts.line_chart(
            lines, x_label="sigma, pixels in [0, 1]", y_label="PSNR, dB", log_x=True, x_ticks=levels
        )
        rows = [
            f"<tr><td>{sigma:g}</td><td>{found['noisy'][i]:.2f}</td><td>{found['told'][i]:.2f}</td>"
            f"<td>{found['blind'][i]:.2f}</td><td>{100 * found['sigma_error'][i]:.1f}</td>"
            f"<td>{found['beside']['told'][i]:.2f}</td><td>{found['beside']['bm3d'][i]:.2f}</td>"
            f"<td>{found['beside']['nlm'][i]:.2f}</td></tr>"
            for i, sigma in enumerate(levels)
        ]
        heads = ("Sigma", "Noisy", "Told", "Blind", "Sigma off by, %", "Told, first 500", "BM3D", "NLM")
        return (
            drawn.note(
                "One evaluation of the same net, without a label: the mean of what the picture can have been. Told the "
                "noise level, or with the estimator's word for it. PSNR in dB, mean over test pictures; the last three "
                "columns are of the same 500."
            )
            + f'<div class="side">{table(heads, rows)}<div class="plot">{plot}</div></div>'
            + self._denoised()
        )

    def _denoised(self) -> str:
        x = self.judge.data.test_x.numpy()[:BESIDE]
        parts = []
        for sigma in (0.3, 0.5, 1.0):
            noisy = denoising.noised(x, sigma)
            clean = self._model.denoise(noisy, self._model.estimate(noisy))
            found = denoising.psnr(clean, x)
            grid = np.stack([np.clip(noisy, 0, 1), np.clip(clean, 0, 1), x.astype(np.float32) / 255])
            said = ", ".join(f"{value:.1f}" for value in found)
            parts.append(
                drawn.note(f"Sigma {sigma:g}: noisy, denoised blind, the truth. PSNR from the left: {said} dB.")
                + mosaics.mosaic(grid, alt="Noisy digits, denoised, and as they were", scale=3)
            )
        return SPACE.join(parts)

    def _neighbours(self) -> str:
        return drawn.neighbours(self._drawn[0], self.judge.data.train_x.numpy())

    def _between(self) -> str:
        ends = next(samplers.noises(2 * 5, self._model.shape, SEED + 1)).reshape(10, -1)
        name, steps = self._default
        steps = 1 if name == "consistency" else steps
        declared = self._model.declared
        levels = schedules.levels(declared, steps)
        rows = []
        for k in range(5):
            way = latents.between(ends[2 * k], ends[2 * k + 1], FRAMES, spherical=True)
            noise = way.reshape(FRAMES, *self._model.shape)
            fresh = samplers.noises(FRAMES, self._model.shape, SEED)
            label = np.full(FRAMES, 2 * k % max(1, self._model.classes), np.int64)
            walk = samplers.make_sampler(name, np.float32(levels[0]) * noise, levels, fresh)
            rows.append(np.clip(drawing.ended(walk, self._model.ask, label), 0, 1))
        return drawn.note(
            "Noise that turns from one seed's into another's along a great circle, the label kept: what is drawn turns "
            f"with it. {name}, {steps} {'step' if steps == 1 else 'steps'}."
        ) + mosaics.mosaic(np.stack(rows), alt="Digits that turn into one another")

    def _failures(self) -> str:
        return drawn.failures(*self._drawn, self.judge)

    def _training(self) -> str:
        kinds = {
            "Loss": ("loss", "held_loss"),
            "Distance to the teacher": ("distance",),
            "FD ratio of held-out rows": ("held_fd_ratio_1", "held_fd_ratio_2"),
            "Adversarial losses": ("generator", "critic"),
        }
        found = []
        for title, keys in kinds.items():
            lines = []
            for key, colour in zip(keys, drawn.COLOURS, strict=False):
                points = [(row.get("epoch", i + 1.0), row[key]) for i, row in enumerate(self.history) if key in row]
                if points:
                    points = points[1:] if len(points) > 4 else points  # the first would flatten the others
                    lines.append(charts.Line(label=key.replace("_", " "), points=points, colour=colour))
            if lines:
                found.append(charts.line_chart(lines, x_label="epoch", y_label=title))
        return f'<div class="charts">{"".join(found)}</div>' if found else ""


def _seen(x: Array, sigma: float) -> Array:
    """Scaled so that noise does not run out of black and white: by its spread, about grey."""
    return np.clip(0.5 + (x - 0.5) / max(1.0, 3.0 * sigma), 0, 1) if sigma > 0 else np.clip(x, 0, 1)


def _sampler(name: str) -> str:
    return f"{escape(name)}<small>{escape(WORDS.get(name, ''))}</small>"
