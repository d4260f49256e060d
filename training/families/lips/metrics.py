"""How well a published lip reader reads: by frame, by word in its place, and by sentences of the grammar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from app.core.decoding.grammar import Grammar
from app.core.manifest import Manifest
from training.data.grid import FRAMES, GRAMMAR, LABELS, Clip, first_frame
from training.metrics import classification, onnx_model
from training.metrics.streaming import run_in_pieces

ROWS_PER_RUN: Final = 8
FLOOR: Final = 1e-12
LETTERS: Final = 3  # the place of the letter in the sentence
LABELLER: Final = "labeller"
STREAMER: Final = "streamer"

PROTOCOLS: Final = {
    "word_accuracy": "words that are named rightly where the corpus's alignment says from which frame to which each "
    "is: the label but silence with the highest sum of log-probabilities over these frames",
    "letter_accuracy": "the same share for the letters alone, 25 of them",
    "frame_accuracy": "share of frames whose most probable label is the true one, half of them silence",
    "word_error_rate": "words that are wrong, of all, in the likeliest sentence that the grammar allows, without any "
    "alignment; all have six words, of disjoint sets, so there is nothing to insert or leave out",
    "sentence_accuracy": "share of sentences all of whose words are right, by the grammar",
    "nll": "mean negative log-likelihood of the true label of a frame, nats",
    "ece": "expected calibration error over the frames, 15 equal-mass bins",
}


class PublishedLips:
    """A published folder's graph in ONNX Runtime on the CPU, whole clips or frame by frame.

    Raises `LoadRefused` where it is missing or is not the manifest's.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, threads: int | None = None) -> None:
        self.name = LABELLER if LABELLER in manifest.graphs else STREAMER
        self.graph = manifest.graphs[self.name]
        self._session = onnx_model.open_graph(folder, self.graph, threads=threads or torch.get_num_threads())

    def label(self, video: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, T, H, W) -> probabilities (N, T, L)."""
        parts = [video[i : i + ROWS_PER_RUN, ..., None] for i in range(0, len(video), ROWS_PER_RUN)]
        if self.name == STREAMER:
            return np.concatenate([run_in_pieces(self._session.run, self.graph, part)[0] for part in parts])
        outputs = ["probabilities"]
        return np.concatenate(
            [
                self._session.run(outputs, {"video": part, "length": np.full(len(part), part.shape[1])})[0]
                for part in parts
            ]
        )


def clip_ms(folder: Path, manifest: Manifest) -> float:
    """The median time of one clip on one thread."""
    model = PublishedLips(folder, manifest, threads=1)
    spec = model.graph.inputs[0]
    height, width = spec.shape[2:4]
    assert isinstance(height, int)
    assert isinstance(width, int)
    video = np.random.default_rng(0).integers(0, 256, (1, FRAMES, height, width), dtype=np.uint8)
    taken = []
    for _ in range(6):
        started = perf_counter()
        model.label(video)
        taken.append(1000 * (perf_counter() - started))
    return float(np.median(taken[1:]))


@dataclass(frozen=True, kw_only=True)
class Read:
    """What was read of N clips; words are indices of LABELS, (N, places)."""

    truth: NDArray[np.int64]
    in_slots: NDArray[np.int64]  # by the alignment
    by_grammar: NDArray[np.int64]  # without it
    paths: NDArray[np.int64]  # (N, T), of each frame its label by the grammar


def read(p: NDArray[np.float32], clips: Sequence[Clip]) -> Read:
    """From the probabilities (N, T, L) of the clips' frames."""
    truth = np.array([[word.label for word in clip.words] for clip in clips])
    in_slots = np.array(
        [[_in_slot(own, word.start, word.end) for word in c.words] for own, c in zip(p, clips, strict=True)]
    )
    number = {label: i for i, label in enumerate(LABELS)}
    grammar = Grammar(places=tuple(tuple(number[w] for w in place) for place in GRAMMAR), background=0)
    paths, words = [], []
    for own in p:
        path = grammar.path(own)
        paths.append(path.labels)
        words.append([int(path.labels[path.places == place][0]) for place in range(len(GRAMMAR))])
    return Read(truth=truth, in_slots=in_slots, by_grammar=np.array(words), paths=np.array(paths, np.int64))


def figures(p: NDArray[np.float32], labels: NDArray[np.int64], found: Read) -> dict[str, float]:
    """By the names in `PROTOCOLS`; `labels` (N, T) is the truth."""
    flat, y = p.reshape(-1, p.shape[2]), labels.ravel()
    in_slots, by_grammar = found.in_slots == found.truth, found.by_grammar == found.truth
    return {
        "word_accuracy": float(in_slots.mean()),
        "letter_accuracy": float(in_slots[:, LETTERS].mean()),
        "frame_accuracy": classification.accuracy(flat, y),
        "word_error_rate": float(1 - by_grammar.mean()),
        "sentence_accuracy": float(by_grammar.all(1).mean()),
        "nll": classification.negative_log_likelihood(flat, y),
        "ece": classification.expected_calibration_error(flat, y),
    }


def _in_slot(p: NDArray[np.float32], start: float, end: float) -> int:
    """The word of the frames from `start` to `end`: of (T, L)."""
    logs = np.log(np.maximum(p[first_frame(start) : first_frame(end)].astype(np.float64), FLOOR))
    return 1 + int(logs[:, 1:].sum(0).argmax())
