"""Reports of captioners: captions over pictures with where the net looked, and what there is to doubt them by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import exp
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images

from app.codecs.images.attention import attention_page
from app.core.decoding.writing import Hypothesis
from app.core.manifest import Manifest
from app.core.metric_names import THIN
from training.data.scenes import HELD_OUT, LANGUAGES
from training.families.captioner.metrics import (
    BEAM,
    CaptionedPhotos,
    CaptionedScenes,
    Model,
    asked,
    ranks,
    surest,
)
from training.families.captioner.network import GRID, SIDE
from training.metrics.captions import bleu_4, cider_d, cider_d_each
from training.metrics.onnx_model import Latency
from training.reporting.ablations import tried
from training.reporting.figures import figures
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, charts, figure, note
from training.reporting.latency import latency
from training.reporting.made import made
from training.reporting.mosaics import mosaic, thumbnail
from training.reporting.page import Page
from training.reporting.shapes import shapes
from training.reporting.table import Cell, Row, table, wide

SHOWN: Final = 20
WORST: Final = 10
MAPS: Final = 6
PHOTOS_SHOWN: Final = 6
RANKS: Final = (1, 5, 10, 50, 100)
COUNTS: Final = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class PhotoReport:
    """Everything the page needs; no photograph of the data set is among it.

    `found` is what training kept; `people` the test's sentences, `train` all that were trained on. `pictures` may be
    shown, `shown` and `evidence` are of them.
    """

    manifest: Manifest
    found: Mapping[str, Any]
    done: CaptionedPhotos
    people: Sequence[Sequence[str]]
    train: set[str]
    model: Model
    pictures: NDArray[np.uint8]
    shown: Sequence[Hypothesis]
    evidence: Sequence[float]
    latency: Sequence[Latency]
    speed: Sequence[Mapping[str, float]]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("photographs", "Photographs that nobody trained on", self._photographs()),
                Section("sentences", "Twenty captions, unedited", self._sentences()),
                Section("sight", "Does it look?", self._sight()),
                Section("variety", "How much it says", self._variety()),
                figures(m, unit="photographs"),
                Section("training", "Learning curves", self._training()),
                tried(Path(__file__).parent, "photographs"),
                Section("speed", "Speed", _speed(self.speed)),
                latency(self.latency, before=note("Of the encoder, which runs once a picture.")),
                shapes("one to many"),
                made(m),
            ],
            headlines=("cider", "bleu_4", "recall_10", "gain_of_sight_cider"),
        )

    def _claim(self) -> str:
        q = {q.name: q for q in self.manifest.quality}
        people = cider_d([own[0] for own in self.people], [own[1:] for own in self.people])
        return (
            f"Captions photographs at <strong>{q['cider'].value:.2f}{THIN}CIDEr-D</strong> and "
            f"{q['bleu_4'].value:.1f} BLEU-4, on {q['cider'].rows:,} that it has not seen. That is poor: one person's "
            f"sentence has {people:.2f} against the other four's. Its eyes learnt from 6,000 pictures alone, where "
            "others begin from nets that have seen a million."
        )

    def _photographs(self) -> str:
        drawn = [
            figure(
                looked(pixels, self.model, one),
                caption=f"{escape(self.model.text(one))} Evidence {evidence:.1f}{THIN}nats.",
            )
            for pixels, one, evidence in zip(self.pictures, self.shown, self.evidence, strict=True)
        ]
        return note(
            "scikit-learn's two photographs and parts of them; those of the data set may not be shown. A panel a word: "
            "light is where the net looked when it wrote the word, the number is the word's probability. Evidence is "
            "how much likelier the caption is with the picture than with a blank one: near 0 it says what it always "
            "says."
        ) + charts(drawn)

    def _sentences(self) -> str:
        scores = cider_d_each(self.done.beam, self.done.photos.sentences)
        chosen = np.linspace(0, len(scores) - 1, min(SHOWN, len(scores))).round().astype(int).tolist()
        order = np.argsort(scores, kind="stable")
        rows = [self._row(i, scores[i]) for i in chosen]
        best = [self._row(int(i), scores[int(i)]) for i in order[::-1][:5]]
        nothing = 100 * float(np.mean(np.array(scores) < 0.05))
        return (
            note(
                f"Evenly spaced in the test, by a beam of {BEAM['photos']}; none was left out. The photographs may "
                f"not be shown; people's first sentence says what is in them. {nothing:.0f}{THIN}% of all captions "
                "score under 0.05."
            )
            + table(("People", "<Caption", "CIDEr-D"), rows)
            + note("The five best of the test, which were chosen:")
            + table(("People", "<Caption", "CIDEr-D"), best)
        )

    def _row(self, i: int, score: float) -> Row:
        return wide(self.done.photos.sentences[i][0]), wide(self.done.beam[i]), f"{score:.2f}"

    def _sight(self) -> str:
        references = self.done.photos.sentences
        usual = Counter(self.done.beam).most_common(1)[0][0]
        rows: list[Row] = [
            self._scored("this model", self.done.beam),
            self._scored("its captions, dealt to other photographs", [*self.done.beam[1:], self.done.beam[0]]),
            self._scored(f"always its most frequent one: {usual}", [usual] * len(references)),
        ]
        if blind := self.found["twin"]["text"]:
            rows.append(self._scored(f"the blind twin: {blind}", [blind] * len(references)))
        places = ranks(self.done.scores, asked(len(references)))
        among: list[Row] = [
            (str(n), f"{100 * float((places <= n).mean()):.1f}{THIN}%", f"{100 * n / len(references):.1f}{THIN}%")
            for n in RANKS
            if n <= len(references)
        ]
        return (
            note(
                "The twin has the same decoder and was trained alike, but saw a blank picture. It knows what captions "
                "are like and nothing of the photograph: what this model has more, it has by looking."
            )
            + table(("Captions", "CIDEr-D", "BLEU-4"), rows)
            + note(
                f"The other way round: {len(places)} sentences of people, and all {len(references):,} test photographs "
                "in the order of the probability that the model gives to the sentence. Is the sentence's own "
                f"photograph among the first? (Median place: {float(np.median(places)):.0f}.)"
            )
            + table(("Among the first", "Share", "By chance"), among)
        )

    def _scored(self, name: str, texts: Sequence[str]) -> Row:
        references = self.done.photos.sentences
        return wide(name), f"{cider_d(texts, references):.3f}", f"{bleu_4(texts, references):.1f}"

    def _variety(self) -> str:
        often = Counter(self.done.beam)
        copied = sum(text in self.train for text in self.done.beam)
        words = {word for text in self.done.beam for word in text.lower().strip(".").split()}
        people = {word for own in self.people for word in own[0].lower().strip(".").split()}
        rows: list[Row] = [(wide(text), count) for text, count in often.most_common(WORST)]
        return note(
            f"{len(often):,} different captions of {len(self.done.beam):,} photographs, with {len(words):,} different "
            f"words (one person's have {len(people):,}); {copied:,} of them stand word for word in the training "
            "sentences. The most frequent:"
        ) + table(("Caption", "Photographs"), rows)

    def _training(self) -> str:
        twin = self.found["twin"]["history"]
        both = [
            {**row, **({f"blind_{name}": value for name, value in twin[i].items()} if i < len(twin) else {})}
            for i, row in enumerate(self.found["history"])
        ]
        return history_charts(
            both,
            [
                Curves(
                    y_label="Held-out loss, nats a token", lines=[("held_nll", "seeing"), ("blind_held_nll", "blind")]
                ),
                Curves(y_label="Held-out CIDEr-D, greedy", lines=[("held_cider", "seeing")], from_zero=True),
                Curves(y_label="Training loss, labels smoothed", lines=[("loss", "seeing"), ("blind_loss", "blind")]),
            ],
        )


@dataclass(frozen=True, kw_only=True)
class SceneReport:
    """Everything the page needs. `photos` are of the world, not scenes: what the model makes of them is shown."""

    manifest: Manifest
    found: Mapping[str, Any]
    test: CaptionedScenes
    unseen: CaptionedScenes
    language: str
    model: Model
    photos: NDArray[np.uint8]
    latency: Sequence[Latency]
    speed: Sequence[Mapping[str, float]]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("looks", "Where it looks", self._looks()),
                Section("unseen", "Colours that a digit never had", self._unseen()),
                Section("wrong", "What it gets wrong", self._wrong()),
                Section("believe", "Does its probability say when it is wrong?", self._believe()),
                figures(m, unit="scenes"),
                Section("training", "Learning curves", self._training()),
                tried(Path(__file__).parent, "scenes"),
                Section("speed", "Speed", _speed(self.speed)),
                latency(self.latency, before=note("Of the encoder, which runs once a picture.")),
                shapes("one to many"),
                made(m),
            ],
            headlines=("accuracy_exact", "accuracy_unseen", "share_pointed"),
        )

    def _claim(self) -> str:
        q = {q.name: q for q in self.manifest.quality}
        exact, unseen = q["accuracy_exact"], q["accuracy_unseen"]
        return (
            f"Says in {LANGUAGES[self.language]} which digits a picture has, in which colours and where: letter by "
            f"letter right in <strong>{100 * exact.value:.1f}{THIN}%</strong> of {exact.rows:,} scenes of digits that "
            f"it has not seen, and in {100 * unseen.value:.1f}{THIN}% of those with a digit in a colour that it never "
            "had in training."
        )

    def _looks(self) -> str:
        counts = np.array([len(scene) for scene in self.test.scenes.scenes])
        firsts = [np.flatnonzero(counts == count) for count in (2, 3, 1, 4)]
        chosen = [int(own[k]) for k in range(2) for own in firsts if k < len(own)][:MAPS]
        return note(
            "The first test scenes of each size. A panel a word: light is where the net looked when it wrote the word, "
            "the number is the word's probability."
        ) + charts([self._look(self.test, i) for i in chosen])

    def _look(self, done: CaptionedScenes, i: int) -> str:
        right = "right" if done.exact[i] else f"wrong; true is: {escape(done.truth[i])}"
        pixels = done.scenes.pictures[i].numpy()
        return figure(looked(pixels, self.model, done.found[i]), caption=f"{escape(done.texts[i])} ({right})")

    def _unseen(self) -> str:
        rows: list[Row] = []
        for count in COUNTS:
            cells = []
            for done in (self.test, self.unseen):
                own = np.array([len(scene) == count for scene in done.scenes.scenes])
                cells.append(f"{100 * float(done.exact[own].mean()):.1f}{THIN}%" if own.any() else "–")
            rows.append((str(count), *cells))
        kinds = Counter((one.digit, one.colour) for scene in self.unseen.scenes.scenes for one in scene)
        shown = sum(count for kind, count in kinds.items() if kind in HELD_OUT)
        return note(
            f"Of the fifty kinds (a digit in a colour) ten were in no scene of training; they are {shown:,} times in "
            "the second column's scenes. A net that learnt kinds by heart, and not colours and digits, would fail."
        ) + table(("Digits", "Exact, seen kinds", "Exact, with unseen kinds"), rows)

    def _wrong(self) -> str:
        rows: list[Row] = []
        for done in (self.test, self.unseen):
            for i in np.flatnonzero(~done.exact)[:WORST].tolist():
                picture = thumbnail(done.scenes.pictures[i].numpy(), alt=done.truth[i])
                words = f"{wide(done.texts[i]).html}<br><small>true: {escape(done.truth[i])}</small>"
                rows.append((Cell(picture), Cell(words, style="wide"), f"{exp(done.found[i].log_probability):.2f}"))
        found = table(("Scene", "<Caption", "p"), rows) if rows else note("Nothing.")
        strange = [
            figure(looked(pixels, self.model, one), caption=escape(self.model.text(one)))
            for pixels, one in zip(self.photos, self.model.captions(self.photos), strict=True)
        ]
        return (
            note("The first mistakes of each test, none left out; p is the probability of the whole caption.")
            + found
            + note("And pictures that are no scenes: it knows nothing else to say, and says it.")
            + charts(strange, columns="two")
        )

    def _believe(self) -> str:
        exact = np.concatenate([self.test.exact, self.unseen.exact])
        logs = np.concatenate([self.test.logs, self.unseen.logs])
        order = np.argsort(-logs, kind="stable")
        rows: list[Row] = [
            (
                f"{exp(logs[part].max()):.4f} to {exp(logs[part].min()):.4f}",
                len(part),
                f"{100 * float((~exact[part]).mean()):.1f}{THIN}%",
            )
            for part in np.array_split(order, 5)
            if len(part)
        ]
        sure = surest(logs)
        return note(
            "Captions of both tests in fifths, the surest first, by the probability of the whole caption. Of the "
            f"surest third, {int((~exact[sure]).sum())} of {len(sure):,} are wrong."
        ) + table(("Probability", "Captions", "Wrong"), rows)

    def _training(self) -> str:
        names = [(f"held_exact_{code}", name) for code, name in LANGUAGES.items()]
        return note("One net learns both languages; it is published once for each.") + history_charts(
            self.found["history"],
            [
                Curves(y_label="Held-out sentences exact, %", lines=names, shown=lambda v: 100 * v, from_zero=True),
                Curves(y_label="Held-out loss, nats a token", lines=[("held_nll", "loss")], log_y=True),
                Curves(y_label="Training loss, nats a token", lines=[("loss", "loss")], log_y=True),
            ],
        )


def shown_photos(rows: int) -> NDArray[np.uint8]:
    """Pictures that may be shown: scikit-learn's two photographs whole, then parts of them, (rows, SIDE, SIDE, 3)."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    found = []
    for i in range(rows):
        photo = photos[i % len(photos)]
        width, height = photo.size
        share = 1.0 if i < len(photos) else float(rng.uniform(0.3, 0.9))
        left, top = (float(rng.uniform(0, (1 - share) * size)) for size in (width, height))
        box = (left, top, left + share * width, top + share * height)
        found.append(np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)))
    return np.stack(found)


def looked(pixels: NDArray[np.uint8], model: Model, one: Hypothesis) -> str:
    """The picture once for each token of a caption, light where the net looked."""
    pieces = [piece.strip() for piece in model.writer.pieces(one.tokens)]
    labels = [f"{piece} {exp(log):.2f}" for piece, log in zip(pieces, one.log_probabilities, strict=False)]
    page = attention_page(pixels, labels, np.array([row.reshape(GRID, GRID) for row in one.attention]))
    return mosaic(page[None] / 255, alt=model.text(one), scale=1)


def _speed(speed: Sequence[Mapping[str, float]]) -> str:
    rows: list[Row] = [(int(one["pictures"]), f"{one['captions_per_s']:.0f}") for one in speed]
    return note(
        "Captions written in a second by one thread, greedily, both graphs and the search; measured when the model was "
        "published, and without HTTP."
    ) + table(("Pictures together", "Captions a second"), rows)
