"""Publishing a speech recogniser: its graph, how sure its words are, and from where on an answer is noise."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from app.core.decoding.ctc import beam
from app.core.decoding.tokens import log_odds
from app.core.manifest import Confidence, DataSource, Manifest, Sound, Transcription
from training.data.base import DataError
from training.data.sound import CORPORA, RATE, Clip, Corpus
from training.export import Export
from training.families.speech import metrics
from training.families.speech import report as page
from training.families.speech.metrics import PROTOCOLS, Heard, PublishedSpeech, heard_in
from training.families.speech.network import PIECE, Recognizer, SpeechNet, Streamer
from training.families.speech.trainer import Hyperparameters
from training.family import Family, Measured
from training.metrics.words import alignment, error_rate
from training.networks.sound import BEFORE, STEP
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import measured_once
from training.reporting.page import write

Corpora = Sequence[Corpus]
Answers = Sequence[tuple[Clip, NDArray[np.floating]]]
"""Clips, each with its log probabilities (T, words + 1)."""
FIGURES_FILE: Final = "report/figures.json"
ROWS_PER_PASS: Final = 25
MAX_ROWS: Final = 16
MAX_S: Final = 15.0
PARITY_CLIPS: Final = 24
GOLDEN_ROWS: Final = 3
# Of held-out clips of words in which words were heard: so many may be taken for noise. With half as many hardly one in
# ten of the clips that are played backwards is doubted.
DOUBTED_SPEECH: Final = 0.02
BLANK_BIASES: Final = tuple(i / 2 for i in range(-4, 7))
GOALS: Final = {
    False: {"wer_grid": 0.03, "accuracy_letters": 0.92},
    True: {"wer_grid": 0.05, "accuracy_letters": 0.92},
}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One trained network, on the CPU; `error` is its held-out word error rate in percent, the mean over corpora."""

    seed: int
    network: SpeechNet
    error: float
    history: list[dict[str, float]]


def publish_speech(
    trained: Sequence[Trained],
    corpora: Corpora,
    words: Sequence[str],
    h: Hyperparameters,
    *,
    options: argparse.Namespace,
    precision: str,
) -> Path:
    """Publish the network with the fewest held-out errors.

    Returns: the published folder. Raises: PublishError.
    """
    chosen = min(trained, key=lambda one: one.error)
    held = {corpus.name: _heard(chosen.network, corpus.of("held"), h.delay if h.streaming else 0) for corpus in corpora}
    bias, rates = best_bias(words, held)
    with torch.no_grad():
        chosen.network.words.bias[-1] += bias  # the blank's
    held = {name: [(clip, _with_bias(logs, bias)) for clip, logs in answers] for name, answers in held.items()}
    declared = Transcription(
        step_s=STEP / RATE,
        delay_s=h.delay * STEP / RATE if h.streaming else 0.0,
        twin=None if h.streaming else "speech-streaming",
    )
    graph = _export(chosen.network, corpora)
    kept: dict[str, Any] = {
        "history": chosen.history,
        "inside": page.inside(chosen.network, _shown(corpora)),
        "blank_bias": {"chosen": bias, "held_error_rates": rates},
    }

    def measure(folder: Path, manifest: Manifest) -> Measured:
        return FAMILY.measure(folder, manifest, corpora, data=None, rows=None)

    draft = Draft(
        task="transcribe",
        modality="audio",
        title="Speech to words" + (", piece by piece" if h.streaming else ""),
        summary=_summary(words, streaming=h.streaming),
        data=_data(corpora),
        max_rows=MAX_ROWS if not h.streaming else 64,
        train_s=total_seconds(chosen.history),
        precision=precision,
        seeds=(chosen.seed,),
        goals=GOALS[h.streaming],
        fields={
            "labels": tuple(words),
            "sound": Sound(rate=RATE, max_s=MAX_S),
            "transcription": fitted(held, declared, words, streaming=h.streaming),
        },
    )
    return publish(
        FAMILY,
        corpora,
        draft,
        [graph],
        options=options,
        measure=measure,
        keep=lambda folder, _: write_json(folder / FIGURES_FILE, kept),
    )


