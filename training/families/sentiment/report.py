"""The report of a classifier of reviews: which words decide, and where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.text.tokenizer import Tokenizer
from app.codecs.text.words import words_of
from app.core.manifest import Manifest
from app.core.metric_names import THIN
from training.data.sentiment import Texts
from training.families.sentiment.trainer import tensors
from training.metrics import classification as measure
from training.metrics import onnx_model
from training.reporting import classification
from training.reporting.ablations import tried
from training.reporting.calibration import calibration
from training.reporting.figures import figures
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, note
from training.reporting.made import made
from training.reporting.page import Page
from training.reporting.shapes import shapes
from training.reporting.table import Cell, table, wide

SHOWN: Final = 12
MISTAKES: Final = 20
WORDS: Final = 40  # of a text whose words are weighed
LETTERS: Final = 400  # of a text that is shown


def speed(folder: Path, manifest: Manifest, texts: Sequence[str]) -> list[dict[str, float]]:
    """Milliseconds of one run by one thread, by texts in it, and their tokens."""
    assert manifest.text is not None
    session = onnx_model.open_graph(folder, manifest.graphs["classifier"], threads=1)
    tokenizer = Tokenizer((folder / manifest.text.tokenizer.file).read_bytes())
    found = []
    for rows in (1, 8, 32):
        tokens, length = tensors([tokenizer.encode(text, manifest.text.max_tokens).ids for text in texts[:rows]])
        taken = []
        for _ in range(5):
            begun = perf_counter()
            session.run(None, {"tokens": tokens.numpy(), "length": length.numpy()})
            taken.append(1000 * (perf_counter() - begun))
        found.append({"rows": rows, "tokens": float(length.float().mean()), "ms": float(np.median(taken))})
    return found


@dataclass(frozen=True, kw_only=True)
class SentimentReport:
    """Everything the page needs; `probabilities` (N, labels) are of the test texts, `said` gives those of any texts."""

    manifest: Manifest
    found: Mapping[str, Any]
    test: Texts
    probabilities: NDArray[np.float32]
    said: Callable[[Sequence[str]], NDArray[np.float32]]
    speed: Sequence[Mapping[str, float]]

    def page(self) -> Page:
        """The page, ready to be written."""
        m, p, y = self.manifest, self.probabilities, self.test.y
        matrix = np.zeros((len(m.labels), len(m.labels)), np.int64)
        np.add.at(matrix, (y, p.argmax(axis=1)), 1)
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("words", "Which words decide", self._words()),
                figures(m, unit="texts"),
                Section("mistakes", "The most confident mistakes", self._mistakes()),
                classification.confusion(matrix, m.labels),
                calibration(p, None, y, m),
                Section("training", "Learning curves", self._training()),
                tried(Path(__file__).parent, m.data.spec),
                Section("speed", "Speed", self._speed()),
                shapes("many to one"),
                made(m),
            ],
            headlines=("accuracy_mean", "accuracy", "nll", "ece"),
        )

    def _claim(self) -> str:
        q = next(q for q in self.manifest.quality if q.name == "accuracy")
        return (
            f"Tells negative from positive and is right in <strong>{100 * q.value:.1f}{THIN}%</strong> of {q.rows:,} "
            "test texts about films. Many words in, one label out: the net reads in both directions and keeps, of each "
            "number of its state, the largest and the mean."
        )

    def _words(self) -> str:
        """Evenly spaced test texts of at most `WORDS` words; a word weighs what leaving it out changes."""
        short = [i for i, text in enumerate(self.test.texts) if 2 <= len(words_of(text)) <= WORDS]
        chosen = [short[i] for i in np.linspace(0, len(short) - 1, min(SHOWN, len(short))).round().astype(int)]
        rows = []
        for i in chosen:
            text, positive = self.test.texts[i], float(self.probabilities[i, 1])
            words = words_of(text)
            without = self.said([text[: word.start] + text[word.end :] for word in words])[:, 1]
            shown, at = "", 0
            for word, other in zip(words, without.tolist(), strict=True):
                weight = positive - other
                colour, strength = "0,128,64" if weight > 0 else "200,32,32", min(1.0, 2 * abs(weight))
                shown += escape(text[at : word.start])
                shown += f'<span style="background:rgba({colour},{strength:.2f})">{escape(word.text)}</span>'
                at = word.end
            true = self.manifest.labels[int(self.test.y[i])]
            rows.append((Cell(shown + escape(text[at:]), style="wide"), true, f"{100 * positive:.0f} %"))
        return note(
            "Test texts, evenly spaced. Green words make it more positive, red ones less: by how much the probability "
            "changes where the word alone is left out."
        ) + table(("Text", "<True label", "Positive"), rows)

    def _mistakes(self) -> str:
        p, y, labels = self.probabilities, self.test.y, self.manifest.labels
        rows = [
            (
                wide(self.test.texts[i][:LETTERS]),
                labels[int(y[i])],
                f"{100 * float(p[i].max()):.1f} % {labels[int(p[i].argmax())]}",
            )
            for i in measure.most_confident_mistakes(p, y, limit=MISTAKES)
        ]
        return table(("Text", "<True label", "<Said"), rows)

    def _training(self) -> str:
        return history_charts(
            self.found["history"],
            [
                Curves(
                    y_label="Right, %",
                    lines=[("held_accuracy", "held-out"), ("accuracy", "training, noisy")],
                    shown=lambda v: 100 * v,
                ),
                Curves(y_label="Loss", lines=[("held_loss", "held-out"), ("loss", "training, noisy")]),
            ],
        )

    def _speed(self) -> str:
        rows = [(int(one["rows"]), f"{one['tokens']:.0f}", f"{one['ms']:.1f}") for one in self.speed]
        return note("One run of the graph by one thread, when the model was published; HTTP is not included.") + table(
            ("Texts per run", "Tokens each", "ms"), rows
        )
