"""The report of a CycleGAN: translations and their returns beside the true pictures, failures and foreign pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Domain, Manifest
from app.core.metric_names import THIN
from training.data.domains import PAIRS
from training.families.cyclegan.metrics import Floats, Pixels, ScoredDirection, absolute_errors, in_8_bits, psnr
from training.metrics.onnx_model import Latency
from training.reporting import mosaics
from training.reporting.ablations import tried
from training.reporting.figures import figures
from training.reporting.formatting import count, percent
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, note, stack
from training.reporting.latency import latency
from training.reporting.made import made
from training.reporting.page import Page
from training.reporting.table import Row, table, wide

SHOWN: Final = 20
WORST: Final = 12
FOREIGN: Final = 6  # pictures of each kind that are shown
SEED: Final = 0


@dataclass(frozen=True, kw_only=True)
class CycleReport:
    """Everything the page needs.

    `history` has, every so many steps, cycle, identity, critic_right, held_cycle_* and held_psnr_*. `scored` are
    both directions on the same test digits. `there_and_back` takes a domain's name and its pictures, and gives the
    translations and their returns. `plain` are the same test digits as they are in the data set.
    """

    manifest: Manifest
    history: Sequence[Mapping[str, float]]
    scored: Sequence[ScoredDirection]
    there_and_back: Callable[[str, Pixels], tuple[Floats, Floats]]
    translate: Callable[[str, Pixels], Floats]
    plain: Pixels  # (N, H, W, 1)
    latency: Sequence[Latency]

    def page(self) -> Page:
        """The page, ready to be written."""
        names = [q.name for q in self.manifest.quality]
        return Page(
            manifest=self.manifest,
            claim=self._claim(),
            sections=[
                figures(self.manifest, before=self._unchanged()),
                Section("domains", "The two domains", self._domain_note()),
                *(Section(one.way.source, self._title(one), self._translations(one)) for one in self.scored),
                Section("labels", "Whether the digit stays the same", self._labels()),
                Section("failures", "Failures", self._failures()),
                Section("foreign", "Pictures of neither domain", self._foreign()),
                Section("hidden", "Information hidden in the translation", self._hidden()),
                Section("training", "Learning curves", self._curves()),
                tried(Path(__file__).parent, "digits" if self.manifest.data.spec in PAIRS else ""),
                latency(self.latency, title=f"Latency of {_words(self.scored[0])}"),
                made(self.manifest),
            ],
            headlines=[name for name in names if name.startswith(("accuracy_", "psnr_")) and "real" not in name],
            latency=self.latency,
        )

    @cached_property
    def _domains(self) -> dict[str, Domain]:
        return {domain.name: domain for domain in self.manifest.domains}

    def _title(self, one: ScoredDirection) -> str:
        return f"{self._domains[one.way.source].title} to {self._domains[one.way.target].title.lower()}"

    def _claim(self) -> str:
        found = []
        for one in self.scored:
            kept, db = float((one.read == one.y).mean()), psnr(one.squared)
            found.append(
                f"{escape(self._title(one).lower())}, a reference classifier still reads "
                f"<strong>{percent(kept, len(one.y))}</strong> of the digits as the same digit, and the PSNR to the "
                f"true pictures is <strong>{db:.1f}{THIN}dB</strong>"
            )
        return (
            "Trained on two sets of pictures with no digit in both, so it never saw a pair. On "
            f"{count(len(self.scored[0].y))} test digits with known pictures in both domains: from "
            f"{'; from '.join(found)}."
        )

    def _domain_note(self) -> str:
        words = self.manifest.data.note
        return f"<p>{escape(f'{words[:1].upper()}{words[1:]}.')}</p>" if words else ""

    def _unchanged(self) -> str:
        """What the goals of PSNR are to be compared with."""
        values = " and ".join(f"{psnr(self._untouched(one)):.1f}{THIN}dB {_words(one)}" for one in self.scored)
        return note(f"A translator that changes nothing would reach {escape(values)}.")

    def _untouched(self, one: ScoredDirection) -> NDArray[np.float64]:
        given, truth = (x.astype(np.float64) / 255 for x in (one.given, one.truth))
        if given.shape[-1] != truth.shape[-1]:
            given = given.mean(axis=-1, keepdims=True)
        return np.asarray(((given - truth) ** 2).mean(axis=(1, 2, 3)))

    def _strip(self, one: ScoredDirection, rows: NDArray[np.int64]) -> str:
        """Input, translation, true picture and return, below each other."""
        four = (_unit(one.given[rows]), one.made[rows], _unit(one.truth[rows]), one.returned[rows])
        sheet = np.stack([_colour(x) for x in four])
        return mosaics.mosaic(sheet, alt="Input, translated, true and returned pictures")

    def _translations(self, one: ScoredDirection) -> str:
        rows = mosaics.in_turn(one.y)[: 2 * SHOWN]
        return note(
            "From top to bottom: the test picture; its translation; the true picture of the same digit in that domain, "
            "which was not used in training; the translation translated back. The first of every class, then the "
            "second, and so on: none was selected or left out."
        ) + stack([self._strip(one, rows[i : i + SHOWN]) for i in range(0, len(rows), SHOWN)])

    def _labels(self) -> str:
        labels = self.manifest.labels
        rows: list[Row] = []
        for k, label in enumerate(labels):
            if not (self.scored[0].y == k).any():
                continue
            cells: list[str] = []
            for one in self.scored:
                own = one.y == k
                wrong = one.read[own][one.read[own] != k]
                read_as = np.bincount(wrong, minlength=len(labels))
                cells += [
                    percent(float((one.read[own] == k).mean()), int(own.sum())),
                    percent(float((one.read_truth[own] == k).mean()), int(own.sum())),
                    f"{labels[int(read_as.argmax())]} ({int(read_as.max())})" if len(wrong) else "–",
                ]
            rows.append((label, *cells))
        titles = ["Digit"]
        for one in self.scored:
            titles += [_words(one), f"true {one.way.target}", "most often read as"]
        return note(
            "Share of the test digits of each class that a reference classifier, which had no part in training, reads "
            "as the same class after translation; beside it the same of the true pictures, for which the translation "
            "is not responsible."
        ) + table(titles, rows)

    def _failures(self) -> str:
        blocks = []
        for one in self.scored:
            far = np.argsort(-one.squared, kind="stable")[:WORST]
            lost = np.flatnonzero((one.read != one.y) & (one.read_truth == one.y))
            blocks.append(
                f"<h3>{escape(self._title(one))}</h3><p>The {WORST} furthest from the true picture:</p>"
                f"{self._strip(one, far)}"
            )
            if len(lost):
                words = ", ".join(
                    f"{escape(self.manifest.labels[one.y[i]])} read as {escape(self.manifest.labels[one.read[i]])}"
                    for i in lost[:WORST]
                )
                blocks.append(
                    f"<p>{count(len(lost))} of {count(len(one.y))} are read as another digit although their true "
                    f"picture is not; the first of them: {words}.</p>{self._strip(one, lost[:WORST])}"
                )
        return note("Rows as above: input, translated, true, returned.") + "".join(blocks)

    def _foreign(self) -> str:
        blocks = []
        for one in self.scored:
            held = np.array(next(w.cycle.errors for w in self.manifest.translations if w.source == one.way.source))
            rows, shown = [], []
            for title, x in self._kinds(one):
                translated, returned = self.there_and_back(one.way.source, x)
                errors = absolute_errors(returned, x)
                p = [(1 + int((held >= e).sum())) / (1 + len(held)) for e in errors]
                low = float(np.mean(np.array(p) < 0.05))
                rows.append((wide(title), f"{np.median(errors):.4f}", f"{np.median(p):.4f}", percent(low, len(p))))
                shown.append(np.stack([_colour(v[:FOREIGN]) for v in (_unit(x), translated, returned)]))
            sheet = mosaics.mosaic(np.concatenate(shown, axis=1), alt="Input, translated and returned pictures")
            titles = ("<Input", "Median cycle error", "Median p-value", "p below 0.05")
            blocks.append(f"<h3>As {escape(one.way.source)}</h3>{table(titles, rows)}{sheet}")
        return note(
            "A translator translates any picture. A picture that does not come back unchanged should be doubted: the "
            "p-value is the share of held-out pictures of the domain with a cycle error at least as large. That finds "
            "only what is lost in translation: a picture that both translators leave unchanged has a small error "
            "whatever its domain. 100 pictures of each kind; below, six of each in the table’s order: input, "
            "translated, returned."
        ) + "".join(blocks)

    def _kinds(self, one: ScoredDirection) -> list[tuple[str, Pixels]]:
        """100 pictures each: of the domain, of the other one, and of none."""
        rng = np.random.default_rng(SEED)
        shape = one.given[:100].shape

        def fitting(x: Pixels) -> Pixels:
            if x.shape[-1] == shape[-1]:
                return x
            grey = np.rint(x.mean(axis=-1, keepdims=True)).astype(np.uint8)
            return np.repeat(grey, shape[-1], axis=-1)

        kinds = [(f"{one.way.source}, as in training", one.given[:100])]
        kinds.append((f"{one.way.target}, the other domain", fitting(one.truth[:100])))
        if not np.array_equal(self.plain[:100], one.given[:100]) and not np.array_equal(
            self.plain[:100], one.truth[:100]
        ):
            kinds.append(("digits as they are in the data set", fitting(self.plain[:100])))
        kinds.append((f"{one.way.source}, upside down", one.given[:100, ::-1].copy()))
        kinds.append((f"{one.way.source}, as a negative", 255 - one.given[:100]))
        kinds.append(("noise", rng.integers(0, 256, shape, dtype=np.uint8)))
        return kinds

    def _hidden(self) -> str:
        """Steganography (Chu et al. 2017): does the return depend on detail that nobody can see?"""
        rows: list[Row] = []
        for one in self.scored:
            made = one.made[:1000]
            rng = np.random.default_rng(SEED)
            noisy = made + np.float32(0.03) * rng.standard_normal(made.shape, np.float32)
            inputs = (in_8_bits(made), _levels(made, 15), _levels(made, 7), in_8_bits(noisy), one.truth[:1000])
            errors = [absolute_errors(self.translate(one.way.target, x), one.given[:1000]).mean() for x in inputs]
            rows.append((_words(one), *(f"{error:.4f}" for error in errors)))
        titles = ("Direction", "8 bits", "4 bits", "3 bits", "8 bits with noise of 0.03", "the true picture")
        return note(
            "A CycleGAN can close the cycle by steganography: the translation carries information for the return in "
            "detail too fine to see. Then the return fails when that detail is removed by rounding or noise, or when "
            "the true picture of the other domain, which hides nothing, is translated back instead. Mean absolute "
            "error of the return, 1,000 test pictures."
        ) + table(titles, rows)

    def _curves(self) -> str:
        there, back = (one.way for one in self.scored)
        found = history_charts(
            self.history,
            [
                Curves(
                    y_label="PSNR, dB",
                    lines=[("held_psnr_there", f"to {there.target}"), ("held_psnr_back", f"to {back.target}")],
                ),
                Curves(
                    y_label="Held-out cycle error",
                    lines=[("held_cycle_there", there.source), ("held_cycle_back", back.source)],
                ),
                Curves(y_label="Losses in training", lines=[("cycle", "cycle"), ("identity", "identity")]),
                Curves(y_label="Critics right, %", lines=[("critic_right", "critics")], shown=lambda v: 100 * v),
            ],
            x="step",
        )
        words = (
            "PSNR is to the true pictures of held-out digits: it is measured, not trained on. Critics that are right "
            "half of the time cannot tell translations from real pictures; at 100 % they have won and teach nothing."
        )
        return note(words) + found if found else ""


def _words(one: ScoredDirection) -> str:
    return f"{one.way.source} to {one.way.target}"


def _unit(x: Pixels) -> Floats:
    return x.astype(np.float32) / np.float32(255)


def _colour(x: Floats) -> Floats:
    """Three channels, so that grey and colour fit into one sheet."""
    return np.broadcast_to(x, (*x.shape[:-1], 3))


def _levels(x: Floats, most: int) -> Pixels:
    """Rounded to `most` + 1 grey levels, then to 8 bits."""
    few: Floats = np.rint(np.clip(x, 0, 1) * np.float32(most)) / np.float32(most)
    return in_8_bits(few)
