"""How well words are recognised: the published graph on recordings, decoded as the server does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.decoding.ctc import beam
from app.core.decoding.tokens import Token, calibrated
from app.core.manifest import Manifest, Transcription
from training.data.sound import RATE, Clip, Corpus
from training.metrics import onnx_model
from training.metrics.classification import expected_calibration_error
from training.metrics.words import alignment, error_rate

ROWS_PER_RUN: Final = 16
SETTLE_S: Final = 1.0  # as the server: what a streaming model heard so long ago no longer changes
NOISES: Final = 200
LETTER: Final = 3  # the place of a GRID sentence that is a letter
SHORT: Final = {"grid": "grid", "fsdd": "fsdd", "speech-commands": "commands"}

Wave = NDArray[np.float32]

PROTOCOLS: Final = {
    "wer_grid": "word error rate on GRID's held-out sentences: substitutions, insertions, deletions over words",
    "wer_fsdd": "word error rate on FSDD's official test recordings (0 to 4 of each speaker), one word each",
    "wer_commands": "word error rate on Speech Commands' clips of unseen speakers, one of 35 words each or none",
    "accuracy_letters": "share of GRID's letters recognised as themselves, by the alignment with the fewest errors",
    "ece_words": "calibration error of words' probabilities on all test clips, 15 equal-mass bins",
    "doubt_share_noise": "share of Speech Commands' background noise and of made noise and chords answered as noise",
    "doubt_share_reversed": "share of test clips played backwards (speech outside of the vocabulary) answered as noise",
    "doubted_speech": "share of test clips of words that are answered as noise; lower is better",
    "start_error_ms": "median distance of recognised words' starts from GRID's own alignment",
}


class PublishedSpeech:
    """A published folder's graph in ONNX Runtime on the CPU: whole recordings, or pieces with their states.

    Raises `LoadRefused` where it is missing or is not the manifest's.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, threads: int | None = None) -> None:
        self.manifest = manifest
        assert manifest.transcription is not None
        self.labels = manifest.labels
        self.declared: Transcription = manifest.transcription
        self.key = next(iter(manifest.graphs))
        self.graph = manifest.graphs[self.key]
        self.session = onnx_model.open_graph(folder, self.graph, threads=threads or torch.get_num_threads())

    def log_probabilities(self, waves: Sequence[Wave]) -> list[NDArray[np.float32]]:
        """Of each recording (N,): (T, words + 1). Recordings of similar length go together."""
        order = np.argsort([len(wave) for wave in waves], kind="stable")
        found: list[NDArray[np.float32]] = [np.zeros((0, 0), np.float32)] * len(waves)
        run = self._whole if self.key == "recognizer" else self._pieces
        for begin in range(0, len(order), ROWS_PER_RUN):
            some = order[begin : begin + ROWS_PER_RUN]
            for i, logs in zip(some, run([waves[i] for i in some]), strict=True):
                found[i] = logs
        return found

    def _whole(self, waves: Sequence[Wave]) -> list[NDArray[np.float32]]:
        length = np.array([len(wave) for wave in waves], np.int64)
        logs, steps = self.session.run(
            ["log_probabilities", "steps"], {"sound": padded(waves, int(length.max())), "length": length}
        )
        return [row[:count] for row, count in zip(logs, steps, strict=True)]

    def _pieces(self, waves: Sequence[Wave]) -> list[NDArray[np.float32]]:
        first, *states = self.graph.inputs
        piece, per_piece = int(first.shape[1]), int(self.graph.outputs[0].shape[1])
        late = max(0, ceil(self.declared.delay_s / self.declared.step_s))
        wanted = [-(-len(wave) * per_piece // piece) + late for wave in waves]
        pieces = -(-max(wanted) // per_piece)
        sound = padded(waves, max(pieces * piece, max(map(len, waves))))
        feed = {spec.name: np.zeros((len(waves), *map(int, spec.shape[1:])), np.float32) for spec in states}
        names = [spec.name for spec in self.graph.outputs]
        parts = []
        for k in range(pieces):
            answer = dict(
                zip(
                    names,
                    self.session.run(names, {"sound": sound[:, k * piece : (k + 1) * piece], **feed}),
                    strict=True,
                )
            )
            parts.append(answer["log_probabilities"])
            feed = {name: answer[f"next_{name}"] for name in feed}
        logs = np.concatenate(parts, axis=1)
        return [row[:count] for row, count in zip(logs, wanted, strict=True)]

    def tokens(self, logs: NDArray[np.float32]) -> list[Token]:
        return best_tokens(logs, self.declared, streaming=self.key == "streamer")

    def hear(self, waves: Sequence[Wave]) -> list[list[Token]]:
        return [self.tokens(logs) for logs in self.log_probabilities(waves)]


def best_tokens(logs: NDArray[np.floating], declared: Transcription, *, streaming: bool) -> list[Token]:
    """The best reading of (T, words + 1), found as the server finds it."""
    settle = round(SETTLE_S / declared.step_s) if streaming else None
    return list(beam(logs, n=1, settle=settle)[0].tokens)


def padded(waves: Sequence[Wave], samples: int) -> NDArray[np.float32]:
    """One row each, zeros behind: (B, samples)."""
    sound = np.zeros((len(waves), samples), np.float32)
    for row, wave in zip(sound, waves, strict=True):
        row[: len(wave)] = wave
    return sound


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Clips of one corpus, and what was recognised in each."""

    corpus: str
    clips: list[Clip]
    tokens: list[list[Token]]


def heard_in(model: PublishedSpeech, corpora: Sequence[Corpus], *, rows: int | None) -> list[Heard]:
    """The test clips of each corpus, the first `rows` of them."""
    found = []
    for corpus in corpora:
        clips = corpus.of("test")[:rows]
        found.append(Heard(corpus=corpus.name, clips=clips, tokens=model.hear([clip.samples for clip in clips])))
    return found


def figures(model: PublishedSpeech, heard: Sequence[Heard]) -> dict[str, float]:
    """By the names in `PROTOCOLS`."""
    labels, declared = model.labels, model.declared
    found: dict[str, float] = {}
    starts: list[float] = []
    for one in heard:
        said = [[word for word, _, _ in clip.words] for clip in one.clips]
        words = [[labels[t.label] for t in tokens] for tokens in one.tokens]
        found[f"wer_{SHORT[one.corpus]}"] = error_rate(said, words)
        if one.corpus != "grid":
            continue
        found["accuracy_letters"] = letters_right(said, words)
        for clip, spoken, got, tokens in zip(one.clips, said, words, one.tokens, strict=True):
            for i, j in alignment(spoken, got):
                if i is not None and j is not None and spoken[i] == got[j]:
                    starts.append(abs(tokens[j].start * declared.step_s - declared.delay_s - clip.words[i][1]))
    found["ece_words"] = word_calibration(judged(labels, heard), declared)
    if starts:  # of a net that hears no word rightly nothing is known
        found["start_error_ms"] = 1000 * float(np.median(starts))
    found["doubt_share_noise"] = doubted(declared, model.hear(_noises(heard)))
    found["doubt_share_reversed"] = doubted(declared, model.hear(_backwards(heard)))
    found["doubted_speech"] = doubted(
        declared, [t for one in heard for clip, t in zip(one.clips, one.tokens, strict=True) if clip.words]
    )
    return found


def doubted_rows(heard: Sequence[Heard]) -> dict[str, int]:
    """How many recordings the shares that are doubted are of."""
    return {
        "doubt_share_noise": len(_noises(heard)),
        "doubt_share_reversed": len(_backwards(heard)),
        "doubted_speech": len(_spoken(heard)),
    }


def _noises(heard: Sequence[Heard]) -> list[Wave]:
    return [clip.samples for one in heard for clip in one.clips if not clip.words] + made_noise(NOISES)


def _spoken(heard: Sequence[Heard]) -> list[Clip]:
    return [clip for one in heard for clip in one.clips if clip.words]


def _backwards(heard: Sequence[Heard]) -> list[Wave]:
    """Some of the clips."""
    clips = _spoken(heard)
    return [clip.samples[::-1].copy() for clip in clips[:: max(1, len(clips) // NOISES)]]


def letters_right(said: Sequence[Sequence[str]], heard: Sequence[Sequence[str]]) -> float:
    """The share of the letters of GRID's sentences that were heard as themselves."""
    return float(
        np.mean(
            [
                j is not None and spoken[i] == got[j]
                for spoken, got in zip(said, heard, strict=True)
                for i, j in alignment(spoken, got)
                if i == LETTER
            ]
        )
    )


def judged(labels: Sequence[str], heard: Sequence[Heard]) -> list[tuple[float, bool]]:
    """Of each word that was recognised: its probability as the graph has it, and whether it was said."""
    found = []
    for one in heard:
        for clip, tokens in zip(one.clips, one.tokens, strict=True):
            said, got = [word for word, _, _ in clip.words], [labels[t.label] for t in tokens]
            for i, j in alignment(said, got):
                if j is not None:
                    found.append((tokens[j].probability, i is not None and said[i] == got[j]))
    return found


def word_calibration(pairs: Sequence[tuple[float, bool]], declared: Transcription) -> float:
    """The calibration error of the probability that a word was said."""
    p, right = judgement(pairs, declared)
    return expected_calibration_error(p, right)


def judgement(
    pairs: Sequence[tuple[float, bool]], declared: Transcription
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Of words, as of rows with two labels: probabilities (N, 2) of being right and wrong, and which it is (N,)."""
    p = np.array([calibrated(probability, declared.confidence) for probability, _ in pairs])
    return np.stack([p, 1 - p], axis=1), np.array([int(not right) for _, right in pairs])


def sureness(declared: Transcription, tokens: Sequence[Token]) -> float:
    """The mean probability of the words; 0 where there is none."""
    return float(np.mean([calibrated(t.probability, declared.confidence) for t in tokens])) if tokens else 0.0


def doubted(declared: Transcription, heard: Sequence[Sequence[Token]]) -> float:
    """The share that is answered as noise."""
    return float(np.mean([sureness(declared, tokens) < max(declared.doubt, 1e-9) for tokens in heard]))


def made_noise(rows: int) -> list[Wave]:
    """White to brown noise, and chords that change twice a second: 2 s each, always the same."""
    rng = np.random.default_rng(7)
    samples, found = 2 * RATE, []
    t = np.arange(samples) / RATE
    for i in range(rows):
        if i % 2:
            wave = np.zeros(samples)
            for beat in range(4):
                part = (t >= beat / 2) & (t < (beat + 1) / 2)
                root = 110 * 2 ** (rng.integers(0, 24) / 12)
                for third in (1.0, 2 ** (4 / 12), 2 ** (7 / 12)):
                    for k in range(1, 6):
                        wave += part * np.sin(2 * np.pi * root * third * k * t) / k * np.exp(-3 * (t - beat / 2) * part)
        else:
            spectrum = np.fft.rfft(rng.standard_normal(samples))
            wave = np.fft.irfft(
                spectrum * np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 50) ** -rng.uniform(0, 1), samples
            )
        level = 10 ** (rng.uniform(-30, -6) / 20)
        found.append((wave * level / np.abs(wave).max()).astype(np.float32))
    return found


def speed(folder: Path, manifest: Manifest, corpus: Corpus) -> list[dict[str, float]]:
    """Seconds of sound that one thread recognises in a second, graph and decoding, by recordings in one run."""
    model = PublishedSpeech(folder, manifest, threads=1)
    waves = [clip.samples for clip in corpus.of("test")[:ROWS_PER_RUN]]
    found = []
    for rows in (1, 4, ROWS_PER_RUN):
        some, best = waves[:rows], float("inf")
        for _ in range(5):
            begun = perf_counter()
            model.hear(some)
            best = min(best, perf_counter() - begun)
        found.append({"rows": rows, "times_real_time": sum(len(w) for w in some) / RATE / best})
    return found