def _export(network: SpeechNet, corpora: Corpora) -> Export:
    """The graph, checked on short clips first (the golden rows are kept beside the model) and on sentences."""
    by_name = {corpus.name: corpus for corpus in corpora}
    clips = [*by_name["fsdd"].of("test")[: 300 : 300 // GOLDEN_ROWS], *by_name["grid"].of("test")[:PARITY_CLIPS]]
    if network.bidirectional:
        short, long = clips[:GOLDEN_ROWS], clips[GOLDEN_ROWS:]
        waves = [clip.samples for clip in (*short, *long)]
        return Export(
            graph="recognizer",
            module=Recognizer(network),
            inputs={
                "sound": torch.from_numpy(metrics.padded(waves, max(map(len, waves)))),
                "length": torch.tensor([len(wave) for wave in waves]),
            },
            outputs=("log_probabilities", "steps"),
            dynamic={"sound": {1: "samples"}},
            golden_rows=GOLDEN_ROWS,
        )
    generator = torch.Generator().manual_seed(0)
    hidden = sum(layer.hidden for layer in network.layers)  # type: ignore[misc]  # each is a GRU
    pieces = torch.stack([torch.from_numpy(clip.samples[6400 : 6400 + PIECE]) for clip in clips[GOLDEN_ROWS:]])
    return Export(
        graph="streamer",
        module=Streamer(network),
        inputs={
            "sound": pieces,
            "past": torch.randn(len(pieces), BEFORE, generator=generator) * 0.05,
            "hidden": torch.tanh(torch.randn(len(pieces), int(hidden), generator=generator)),
        },
        outputs=("log_probabilities", "next_past", "next_hidden"),
    )


def held_error(history: Sequence[Mapping[str, float]]) -> float:
    """The mean over corpora of the held-out word error rate after the last epoch, in percent."""
    return float(np.mean([value for name, value in history[-1].items() if name.startswith("held_")]))


def best_bias(words: Sequence[str], held: Mapping[str, Answers]) -> tuple[float, list[dict[str, float]]]:
    """How much likelier the blank has to be for the fewest errors on held-out clips: each corpus, and GRID's letters,
    alike.

    A net that was trained on mixtures where something is said all the time hears words where there are none; one that
    is not sure at which step to say a short word says none. The bias of the blank is one number of the last layer, and
    nothing else has to know of it.

    Args:
        held: by corpus.

    Returns: what to add to its bias, and each bias tried with its error rates.
    """
    tried = []
    for bias in BLANK_BIASES:
        row = {"bias": bias}
        for name, answers in held.items():
            said = [[word for word, _, _ in clip.words] for clip, _ in answers]
            logs = [_with_bias(logs, bias) for _, logs in answers]
            got = [[words[t.label] for t in beam(z, n=1)[0].tokens] for z in logs]
            row[name] = error_rate(said, got)
            if name == "grid":
                row["letters"] = 1 - metrics.letters_right(said, got)
        tried.append(row)

    # By the product of the rates, so that the relative change of each counts alike. None is taken for less than half a
    # percent, or one that is 0 would decide alone. Of equal ones the least change.
    def cost(row: dict[str, float]) -> tuple[float, float]:
        rates = [max(rate, 0.005) for name, rate in row.items() if name != "bias"]
        return float(np.prod(rates)), abs(row["bias"])

    best = min(tried, key=cost)
    return best["bias"], tried


def _with_bias(logs: NDArray[np.floating], bias: float) -> NDArray[np.floating]:
    """Log probabilities (T, words + 1) after `bias` was added to the blank's."""
    z = logs.astype(np.float64)
    z[:, -1] += bias
    out: NDArray[np.floating] = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    return out


@torch.no_grad()
def _heard(network: SpeechNet, clips: Sequence[Clip], late: int) -> Answers:
    """Clips, shortest first; the network answers `late` steps later than it heard."""
    hear, found = Recognizer(network.eval()), []
    ordered = sorted(clips, key=lambda clip: len(clip.samples))
    for begin in range(0, len(ordered), ROWS_PER_PASS):
        some = ordered[begin : begin + ROWS_PER_PASS]
        waves = [np.pad(clip.samples, (0, late * STEP)) for clip in some]
        length = torch.tensor([len(wave) for wave in waves])
        logs, steps = hear(torch.from_numpy(metrics.padded(waves, int(length.max()))), length)
        found += [(clip, row[:count].numpy()) for clip, row, count in zip(some, logs, steps.tolist(), strict=True)]
    return found


def fitted(
    held: Mapping[str, Answers], declared: Transcription, words: Sequence[str], *, streaming: bool
) -> Transcription:
    """With what held-out clips say: how late the words are, how sure, and how sure an answer to speech is at least."""
    heard = [
        Heard(
            corpus=name,
            clips=[clip for clip, _ in answers],
            tokens=[metrics.best_tokens(logs, declared, streaming=streaming) for _, logs in answers],
        )
        for name, answers in held.items()
    ]
    pairs = metrics.judged(words, heard)
    declared = declared.model_copy(
        update={"delay_s": round(_delay(heard, words, declared), 4), "confidence": _confidence(pairs)}
    )
    # Where no word is heard, nothing has to be doubted.
    sure = [
        metrics.sureness(declared, tokens)
        for one in heard
        for clip, tokens in zip(one.clips, one.tokens, strict=True)
        if clip.words and tokens
    ]
    return declared.model_copy(update={"doubt": round(float(np.quantile(sure, DOUBTED_SPEECH)), 4)})


def _delay(heard: Sequence[Heard], words: Sequence[str], declared: Transcription) -> float:
    """The median time from where GRID says that a word begins to where its token does."""
    found = []
    for one in heard:
        for clip, tokens in zip(one.clips, one.tokens, strict=True):
            if one.corpus != "grid":
                continue
            said, got = [word for word, _, _ in clip.words], [words[t.label] for t in tokens]
            for i, j in alignment(said, got):
                if i is not None and j is not None and said[i] == got[j]:
                    found.append(tokens[j].start * declared.step_s - clip.words[i][1])
    return float(np.median(found)) if found else declared.delay_s


def _confidence(pairs: Sequence[tuple[float, bool]]) -> Confidence | None:
    """Platt's scale; None where all words were right or all wrong, or more sureness does not mean more right."""
    x, y = np.array([[log_odds(p)] for p, _ in pairs]), np.array([right for _, right in pairs])
    if len(set(y.tolist())) < 2:
        return None
    fit = LogisticRegression(C=1e4).fit(x, y)
    slope = float(fit.coef_[0, 0])
    if slope <= 0:
        return None
    return Confidence(slope=round(slope, 5), intercept=round(float(fit.intercept_[0]), 5), rows=len(pairs))


def _shown(corpora: Corpora) -> NDArray[np.float32]:
    """The sentence whose way through the net the report shows."""
    return corpora[0].of("test")[0].samples


def _data(corpora: Corpora) -> DataSource:
    return DataSource(
        name=", ".join(corpus.title for corpus in corpora),
        spec="speech",
        source="; ".join(corpus.source for corpus in corpora),
        licence="; ".join(sorted({corpus.licence for corpus in corpora})),
        rows_train=sum(len(corpus.of("train")) for corpus in corpora),
        rows_held_out=sum(len(corpus.of("held")) for corpus in corpora),
        rows_test=sum(len(corpus.of("test")) for corpus in corpora),
        note="GRID is one man's voice (talker s1). Only the test files of Speech Commands could be had, a twelfth of "
        "the papers' training data. Sentences of other words and grammars were never heard.",
    )


def _summary(words: Sequence[str], *, streaming: bool) -> str:
    how = (
        "piece by piece of 320 ms, while they are spoken"
        if streaming
        else "in a whole recording; `speech-streaming` does it while they are spoken"
    )
    return (
        f"Writes down {len(words)} English words (digits, letters, colours, commands) {how}. Trained on GRID's talker "
        "s1, six speakers of digits and 168 of single words. Noise is answered as noise; a word that is none of them "
        "often as one of them."
    )


class Speech(Family[Corpora]):
    """Recognisers of the three corpora."""

    def load_data(self, manifest: Manifest, data: str | None) -> Corpora:
        if data is not None:
            raise DataError(f"--data {data}: a speech model is measured on its own corpora: leave it out")
        return [load() for load in CORPORA.values()]

    def measure(
        self, folder: Path, manifest: Manifest, dataset: Corpora, *, data: str | None, rows: int | None
    ) -> Measured:
        model = PublishedSpeech(folder, manifest)
        heard = heard_in(model, dataset, rows=rows)
        counts = {f"wer_{metrics.SHORT[one.corpus]}": len(one.clips) for one in heard}
        counts |= dict.fromkeys(("accuracy_letters", "start_error_ms"), counts["wer_grid"])
        counts |= metrics.doubted_rows(heard)
        return Measured(
            rows=sum(len(one.clips) for one in heard),
            of="test clips",
            figures=metrics.figures(model, heard),
            protocols=PROTOCOLS,
            how="; this model's ONNX graph in fp32, decoded by prefix beam search as the server does it",
            units={"start_error_ms": "ms"},
            rows_of=counts,
            claimed=rows is None,
            details=heard,
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: Corpora, measured: Measured | None = None
    ) -> None:
        model = PublishedSpeech(folder, manifest)
        report = page.SpeechReport(
            manifest=manifest,
            found=read_json(folder / FIGURES_FILE),
            heard=heard_in(model, dataset, rows=None) if measured is None else measured.details,
            hear=lambda waves: [(logs, model.tokens(logs)) for logs in model.log_probabilities(waves)],
            speed=measured_once(folder, "speed", lambda: metrics.speed(folder, manifest, dataset[0])),
        )
        write(report.page(), folder)


FAMILY: Final = Speech()
