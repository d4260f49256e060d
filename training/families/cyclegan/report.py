"""The report of a CycleGAN: what becomes of pictures there and back, beside the truth that it never saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Domain, Manifest
from app.core.metric_names import THIN
from training.families.cyclegan.metrics import Floats, Pixels, ScoredDirection, absolute_errors, in_8_bits, psnr
from training.metrics.onnx_model import Latency
from training.reporting import charts, mosaics, sections
from training.reporting.page import Page, Section
from training.reporting.words import count, percent, table

SHOWN: Final = 20
WORST: Final = 12
STRANGE: Final = 6
SEED: Final = 0


@dataclass(frozen=True, kw_only=True)
class CycleReport:
    """Everything the page needs.

    `history` has, every so many steps, cycle, identity, critic_right, held_cycle_* and held_psnr_*. `scored` are
    both directions on the same test digits. `there_and_back` takes a domain's name and its pictures, and gives the
    translations and their returns. `plain` are the same test digits as they were written.
    """

    manifest: Manifest
    history: Sequence[Mapping[str, float]]
    scored: Sequence[ScoredDirection]
    there_and_back: Callable[[str, Pixels], tuple[Floats, Floats]]
    translate: Callable[[str, Pixels], Floats]
    plain: Pixels  # (N, H, W, 1)
    latency: Sequence[Latency]
    ablation: str = ""  # what was compared before this shape was chosen

    def page(self) -> Page:
        """The page, ready to be written."""
        first, second = self.scored
        parts = [
            ("figures", "Figures", self._figures()),
            ("domains", "The two domains", f"<p>{escape(self._note())}</p>"),
            (first.way.source, self._title(first), self._triptychs(first)),
            (second.way.source, self._title(second), self._triptychs(second)),
            ("labels", "Whether it stays the same digit", self._labels()),
            ("failures", "Where it fails", self._failures()),
            ("strangers", "Pictures of neither domain", self._strangers()),
            ("hidden", "What the way back reads", self._hidden()),
            ("training", "Over training", self._curves()),
            ("shape", "What decided its shape", f"<p>{escape(self.ablation)}</p>" if self.ablation else ""),
            ("latency", "How fast it translates", sections.latency(self.latency)),
            ("facts", "Facts", sections.facts(self.manifest)),
        ]
        names = [q.name for q in self.manifest.quality]
        return Page(
            manifest=self.manifest,
            claim=self._claim(),
            sections=[Section(key=key, title=title, inside=inside) for key, title, inside in parts],
            headlines=[name for name in names if name.startswith(("accuracy_", "psnr_")) and "real" not in name],
            latency=self.latency,
        )

    @cached_property
    def _domains(self) -> dict[str, Domain]:
        return {domain.name: domain for domain in self.manifest.domains}

    @cached_property
    def _examples(self) -> NDArray[np.int64]:
        """Row numbers: the first of each class, then the second of each, and so on."""
        y = self.scored[0].y
        turn, seen = np.empty(len(y), np.int64), dict[int, int]()
        for i, label in enumerate(y.tolist()):
            turn[i] = seen.get(label, 0)
            seen[label] = int(turn[i]) + 1
        return np.lexsort((y, turn))

    def _title(self, one: ScoredDirection) -> str:
        return f"{self._domains[one.way.source].title} to {self._domains[one.way.target].title.lower()}"

    def _claim(self) -> str:
        ways = []
        for one in self.scored:
            kept, db = float((one.read == one.y).mean()), psnr(one.squared)
            ways.append(
                f"{escape(self._title(one).lower())}, <strong>{percent(kept, len(one.y))}</strong> of the digits are "
                f"still read as what they were, and the pictures match the true ones with a PSNR of "
                f"<strong>{db:.1f}{THIN}dB</strong>"
            )
        return (
            f"It learnt from two heaps of pictures with no digit in both, and never saw a pair. On "
            f"{count(len(self.scored[0].y))} test digits, whose pictures in both domains are known to us: from "
            f"{'; from '.join(ways)}."
        )

    def _note(self) -> str:
        note = self.manifest.data.note
        return f"{note[:1].upper()}{note[1:]}." if note else ""

    def _figures(self) -> str:
        untouched = " and ".join(f"{psnr(self._untouched(one)):.1f}{THIN}dB {_words(one)}" for one in self.scored)
        note = f'<p class="note">A translator that changes nothing would reach {escape(untouched)}.</p>'
        return note + sections.measures(self.manifest) if self.manifest.quality else ""

    def _untouched(self, one: ScoredDirection) -> NDArray[np.float64]:
        given, truth = (x.astype(np.float64) / 255 for x in (one.given, one.truth))
        if given.shape[-1] != truth.shape[-1]:
            given = given.mean(axis=-1, keepdims=True)
        return np.asarray(((given - truth) ** 2).mean(axis=(1, 2, 3)))

    def _strip(self, one: ScoredDirection, rows: NDArray[np.int64], *, alt: str) -> str:
        """Given, made, truth, returned, below each other."""
        four = (_unit(one.given[rows]), one.made[rows], _unit(one.truth[rows]), one.returned[rows])
        return mosaics.mosaic(np.stack([_colour(x) for x in four]), alt=alt)

    def _triptychs(self, one: ScoredDirection) -> str:
        rows = self._examples[: 2 * SHOWN]
        blocks = [
            self._strip(one, rows[i : i + SHOWN], alt="Given, translated, true and returned pictures")
            for i in range(0, len(rows), SHOWN)
        ]
        return (
            '<p class="note">From top to bottom: the test picture that is given; its translation; the same digit’s '
            "true picture in that domain, which neither training nor the translator ever saw; and what comes back of "
            "the translation. The first of every class, then the second, and so on: none chosen, none left out.</p>"
            + '<div style="height:10px"></div>'.join(blocks)
        )

    def _labels(self) -> str:
        labels = self.manifest.labels
        rows = []
        for k, label in enumerate(labels):
            cells = []
            for one in self.scored:
                own = one.y == k
                if not own.any():
                    continue
                wrong = one.read[own][one.read[own] != k]
                taken = np.bincount(wrong, minlength=len(labels))
                most = f"{escape(labels[int(taken.argmax())])} ({int(taken.max())})" if len(wrong) else "–"
                cells += [
                    f"<td>{percent(float((one.read[own] == k).mean()), int(own.sum()))}</td>",
                    f"<td>{percent(float((one.read_truth[own] == k).mean()), int(own.sum()))}</td><td>{most}</td>",
                ]
            rows.append(f"<tr><td>{escape(label)}</td>{''.join(cells)}</tr>")
        titles = ["Digit"]
        for one in self.scored:
            titles += [_words(one), f"true {one.way.target}", "most often read as"]
        return (
            '<p class="note">Share of the test digits of each class that a classifier which had no part in training '
            "reads as what they were, after translation, and beside it from the true pictures: what it misreads "
            f"there is no fault of the translation.</p>{table(titles, rows)}"
        )

    def _failures(self) -> str:
        blocks = []
        for one in self.scored:
            far = np.argsort(-one.squared, kind="stable")[:WORST]
            lost = np.flatnonzero((one.read != one.y) & (one.read_truth == one.y))
            blocks.append(
                f'<h3 style="margin-top:1.6rem">{escape(self._title(one))}</h3>'
                f"<p>The {WORST} furthest from the truth:</p>"
                f"{self._strip(one, far, alt='Given, translated, true and returned pictures')}"
            )
            if len(lost):
                words = ", ".join(
                    f"{escape(self.manifest.labels[one.y[i]])} read as {escape(self.manifest.labels[one.read[i]])}"
                    for i in lost[:WORST]
                )
                blocks.append(
                    f"<p>{count(len(lost))} of {count(len(one.y))} are read as another digit although their true "
                    f"picture is not; the first of them: {words}.</p>"
                    f"{self._strip(one, lost[:WORST], alt='Given, translated, true and returned pictures')}"
                )
        return '<p class="note">Rows as above: given, translated, true, returned.</p>' + "".join(blocks)

    def _strangers(self) -> str:
        blocks = []
        for one in self.scored:
            held = np.array(next(w.cycle.errors for w in self.manifest.translations if w.source == one.way.source))
            rows, shown = [], []
            for title, x in self._kinds(one):
                made, returned = self.there_and_back(one.way.source, x)
                errors = absolute_errors(returned, x)
                p = [(1 + int((held >= e).sum())) / (1 + len(held)) for e in errors]
                low = float(np.mean(np.array(p) < 0.05))
                rows.append(
                    f'<tr><td class="wide">{escape(title)}</td><td>{np.median(errors):.4f}</td>'
                    f"<td>{np.median(p):.4f}</td><td>{percent(low, len(p))}</td></tr>"
                )
                shown.append(np.stack([_colour(v[:STRANGE]) for v in (_unit(x), made, returned)]))
            drawing = mosaics.mosaic(np.concatenate(shown, axis=1), alt="Given, translated and returned pictures")
            titles = ("<Given", "Median cycle error", "Median p-value", "p below 0.05")
            blocks.append(
                f'<h3 style="margin-top:1.6rem">As {escape(one.way.source)}</h3>{table(titles, rows)}{drawing}'
            )
        return (
            '<p class="note">A translator answers whatever it is given. What does not come back as it was is to be '
            "doubted: the p-value is the share of held-out pictures of the domain that came back at least as badly. "
            "That only catches what is lost on the way: a picture that passes both ways unchanged has a small error "
            "wherever it is from. 100 pictures of each kind; below, six of each in the table’s order: given, "
            f"translated, returned.</p>{''.join(blocks)}"
        )

    def _kinds(self, one: ScoredDirection) -> list[tuple[str, Pixels]]:
        """100 pictures each: of the domain, of the other one, and of none."""
        rng = np.random.default_rng(SEED)
        shape = one.given[:100].shape

        def fitting(x: Pixels) -> Pixels:
            if x.shape[-1] == shape[-1]:
                return x
            grey = np.rint(x.mean(axis=-1, keepdims=True)).astype(np.uint8)
            return np.repeat(grey, shape[-1], axis=-1)

        kinds = [(f"{one.way.source}, as it should be", one.given[:100])]
        kinds.append((f"{one.way.target}, the other domain", fitting(one.truth[:100])))
        if not np.array_equal(self.plain[:100], one.given[:100]) and not np.array_equal(
            self.plain[:100], one.truth[:100]
        ):
            kinds.append(("digits as they were written", fitting(self.plain[:100])))
        kinds.append((f"{one.way.source}, upside down", one.given[:100, ::-1].copy()))
        kinds.append((f"{one.way.source}, black for white", 255 - one.given[:100]))
        kinds.append(("noise", rng.integers(0, 256, shape, dtype=np.uint8)))
        return kinds

    def _hidden(self) -> str:
        """Steganography (Chu et al. 2017): does the way back need what nobody can see?"""
        rows = []
        for one in self.scored:
            made = one.made[:1000]
            rng = np.random.default_rng(SEED)
            noisy = made + np.float32(0.03) * rng.standard_normal(made.shape, np.float32)
            cells = []
            for x in (in_8_bits(made), _levels(made, 15), _levels(made, 7), in_8_bits(noisy), one.truth[:1000]):
                back = self.translate(one.way.target, x)
                cells.append(f"<td>{absolute_errors(back, one.given[:1000]).mean():.4f}</td>")
            rows.append(f"<tr><td>{escape(_words(one))}</td>{''.join(cells)}</tr>")
        titles = ("<From", "8 bits", "4 bits", "3 bits", "8 bits with noise of 0.03", "the true picture")
        return (
            '<p class="note">A cycle can be closed by cheating: the translation carries what the way back needs in '
            "detail too fine to see. Then the return falls apart once that detail is rounded away or drowned in noise, "
            "or when the true picture of the other domain, which hides nothing, is sent back instead. Mean absolute "
            f"error of the return, 1,000 test pictures.</p>{table(titles, rows)}"
        )

    def _curves(self) -> str:
        first, second = self.scored

        def chart(lines: Sequence[tuple[str, str]], y_label: str, *, scale: float = 1.0) -> str:
            drawn = []
            for (key, label), colour in zip(lines, ("one", "two"), strict=False):
                points = [
                    (row.get("step", i + 1.0), scale * row[key])
                    for i, row in enumerate(self.history)
                    if np.isfinite(row.get(key, np.nan))
                ]
                drawn.append(charts.Line(label=label, points=points, colour="two" if colour == "two" else "one"))
            found = [line for line in drawn if line.points]
            return charts.line_chart(found, x_label="step", y_label=y_label) if found else ""

        there, back = first.way, second.way
        found = [
            chart([("held_psnr_there", f"to {there.target}"), ("held_psnr_back", f"to {back.target}")], "PSNR, dB"),
            chart([("held_cycle_there", there.source), ("held_cycle_back", back.source)], "Held-out cycle error"),
            chart([("cycle", "cycle"), ("identity", "identity")], "Losses in training"),
            chart([("critic_right", "critics")], "Critics right, %", scale=100),
        ]
        if not any(found):
            return ""
        return (
            '<p class="note">PSNR is to the true pictures of held-out digits: watched from outside, never learnt from. '
            "Critics that are right half of the time cannot tell translations from real pictures; at 100 % they have "
            f'won and teach nothing.</p><div class="charts">{"".join(found)}</div>'
        )


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
