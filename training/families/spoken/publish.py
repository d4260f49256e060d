"""Publishing a classifier of spoken words: its graph with its temperature, and its figures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from app.core.manifest import Calibration, DataSource, Manifest, Measure, Sound
from training.data.base import DataError
from training.data.sound import COMMANDS, CORPORA, DIGITS, RATE, Clip, Corpus
from training.export import Export
from training.families.spoken import report as page
from training.families.spoken.network import Classifier, SpokenNet
from training.families.spoken.trainer import logits_of, tensors
from training.family import Family, Measured
from training.metrics import classification as measure
from training.metrics import onnx_model
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import measured_once
from training.reporting.page import write

LABELS: Final[dict[str, tuple[str, ...]]] = {"fsdd": DIGITS, "speech-commands": COMMANDS}
FIGURES_FILE: Final = "report/figures.json"
MAX_ROWS: Final = 32
MAX_S: Final = 5.0
PARITY_CLIPS: Final = 64
GOLDEN_ROWS: Final = 4
GOALS: Final = {"fsdd": {"accuracy": 0.995}, "speech-commands": {"accuracy": 0.90}}
UNSEEN_GOAL: Final = 0.92
PROTOCOLS: Final = {
    "accuracy": "share of test clips whose most probable label is the true one",
    "nll": "mean negative log-likelihood of the true label over the test clips, nats",
    "ece": "expected calibration error over the test clips, 15 equal-mass bins",
}


@dataclass(frozen=True)
class Trained:
    """One trained network, on the CPU."""

    seed: int
    network: SpokenNet
    history: list[dict[str, float]]


def load(name: str) -> Corpus:
    """Raises: DataError."""
    return CORPORA[name]()


def publish_spoken(
    models: Sequence[Trained],
    corpus: Corpus,
    unseen: Mapping[str, float],
    *,
    options: argparse.Namespace,
    precision: str,
) -> Path:
    """Publish the network with the least held-out loss.

    Args:
        unseen: accuracy on a speaker of models that never heard that one, by speaker.

    Returns: the published folder. Raises: PublishError.
    """
    labels = LABELS[corpus.name]
    held = corpus.of("held")
    y = torch.tensor([labels.index(clip.label) for clip in held])
    logits = [logits_of(one.network, held).double() for one in models]
    temperatures = [measure.fit_temperature(z.numpy(), y.numpy()) for z in logits]
    losses = [float(F.cross_entropy(z / t, y)) for z, t in zip(logits, temperatures, strict=True)]
    best = int(np.argmin(losses))
    chosen, temperature = models[best], temperatures[best]
    # Short clips of each label in turn come first: they are kept beside the model.
    test = sorted(corpus.of("test"), key=lambda clip: len(clip.samples))
    first = [next(clip for clip in test if clip.label == label) for label in labels[:GOLDEN_ROWS]]
    sound, length = tensors([clip.samples for clip in [*first, *test[:: max(1, len(test) // PARITY_CLIPS)]]])
    kept: dict[str, Any] = {
        "history": chosen.history,
        "unseen": dict(unseen),
        "inside": [page.inside(chosen.network, clip) for clip in first[:2]],
    }
    return publish(
        FAMILY,
        corpus,
        Draft(
            task="classify",
            modality="audio",
            title="Spoken digits" if corpus.name == "fsdd" else "Spoken commands",
            summary=_summary(corpus),
            data=DataSource(
                name=corpus.title,
                spec=corpus.name,
                source=corpus.source,
                licence=LICENCES[corpus.name],
                rows_train=len(corpus.of("train")),
                rows_held_out=len(held),
                rows_test=len(test),
                note=NOTES[corpus.name],
            ),
            max_rows=MAX_ROWS,
            train_s=total_seconds(chosen.history),
            precision=precision,
            seeds=(chosen.seed,),
            goals=GOALS[corpus.name],
            more=_unseen(unseen, corpus),
            fields={
                "labels": labels,
                "sound": Sound(rate=RATE, max_s=MAX_S),
                "calibration": Calibration(method="temperature", temperature=temperature, rows=len(held)),
            },
        ),
        [
            Export(
                graph="classifier",
                module=Classifier(chosen.network, temperature),
                inputs={"sound": sound, "length": length},
                outputs=("probabilities",),
                dynamic={"sound": {1: "samples"}},
                golden_rows=GOLDEN_ROWS,
            )
        ],
        options=options,
        keep=lambda folder, _: write_json(folder / FIGURES_FILE, kept),
    )


def _unseen(unseen: Mapping[str, float], corpus: Corpus) -> tuple[Measure, ...]:
    if not unseen:
        return ()
    shares = list(unseen.values())
    return (
        Measure(
            name="accuracy_unseen_speakers",
            value=float(np.mean(shares)),
            spread=float(np.std(shares, ddof=1)),
            protocol="share of all clips of a speaker that a model trained on the other five, and on digits of Speech "
            "Commands, for half the epochs, gets right, in torch; mean of the six, spread: their standard deviation",
            rows=len(corpus.clips),
            seeds=(0,),
            goal=UNSEEN_GOAL,
        ),
    )


LICENCES: Final = {"fsdd": "CC BY-SA 4.0; CC BY 4.0", "speech-commands": "CC BY 4.0; CC BY-SA 4.0"}
"""Of all that was heard in training."""
NOTES: Final = {
    "fsdd": "Six speakers, all of whom are in training and test: for other voices the figure of unseen speakers "
    "counts. Recordings 5 to 7 of each speaker are held out. Digits of Speech Commands' training part (Warden 2018, CC "
    "BY 4.0) are heard in training as well.",
    "speech-commands": "Only the test files of Speech Commands could be had, a twelfth of the papers' training data, "
    "split by speaker: not the benchmark's figure. FSDD's digits are heard as unknown words in training.",
}


def _summary(corpus: Corpus) -> str:
    if corpus.name == "fsdd":
        return (
            "Says which digit, zero to nine, is spoken in a recording. Trained on 2,520 recordings of six speakers and "
            "on 156 of 80 others."
        )
    return (
        "Says which of ten commands (yes, no, up, down, left, right, on, off, stop, go) is spoken, or that it is "
        "another word or nobody's. Trained on 3,195 clips of 168 speakers; tested on 47 others."
    )


def probabilities(folder: Path, manifest: Manifest, clips: Sequence[Clip]) -> NDArray[np.float32]:
    """The published graph on clips: (N, labels). Raises `LoadRefused`."""
    session = onnx_model.open_graph(folder, manifest.graphs["classifier"], threads=torch.get_num_threads())
    parts = [np.zeros((0, len(manifest.labels)), np.float32)]
    for begin in range(0, len(clips), MAX_ROWS):
        sound, length = tensors([clip.samples for clip in clips[begin : begin + MAX_ROWS]])
        parts.append(session.run(["probabilities"], {"sound": sound.numpy(), "length": length.numpy()})[0])
    return np.concatenate(parts)


class SpokenWords(Family[Corpus]):
    """Classifiers of one corpus."""

    def load_data(self, manifest: Manifest, data: str | None) -> Corpus:
        if data is not None and data not in LABELS:
            raise DataError(f"--data {data}: expected one of {', '.join(sorted(LABELS))}")
        return load(data or manifest.data.spec)

    def measure(
        self, folder: Path, manifest: Manifest, dataset: Corpus, *, data: str | None, rows: int | None
    ) -> Measured:
        if LABELS[dataset.name] != manifest.labels:
            raise DataError(f"{dataset.title}: labels are {LABELS[dataset.name]}, the model's are {manifest.labels}")
        clips = dataset.of("test")[:rows]
        p = probabilities(folder, manifest, clips)
        y = np.array([manifest.labels.index(clip.label) for clip in clips])
        return Measured(
            rows=len(clips),
            of=f"test clips of {dataset.title}",
            figures={
                "accuracy": measure.accuracy(p, y),
                "nll": measure.negative_log_likelihood(p, y),
                "ece": measure.expected_calibration_error(p, y),
            },
            protocols=PROTOCOLS,
            how="; this model's ONNX graph in fp32",
            claimed=data is None and rows is None,
        )

    def write_report(self, folder: Path, manifest: Manifest, dataset: Corpus, measured: Measured | None = None) -> None:
        clips = dataset.of("test")
        report = page.SpokenReport(
            manifest=manifest,
            found=read_json(folder / FIGURES_FILE),
            clips=clips,
            probabilities=probabilities(folder, manifest, clips),
            speed=measured_once(folder, "speed", lambda: page.speed(folder, manifest, clips)),
        )
        write(report.page(), folder)


FAMILY: Final = SpokenWords()
