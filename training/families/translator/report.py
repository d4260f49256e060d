"""The report of a translator: unedited sentences, the worst ones, where it looks, and when to believe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.decoding.writing import Hypothesis
from app.core.manifest import Manifest
from app.core.metric_names import THIN
from training.data.parallel import LANGUAGES
from training.families.translator.metrics import BEAM, WRONG, Model, Translated, sureness
from training.metrics.classification import equal_width_bins
from training.metrics.translation import bleu, sentence_chrf
from training.reporting.ablations import tried
from training.reporting.charts import Line, line_chart, reliability_chart, svg
from training.reporting.figures import figures
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, charts, figure, note
from training.reporting.made import made
from training.reporting.page import Page
from training.reporting.shapes import shapes
from training.reporting.table import Row, table, wide

SHOWN: Final = 20  # of each test that is shown
WORST: Final = 10
MAPS: Final = 4
FIFTHS: Final = 5
LENGTHS: Final = ((1, 8), (9, 11), (12, 14), (15, 18), (19, 99))  # words
CELL: Final = 20  # pixels of a map


@dataclass(frozen=True, kw_only=True)
class TranslatorReport:
    """Everything the page needs. `found` is what training kept; `forced` is of the first test, see `Model.forced`."""

    manifest: Manifest
    found: Mapping[str, Any]
    done: Sequence[Translated]
    model: Model
    forced: tuple[NDArray[np.float64], NDArray[np.int64]]
    speed: Sequence[Mapping[str, float]]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("sentences", "Twenty sentences, unedited", self._sentences()),
                Section("worst", "The ten worst", self._worst()),
                figures(m, unit="sentences"),
                Section("attention", "Where it looks", self._attention()),
                Section("length", "With attention and without", self._lengths()),
                Section("believe", "Does its probability say when it is wrong?", self._believe()),
                Section("calibration", "Calibration of tokens", self._calibration()),
                Section("training", "Learning curves", self._training()),
                tried(Path(__file__).parent, m.data.spec),
                Section("speed", "Speed", self._speed()),
                shapes("many to many"),
                made(m),
            ],
            headlines=("bleu", "chrf", "bleu_tatoeba", "gain_of_attention_bleu"),
        )

    def _claim(self) -> str:
        q = {q.name: q for q in self.manifest.quality}
        languages = self.manifest.languages
        assert languages is not None
        return (
            f"Translates {LANGUAGES[languages.source]} to {LANGUAGES[languages.target]} at "
            f"<strong>{q['bleu'].value:.1f}{THIN}BLEU</strong> ({q['chrf'].value:.1f} chrF2) on {q['bleu'].rows:,} "
            "descriptions of pictures that it has not seen, raw text in and detokenised text out."
        )

    def _sentences(self) -> str:
        """Evenly spaced in their test, so that nobody chose them."""
        blocks = []
        for one in self.done:
            if one.test not in (self.done[0].test, "tatoeba"):
                continue
            chosen = np.linspace(0, len(one.pairs) - 1, min(SHOWN, len(one.pairs))).round().astype(int)
            blocks.append(f"<h3>{escape(one.test)}</h3>" + self._table(one, chosen.tolist()))
        return note(
            f"Evenly spaced in the test, by a beam of {BEAM}; none was left out. p is the geometric mean of the "
            "tokens' probabilities."
        ) + "".join(blocks)

    def _table(self, one: Translated, chosen: Sequence[int]) -> str:
        scores = sentence_chrf([one.beam_texts[i] for i in chosen], [one.pairs.target[i] for i in chosen])
        sure = sureness([one.beam[i] for i in chosen])
        rows: list[Row] = [
            (
                wide(one.pairs.source[i]),
                wide(one.beam_texts[i], f"reference: {escape(one.pairs.target[i])}"),
                f"{score:.0f}",
                f"{100 * np.exp(log):.0f} %",
            )
            for i, score, log in zip(chosen, scores, sure, strict=True)
        ]
        return table(("Source", "<Translation", "chrF2", "p"), rows)

    def _worst(self) -> str:
        one = self.done[0]
        scores = np.array(sentence_chrf(one.beam_texts, one.pairs.target))
        chosen = np.argsort(scores, kind="stable")[:WORST].tolist()
        return note(
            "Of the headline's test, by chrF2 against the one reference that there is. A good translation that "
            "shares no word with it is among them as well."
        ) + self._table(one, chosen)

    def _attention(self) -> str:
        one = self.done[0]
        lengths = np.array([len(text.split()) for text in one.pairs.source])
        middle = np.flatnonzero((lengths >= 7) & (lengths <= 12))
        chosen = middle[:: max(1, len(middle) // MAPS)][:MAPS] if len(middle) else np.arange(min(MAPS, len(lengths)))
        drawn = [figure(self._map(one, int(i))) for i in chosen]
        return note(
            "Columns are tokens read, rows tokens written; the darker a cell, the more of that token was looked at "
            "when this one was written. The last column is the end of the sentence."
        ) + charts(drawn, columns="two")

    def _map(self, one: Translated, i: int) -> str:
        read = self.model.read.encode(one.pairs.source[i]).tokens
        return attention_map(read, self.model.written.pieces(one.greedy[i].tokens), one.greedy[i])

    def _lengths(self) -> str:
        twin = self.found["twin"]["texts"]
        one = self.done[0]
        if not twin:
            return ""
        lengths = np.array([len(text.split()) for text in one.pairs.source])
        rows: list[Row] = []
        points: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
        for low, high in LENGTHS:
            inside = np.flatnonzero((lengths >= low) & (lengths <= high)).tolist()
            if not inside:
                continue
            references = [one.pairs.target[i] for i in inside]
            scores = [bleu([texts[i] for i in inside], references) for texts in (one.beam_texts, twin)]
            for name, score in zip(points, scores, strict=True):
                points[name].append((float(lengths[inside].mean()), score))
            rows.append((f"{low} to {high}", len(inside), *(f"{score:.1f}" for score in scores)))
        lines = [
            Line(label="with attention", points=points["with"]),
            Line(label="without attention", points=points["without"], colour="two"),
        ]
        return (
            note(
                "The twin has the same encoder and decoder and was trained alike. It must carry the whole sentence in "
                "the numbers that the encoder had at its two ends."
            )
            + charts([line_chart(lines, x_label="words read", y_label="BLEU", from_zero=True)])
            + table(("Words read", "Sentences", "With", "Without"), rows)
        )

    def _believe(self) -> str:
        one = self.done[0]
        sure = sureness(one.greedy)
        scores = np.array(sentence_chrf(one.greedy_texts, one.pairs.target))
        order = np.argsort(-sure, kind="stable")
        rows: list[Row] = [
            (
                f"{100 * np.exp(sure[part].max()):.0f} to {100 * np.exp(sure[part].min()):.0f} %",
                len(part),
                f"{scores[part].mean():.1f}",
                f"{100 * float((scores[part] < WRONG).mean()):.1f} %",
            )
            for part in np.array_split(order, FIFTHS)
            if len(part)
        ]
        surest = order[: max(1, len(order) // 3)]
        worst = surest[np.argsort(scores[surest], kind="stable")][:WORST]
        return (
            note(
                "Greedy translations of the headline's test in fifths, the surest first, by the geometric mean of the "
                f"tokens' probabilities. A translation is called wrong where its chrF2 is under {WRONG:.0f}."
            )
            + table(("Mean probability", "Sentences", "chrF2, mean", "Wrong"), rows)
            + note("Of the surest third, those with the lowest chrF2:")
            + table(
                ("Source", "<Translation", "chrF2", "p"),
                [
                    (
                        wide(one.pairs.source[i]),
                        wide(one.greedy_texts[i], f"reference: {escape(one.pairs.target[i])}"),
                        f"{scores[i]:.0f}",
                        f"{100 * np.exp(sure[i]):.0f} %",
                    )
                    for i in worst.tolist()
                ],
            )
        )

    def _calibration(self) -> str:
        p, y = self.forced
        calibration = self.manifest.calibration
        assert calibration is not None
        return note(
            "Of the tokens that get a probability of 80 %, about 80 % should be the reference's next one. The "
            f"temperature is {calibration.temperature:.3f}; it was fitted on {calibration.rows:,} held-out tokens and "
            "is part of the graph. In its own translations a model follows its own tokens, not the reference's: there "
            "its probabilities say how usual a sentence is, not how right."
        ) + charts([reliability_chart(equal_width_bins(p, y), label="of tokens")], columns="two")

    def _training(self) -> str:
        names = {key.removeprefix("held_nll_"): key for key in self.found["history"][-1] if key.startswith("held_nll")}
        return history_charts(
            self.found["history"],
            [
                Curves(y_label="Held-out loss, nats a token", lines=[(key, name) for name, key in names.items()]),
                Curves(
                    y_label="Held-out tokens right, %",
                    lines=[(f"held_accuracy_{name}", name) for name in names],
                    shown=lambda v: 100 * v,
                ),
                Curves(y_label="Training loss, labels smoothed", lines=[("loss", "loss")]),
            ],
        )

    def _speed(self) -> str:
        rows = [(int(one["sentences"]), f"{one['words_per_s']:.0f}") for one in self.speed]
        return note(
            "Words written in a second by one thread, greedily, both graphs and the search; measured when the model "
            "was published, and without HTTP."
        ) + table(("Sentences together", "Words a second"), rows)


def attention_map(read: Sequence[str], written: Sequence[str], hypothesis: Hypothesis) -> str:
    """A drawing: columns are what was read, rows what was written."""
    left, top = 8 + 7 * max(map(len, written), default=1), 16 + 7 * max(map(len, read))
    parts = []
    for j, token in enumerate(read):
        x = left + CELL * (j + 0.5)
        parts.append(
            f'<text class="muted" transform="translate({x + 4:.0f} {top - 6}) rotate(-90)">{escape(token)}</text>'
        )
    for i, (token, row) in enumerate(zip(written, hypothesis.attention, strict=True)):
        y = top + CELL * i
        parts.append(
            f'<text class="muted" x="{left - 6}" y="{y + 14}" text-anchor="end">{escape(token.strip())}</text>'
        )
        parts += [
            f'<rect class="cell" x="{left + CELL * j}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" '
            f'opacity="{0.04 + 0.96 * float(weight):.2f}"/>'
            for j, weight in enumerate(row[: len(read)])
        ]
    width, height = left + CELL * len(read) + 8, top + CELL * len(written) + 8
    return svg(parts, width, height, "Attention")
