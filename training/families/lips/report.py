"""The report of a lip reader: sentences that went well and badly, what its memory does, which letters look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Manifest
from app.core.metric_names import THIN
from training.data.grid import GRAMMAR, LABELS, RATE, SILENCE, Clip, first_frame
from training.families.lips.metrics import LETTERS, PublishedLips, Read, read
from training.reporting.ablations import tried
from training.reporting.charts import Line, line_chart
from training.reporting.classification import confusion
from training.reporting.figures import figures
from training.reporting.formatting import percent
from training.reporting.frames import above, over_time, strips
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, charts, figure, note
from training.reporting.made import made
from training.reporting.mosaics import mosaic
from training.reporting.page import Page
from training.reporting.shapes import shapes
from training.reporting.table import table

PLACES: Final = ("command", "colour", "preposition", "letter", "digit", "adverb")
EVERY: Final = 5  # of the frames that are shown
FIRST, WORST = 3, 3  # clips that are shown


@dataclass(frozen=True, kw_only=True)
class LipReport:
    """Everything the page needs; N test clips of T frames.

    `found` is what training kept: `history`; `state` and `gate` (T, units) of the first clip; `context`, accuracy by
    how many frames are seen at once.
    """

    manifest: Manifest
    found: Mapping[str, Any]
    model: PublishedLips
    clips: Sequence[Clip]
    video: NDArray[np.uint8]  # (N, T, H, W)
    labels: NDArray[np.int64]  # (N, T)
    probabilities: NDArray[np.float32]  # (N, T, L)
    clip_ms: float

    @cached_property
    def read(self) -> Read:
        return read(self.probabilities, self.clips)

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        letters = GRAMMAR[LETTERS]
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("sentences", "Sentences, read rightly and wrongly", self._sentences()),
                figures(m),
                Section("places", "Words by their place in the sentence", self._places()),
                Section("letters", "Letters that look alike", confusion(self._letters(), letters).body),
                Section("context", "What memory does", self._context()),
                Section("state", "The state, frame by frame", self._state()),
                Section("cut", "A sentence with words cut out", self._cut()),
                Section("training", "Learning curves", self._training()),
                Section("speed", "Speed", self._speed()),
                tried(Path(__file__).parent, "grid-s1"),
                shapes("synced many to many"),
                made(m),
            ],
            headlines=("word_accuracy", "frame_accuracy", "word_error_rate"),
        )

    def _claim(self) -> str:
        q = {one.name: one.value for one in self.manifest.quality}
        return (
            "Reads words from a mouth that is seen and not heard. Of the words of "
            f"{len(self.clips)} sentences that it has never seen "
            f"<strong>{100 * q['word_accuracy']:.1f}{THIN}%</strong> are named rightly where it is known when each is "
            f"spoken, and {100 * (1 - q['word_error_rate']):.1f}{THIN}% where only the sentence's grammar is. One "
            "man's face, talker s1 of the GRID corpus (CC BY 4.0, Cooke, Barker, Cunningham, Shao 2006): it reads "
            "nobody else's lips."
        )

    def _sentences(self) -> str:
        wrong = (self.read.by_grammar != self.read.truth).sum(1)
        worst = [int(i) for i in np.argsort(-wrong, kind="stable")[:WORST] if wrong[i]]
        blocks = []
        for title, numbers in (("The first test clips", range(min(FIRST, len(wrong)))), ("Those read worst", worst)):
            if numbers:
                blocks.append(f"<h3>{title}</h3>" + "".join(self._sentence(i) for i in numbers))
        words = (
            f"Every {EVERY}th frame. Below, the corpus's alignment, each frame's likeliest label, and the likeliest "
            f"sentence of the grammar; red is wrong, silence is left empty. {int((wrong == 0).sum())} of "
            f"{len(wrong)} sentences are read without a mistake."
        )
        return note(words) + "".join(blocks)

    def _sentence(self, i: int) -> str:
        frames = mosaic(
            self.video[i, ::EVERY, ..., None] / 255, alt=f"the mouth saying {self.clips[i].text}", fill=True
        )
        rows = [
            ("alignment", _words(self.labels[i])),
            ("each frame", _words(self.probabilities[i].argmax(1))),
            ("grammar", _words(self.read.paths[i])),
        ]
        said = " ".join(LABELS[word] for word in self.read.by_grammar[i])
        drawn = strips(rows, background=SILENCE, label=f"labels of the frames of {self.clips[i].text}")
        return figure(above(frames) + drawn, caption=f"spoken: {self.clips[i].text}; read: {said}")

    def _places(self) -> str:
        n = len(self.clips)
        slots = (self.read.in_slots == self.read.truth).mean(0)
        grammar = (self.read.by_grammar == self.read.truth).mean(0)
        rows = [
            (name, len(words), percent(1 / len(words), n), percent(float(a), n), percent(float(b), n))
            for name, words, a, b in zip(PLACES, GRAMMAR, slots, grammar, strict=True)
        ]
        titles = ("Place", "Words", "By chance", "In aligned slots", "By the grammar")
        return note(
            "In aligned slots a word is chosen among all 51 and it is known when it is spoken; by the grammar it is "
            "chosen among those of its place, and it is not known when."
        ) + table(titles, rows)

    def _letters(self) -> NDArray[np.int64]:
        """Letters by the grammar: row true, column read."""
        start = LABELS.index(GRAMMAR[LETTERS][0])
        k = len(GRAMMAR[LETTERS])
        true, said = self.read.truth[:, LETTERS] - start, self.read.by_grammar[:, LETTERS] - start
        return np.bincount(true * k + said, minlength=k * k).reshape(k, k).astype(np.int64)

    def _context(self) -> str:
        found = self.found["context"]
        lines = [
            Line(label="all frames", points=[(wide, 100 * share) for wide, share, _ in found], colour="one"),
            Line(label="frames of words", points=[(wide, 100 * words) for wide, _, words in found], colour="two"),
        ]
        drawing = line_chart(
            lines,
            x_label="frames seen at once",
            y_label="Right, % of frames",
            log_x=True,
            x_ticks=[wide for wide, _, _ in found],
            from_zero=True,
        )
        return note(
            "The same model is given a frame alone, or a few frames around it (before it, where the model is causal), "
            "and asked for that frame's label. What a single picture of a mouth shows is hardly ever a word; the "
            "recurrent layers gather it from what comes before and after. The first convolution sees five frames at "
            "once, the rest is memory."
        ) + charts([drawing])

    def _state(self) -> str:
        state, gate = np.array(self.found["state"]), np.array(self.found["gate"])
        words = _words(self.labels[0])
        return note(
            f"The first test clip, “{self.clips[0].text}”: time to the right, a line for each of {state.shape[1]} "
            "numbers of the second layer's state (forwards), blue below zero and red above; below it the update gate, "
            "red where the old state stays. Where a word begins, many lines change together; while it lasts, they stay."
        ) + "".join(
            [
                figure(over_time(state, alt="the state over time", stretch=4), title="State"),
                figure(over_time(2 * gate - 1, alt="the update gate over time", stretch=4), title="Update gate"),
                strips([("spoken", words)], background=SILENCE, label="the words"),
            ]
        )

    def _cut(self) -> str:
        clip, video = self.clips[0], self.video[0]
        blocks = []
        for place in (1, LETTERS):
            word = clip.words[place]
            start, end = first_frame(word.start), first_frame(word.end)
            changed = video.copy()
            changed[start:end] = video[max(0, start - 1)]
            p = self.model.label(changed[None])
            there = read(p, [clip])
            rows = [
                ("spoken", _words(self.labels[0])),
                ("each frame", _words(p[0].argmax(1))),
                ("grammar", _words(there.paths[0])),
            ]
            blocks.append(
                figure(
                    strips(rows, background=SILENCE, label=f"{clip.text} without {LABELS[word.label]}"),
                    title=f"“{LABELS[word.label]}” cut out",
                    caption="read: " + " ".join(LABELS[label] for label in there.by_grammar[0]),
                )
            )
        return note(
            f"In “{clip.text}” the mouth stands still while a word is spoken: the frame before it stays on. What is "
            "read in its place is a guess; the words around it should stay as they were."
        ) + "".join(blocks)

    def _training(self) -> str:
        lines = [("accuracy", "training"), ("held_accuracy", "held out"), ("held_word_frames", "held out, words")]
        return note(
            "Training clips are new at every step: other speed, words of several sentences joined, moved, mirrored, "
            "some frames blanked. So the held-out clips are easier."
        ) + history_charts(
            self.found["history"],
            [
                Curves(y_label="Right, % of frames", lines=lines, shown=lambda v: 100 * v, from_zero=True),
                Curves(y_label="Loss, nats", lines=[("loss", "training, smoothed"), ("held_loss", "held out")]),
            ],
        )

    def _speed(self) -> str:
        seconds = self.video.shape[1] / RATE
        return note(
            f"A clip of {seconds:g} seconds takes {self.clip_ms:.0f}{THIN}ms on one thread, the graph alone: "
            f"{1000 * seconds / self.clip_ms:.0f} times as fast as it is spoken."
        )


def _words(labels: NDArray[np.int64]) -> list[str]:
    return [LABELS[i] for i in labels]
