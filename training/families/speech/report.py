"""The report of a speech recogniser: what it hears in whole sentences, inside of it, and where it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.decoding.tokens import Token, calibrated
from app.core.manifest import Manifest
from app.core.metric_names import THIN
from training.data.sound import RATE, Clip
from training.families.speech.metrics import LETTER, Heard, judged, judgement, sureness
from training.families.speech.network import SpeechNet
from training.metrics.classification import equal_width_bins
from training.metrics.words import alignment
from training.networks.recurrent import GRU
from training.networks.sound import padded
from training.reporting import classification
from training.reporting.ablations import tried
from training.reporting.charts import reliability_chart
from training.reporting.figures import figures
from training.reporting.history import Curves, history_charts
from training.reporting.html import Section, charts, figure, note, stack
from training.reporting.made import made
from training.reporting.mosaics import mosaic
from training.reporting.page import Page
from training.reporting.shapes import shapes
from training.reporting.table import Cell, table

Wave = NDArray[np.float32]
Hear = Callable[[Sequence[Wave]], list[tuple[NDArray[np.float32], list[Token]]]]
SHOWN: Final = 8  # of each corpus
UNITS: Final = 48  # of the hidden state, the ones that move most
FRAME: Final = 4  # pixels of a step in pictures


@torch.no_grad()
def inside(network: SpeechNet, wave: Wave) -> dict[str, Any]:
    """What goes on in a network as it hears one recording, for the report: log-mel frames, hidden states of the last
    layer, and its two gates, each (steps, numbers) from 0 to 1."""
    network.eval()
    mel = network.mel(padded(torch.from_numpy(wave)[None], network.before))
    x = network.subsampling(mel)
    for layer in network.layers:
        before = x
        x = layer(x)[0]
    last = network.layers[-1]
    assert isinstance(last, GRU)
    reset, update = _gates(last, before[0], x[0, :, : last.hidden])
    moving = x[0].std(dim=0).argsort(descending=True)[:UNITS]
    moving = moving[moving < last.hidden]
    return {
        "mel": _levels((mel[0].flip(1) + 2.13) / 4.5),
        "hidden": _levels((x[0][:, moving] + 1) / 2),
        "update": _levels(update[:, moving]),
        "reset": _levels(reset[:, moving]),
    }


def _gates(layer: GRU, x: torch.Tensor, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the direction forwards: reset and update gate at each step, (T, H)."""
    own = layer.forwards
    before = torch.cat([torch.zeros_like(states[:1]), states[:-1]])
    gates = x @ own.get_parameter("weight_ih_l0").T + own.get_parameter("bias_ih_l0")
    past = before @ own.get_parameter("weight_hh_l0").T + own.get_parameter("bias_hh_l0")
    reset, update = (gates + past)[:, : 2 * layer.hidden].sigmoid().chunk(2, dim=1)
    return reset, update


def _levels(values: torch.Tensor) -> list[list[int]]:
    """0 to 255."""
    levels: list[list[int]] = (values.clamp(0, 1) * 255).round().int().tolist()
    return levels


@dataclass(frozen=True, kw_only=True)
class SpeechReport:
    """Everything the page needs. `found` is what training kept; `hear` is the published graph and its decoder."""

    manifest: Manifest
    found: Mapping[str, Any]
    heard: Sequence[Heard]
    hear: Hear
    speed: Sequence[Mapping[str, float]]

    def page(self) -> Page:
        """The page, ready to be written."""
        m = self.manifest
        return Page(
            manifest=m,
            claim=self._claim(),
            sections=[
                Section("words", "What was said, what was heard", self._examples()),
                figures(m, unit="clips"),
                Section("inside", "The hidden state over time", self._inside()),
                Section("cut", "The same sentence with words cut out", self._cut()),
                Section("letters", "Letters that are taken for each other", self._letters()),
                Section("failures", "Failures", self._failures()),
                Section("calibration", "Calibration of words", self._calibration()),
                Section("noise", "Noise, and words that it does not know", self._noise()),
                Section("training", "Learning curves", self._training()),
                tried(Path(__file__).parent, m.data.spec),
                Section("speed", "Speed", self._speed()),
                shapes("many to many"),
                made(m),
            ],
            headlines=("wer_grid", "wer_fsdd", "wer_commands", "accuracy_letters"),
        )

    @property
    def _grid(self) -> Heard:
        return next(one for one in self.heard if one.corpus == "grid")

    def _claim(self) -> str:
        q = {q.name: q for q in self.manifest.quality}
        wer = q["wer_grid"]
        how = "Hears the past alone" if "streamer" in self.manifest.graphs else "Hears the whole recording"
        return (
            f"{how} and gets <strong>{100 * wer.value:.1f}{THIN}%</strong> of the words wrong in {wer.rows} unseen "
            f"sentences of the one man whose voice it knows (GRID), {100 * q['wer_fsdd'].value:.1f}{THIN}% of digits "
            f"by six speakers that it heard in training, and {100 * q['wer_commands'].value:.1f}{THIN}% of single "
            "words by people that it never heard."
        )

    def _line(self, clip: Clip, tokens: Sequence[Token]) -> list[Cell | str]:
        labels, declared = self.manifest.labels, self.manifest.transcription
        assert declared is not None
        said, got = [word for word, _, _ in clip.words], [labels[t.label] for t in tokens]
        words = []
        for i, j in alignment(said, got):
            if j is None:
                words.append(f'<s title="missed">{escape(said[i or 0])}</s>')
                continue
            p = calibrated(tokens[j].probability, declared.confidence)
            wrong = i is None or said[i] != got[j]
            text = f'<b style="color:var(--two)">✗{THIN}{escape(got[j])}</b>' if wrong else escape(got[j])
            words.append(f"{text}<sub>{100 * p:.0f}</sub>")
        return [clip.text or "(nobody speaks)", Cell(" ".join(words) or "–", style="wide")]

    def _examples(self) -> str:
        rows = []
        for one in self.heard:
            order = np.random.default_rng(0).permutation(len(one.clips))[:SHOWN]
            rows += [(one.corpus, *self._line(one.clips[i], one.tokens[i])) for i in order]
        return note(
            "Test clips chosen at random (seed 0). Small numbers are the probability of the word, in per cent, after "
            "calibration; a cross marks a wrong word, a struck word was missed."
        ) + table(("Corpus", "<Said", "<Heard"), rows)

    def _inside(self) -> str:
        parts = self.found["inside"]
        (logs, tokens) = self.hear([self._grid.clips[0].samples])[0]
        labels = self.manifest.labels
        often = sorted({t.label for t in tokens}, key=[t.label for t in tokens].index)
        posterior = np.exp(logs[:, [*often, len(labels)]])
        blocks = [
            ("Log-mel energies, low tones below", np.array(parts["mel"]).T / 255, FRAME // 4),
            ("Probability of each word heard, in their order, and of the blank", posterior.T, FRAME),
            (
                f"Hidden state of the last layer, the {len(parts['hidden'][0])} units that move most",
                _array(parts, "hidden"),
                FRAME,
            ),
            ("Their update gates: white keeps what was, black takes what is new", _array(parts, "update"), FRAME),
            ("Their reset gates: black forgets the past in what is proposed", _array(parts, "reset"), FRAME),
        ]
        drawn = []
        for title, values, across in blocks:
            wide = np.repeat(
                np.repeat(values, max(1, 4 if across == FRAME else 1), axis=1), 3 if across == FRAME else 1, axis=0
            )
            drawn.append(figure(mosaic(wide[None, ..., None], columns=1, scale=2, alt=title), title=title))
        words = ", ".join(escape(labels[k]) for k in often)
        return note(
            f"“{escape(self._grid.clips[0].text)}”, from left to right, 40 ms a column. Heard: {words}. The state "
            "carries along what was heard."
        ) + stack(drawn)

    def _cut(self) -> str:
        clip = self._grid.clips[0]
        waves = [clip.samples]
        names = ["nothing"]
        for word, start, end in clip.words:
            cut = clip.samples.copy()
            cut[int(start * RATE) : int(end * RATE)] = 0
            waves.append(cut)
            names.append(word)
        labels = self.manifest.labels
        rows = [
            (
                name,
                Cell(
                    " ".join(f"{escape(labels[t.label])}<sub>{100 * t.probability:.0f}</sub>" for t in tokens),
                    style="wide",
                ),
            )
            for name, (_, tokens) in zip(names, self.hear(waves), strict=True)
        ]
        return note(
            "Each word replaced by silence in turn. A net that has learnt the order of these sentences may fill the "
            "gap with a guess; small numbers are its own probabilities, in per cent, before calibration."
        ) + table(("Cut out", "<Heard"), rows)

    def _letters(self) -> str:
        labels, one = self.manifest.labels, self._grid
        letters = sorted({clip.words[LETTER][0] for clip in one.clips})
        index = {letter: i for i, letter in enumerate(letters)}
        matrix, other = np.zeros((len(letters), len(letters)), np.int64), 0
        for clip, tokens in zip(one.clips, one.tokens, strict=True):
            said, got = [word for word, _, _ in clip.words], [labels[t.label] for t in tokens]
            for i, j in alignment(said, got):
                if i == LETTER:
                    if j is not None and got[j] in index:
                        matrix[index[said[i]], index[got[j]]] += 1
                    else:
                        other += 1
        words = f"{other} letters were missed or taken for a word. " if other else ""
        return (
            note(f"{words}Letters that sound alike (b, d, e, p, t; m, n) differ in a few hundredths of a second.")
            + classification.confusion(matrix, letters).body
        )

    def _failures(self) -> str:
        labels = self.manifest.labels
        wrong: Counter[tuple[str, str]] = Counter()
        rows = []
        for one in self.heard:
            bad = []
            for clip, tokens in zip(one.clips, one.tokens, strict=True):
                said, got = [word for word, _, _ in clip.words], [labels[t.label] for t in tokens]
                if said == got:
                    continue
                bad.append((clip, tokens))
                for i, j in alignment(said, got):
                    pair = (said[i] if i is not None else "–", got[j] if j is not None else "–")
                    if pair[0] != pair[1]:
                        wrong[pair] += 1
            assert self.manifest.transcription is not None
            bad.sort(key=lambda item: -sureness(self.manifest.transcription, item[1]))  # type: ignore[arg-type]  # as asserted
            rows += [(one.corpus, *self._line(clip, tokens)) for clip, tokens in bad[:SHOWN]]
        pairs = [(said, heard, n) for (said, heard), n in wrong.most_common(12)]
        return (
            note(
                "The clips with a mistake that the model is surest of, of each corpus, and the most frequent mistakes."
            )
            + table(("Corpus", "<Said", "<Heard"), rows)
            + table(("Said", "<Heard", "Times"), pairs)
        )

    def _calibration(self) -> str:
        declared = self.manifest.transcription
        assert declared is not None
        pairs = judged(self.manifest.labels, self.heard)
        bare = declared.model_copy(update={"confidence": None})
        panels = []
        for title, how in (("Before scaling", bare), ("After scaling", declared)):
            p, right = judgement(pairs, how)
            panels.append(figure(reliability_chart(equal_width_bins(p, right), label=title.lower()), title=title))
        return note(
            "Of the words that get a probability of 80 %, about 80 % should have been said. Below one half the model "
            "says that the word is more likely wrong: such words count as a confident “wrong”. Whiskers are 95 % "
            "intervals."
        ) + charts(panels, columns="two")

    def _noise(self) -> str:
        q = {q.name: q for q in self.manifest.quality}
        declared = self.manifest.transcription
        assert declared is not None
        rows = [
            (name, f"{100 * q[key].value:.1f} %")
            for name, key in (
                ("Noise and music", "doubt_share_noise"),
                ("Speech outside of the vocabulary (clips played backwards)", "doubt_share_reversed"),
                ("Words that it knows", "doubted_speech"),
            )
            if key in q
        ]
        return note(
            f"An answer is called noise where it has no word, or its words' mean probability is under "
            f"{declared.doubt:.3f}, the value that one in a hundred held-out clips of words fell under. The share of "
            "test clips called noise:"
        ) + table(("Clips", "Called noise"), rows)

    def _training(self) -> str:
        return history_charts(
            self.found["history"],
            [
                Curves(
                    y_label="Held-out word error rate, %",
                    lines=[("held_grid", "GRID"), ("held_fsdd", "FSDD"), ("held_speech-commands", "Speech Commands")],
                    from_zero=True,
                ),
                Curves(y_label="Loss on mixed recordings", lines=[("ctc", "CTC"), ("aligned", "of steps")], log_y=True),
            ],
            skip=0.06,
        )

    def _speed(self) -> str:
        rows = [(int(one["rows"]), f"{one['times_real_time']:.0f} ×") for one in self.speed]
        return note(
            "Seconds of sound recognised in a second by one thread, front end, net and search, measured when the model "
            "was published; reading the file and HTTP are not included."
        ) + table(("Recordings together", "Times real time"), rows)


def _array(parts: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.array(parts[name]).T / 255
    return values
