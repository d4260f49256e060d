"""Publishing a classifier of reviews: its graph with its temperature, its tokenizer, its words, its figures."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from app.codecs.text.tokenizer import Tokenizer
from app.core.manifest import Calibration, DataSource, Manifest, Measure, Text, TextFile
from training.data.base import DataError
from training.data.sentiment import DATA, FOLDS, LABELS, Reviews
from training.export import Export
from training.families.sentiment import report as page
from training.families.sentiment.network import Classifier, SentimentNet
from training.families.sentiment.trainer import Ids, logits_of, passes, tensors
from training.family import Family, Measured
from training.metrics import classification as measure
from training.metrics import onnx_model
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import measured_once
from training.reporting.page import write

TOKENIZER_FILE: Final = "tokenizer.json"
WORDS_FILE: Final = "words.txt"
FIGURES_FILE: Final = "report/figures.json"
GRAPH: Final = "classifier"
MAX_ROWS: Final = 64
MAX_CHARACTERS: Final = 20_000
PARITY_TEXTS: Final = 48
GOLDEN_ROWS: Final = 4
EXAMPLE: Final = "A warm, funny film that never once talks down to its audience."
GOALS: Final = {"sst2": 0.84, "rt-polarity": 0.785, "imdb": 0.89}
FIRST: Final = (
    " Before, the network learnt once from pieces of long reviews with the labels of the whole; all seeds and folds "
    "began with that network."
)
PROTOCOLS: Final = {
    "accuracy": "share of test texts whose most probable label is the true one",
    "nll": "mean negative log-likelihood of the true label over the test texts, nats",
    "ece": "expected calibration error over the test texts: the larger of the two probabilities against the share that "
    "is right, 15 equal-mass bins",
}


@dataclass(frozen=True)
class Trained:
    """One trained network, on the CPU."""

    seed: int
    network: SentimentNet
    history: list[dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Reviews, and their ids by a tokenizer.

    Attributes:
        file: of the tokenizer. tokens: that it has.
        words: the list of those in the texts that were learnt from.
        first: other reviews that were learnt from before, in `first_s` seconds.
    """

    reviews: Reviews
    file: str
    tokens: int
    words: bytes
    first: Reviews | None = None
    first_s: float = 0.0
    train: Ids
    held: Ids
    test: Ids


def publish_sentiment(
    models: Sequence[Trained],
    data: Prepared,
    shares: Sequence[float],
    *,
    max_tokens: int,
    options: argparse.Namespace,
    precision: str,
) -> Path:
    """Publish the network with the least held-out loss.

    Args:
        shares: accuracies on test texts, each of a seed, or of a fold and a seed.

    Returns: the published folder. Raises: PublishError.
    """
    reviews = data.reviews
    sets = [reviews] if data.first is None else [reviews, data.first]
    learnt = " and ".join(one.title for one in sets)
    y = torch.from_numpy(reviews.held.y)
    logits = [logits_of(one.network, data.held).double() for one in models]
    temperatures = [measure.fit_temperature(z.numpy(), y.numpy()) for z in logits]
    losses = [float(F.cross_entropy(z / t, y)) for z, t in zip(logits, temperatures, strict=True)]
    best = int(np.argmin(losses))
    chosen = models[best]
    files = {TOKENIZER_FILE: data.file.encode(), WORDS_FILE: data.words}
    # Short ones first: golden rows are kept beside the model.
    parity = sorted(data.held, key=len)[:: max(1, len(data.held) // PARITY_TEXTS)][:PARITY_TEXTS]
    tokens, length = tensors(parity)
    return publish(
        FAMILY,
        reviews,
        Draft(
            task="classify",
            modality="text",
            title="Sentiment of long film reviews" if reviews.name == "imdb" else "Sentiment of sentences about films",
            summary=f"Says whether a text about a film is positive or negative. Trained on {learnt} alone: of other "
            "things than films, of other languages, and of irony it knows nothing.",
            data=DataSource(
                name=learnt,
                spec=reviews.name,
                source="; ".join(one.source for one in sets),
                licence="; ".join(dict.fromkeys(one.licence for one in sets)),
                rows_train=sum(len(one.train) for one in sets),
                rows_held_out=len(reviews.held),
                rows_test=len(reviews.test),
                note=reviews.note + (FIRST if data.first else ""),
            ),
            max_rows=MAX_ROWS,
            train_s=data.first_s + total_seconds(chosen.history),
            precision=precision,
            seeds=(chosen.seed,),
            more=(_mean(shares, [one.seed for one in models], data),),
            fields={
                "labels": LABELS,
                "text": Text(
                    tokenizer=_file(TOKENIZER_FILE, files),
                    max_tokens=max_tokens,
                    max_characters=MAX_CHARACTERS,
                    example=EXAMPLE,
                    words=_file(WORDS_FILE, files),
                ),
                "calibration": Calibration(method="temperature", temperature=temperatures[best], rows=len(y)),
            },
            files=files,
        ),
        [
            Export(
                graph=GRAPH,
                module=Classifier(chosen.network, temperatures[best]),
                inputs={"tokens": tokens, "length": length},
                outputs=("probabilities",),
                dynamic={"tokens": {1: "tokens"}},
                golden_rows=GOLDEN_ROWS,
            )
        ],
        options=options,
        keep=lambda folder, _: write_json(
            folder / FIGURES_FILE, {"history": chosen.history, "shares": list(map(float, shares))}
        ),
    )


def _file(name: str, files: Mapping[str, bytes]) -> TextFile:
    return TextFile(file=name, sha256=hashlib.sha256(files[name]).hexdigest())


def _mean(shares: Sequence[float], seeds: Sequence[int], data: Prepared) -> Measure:
    """The figure with the goal: over all seeds, and of rt-polarity over the ten folds."""
    folds = len(shares) // len(seeds)
    over = f"{folds} folds of {FOLDS} and of each {len(seeds)} seed(s)" if folds > 1 else f"{len(seeds)} seed(s)"
    start = " from one net of long reviews" if data.first else ""
    return Measure(
        name="accuracy_mean",
        value=float(np.mean(shares)),
        spread=float(np.std(shares, ddof=1)) if len(shares) > 1 else None,
        protocol=f"mean of the accuracy on test texts over {over}, each trained anew{start}, in torch; spread: their "
        "standard deviation",
        rows=len(data.reviews.test),
        seeds=tuple(seeds),
        goal=GOALS[data.reviews.name],
    )


def probabilities(folder: Path, manifest: Manifest, texts: Sequence[str]) -> NDArray[np.float32]:
    """The published graph on texts as they are: (N, labels). Raises `LoadRefused`."""
    assert manifest.text is not None
    session = onnx_model.open_graph(folder, manifest.graphs[GRAPH], threads=torch.get_num_threads())
    tokenizer = Tokenizer((folder / manifest.text.tokenizer.file).read_bytes())
    ids = [tokenizer.encode(text, manifest.text.max_tokens).ids for text in texts]
    out = np.zeros((len(ids), len(manifest.labels)), np.float32)
    for some in passes(ids):
        for begin in range(0, len(some), MAX_ROWS):
            rows = some[begin : begin + MAX_ROWS]
            tokens, length = tensors([ids[i] for i in rows])
            out[rows] = session.run(["probabilities"], {"tokens": tokens.numpy(), "length": length.numpy()})[0]
    return out


class Sentiment(Family[Reviews]):
    """Classifiers of one data set; of rt-polarity those of its first fold."""

    def load_data(self, manifest: Manifest, data: str | None) -> Reviews:
        name = data or manifest.data.spec
        if name not in DATA:
            raise DataError(f"--data {name}: expected one of {', '.join(DATA)}")
        if {name, manifest.data.spec} == {"sst2", "rt-polarity"}:
            raise DataError(
                f"--data {name}: its sentences are those that the model of {manifest.data.spec} learnt from"
            )
        return DATA[name]()

    def measure(
        self, folder: Path, manifest: Manifest, dataset: Reviews, *, data: str | None, rows: int | None
    ) -> Measured:
        test = dataset.test.at(range(len(dataset.test))[:rows])
        p = probabilities(folder, manifest, test.texts)
        return Measured(
            rows=len(test),
            of=f"test texts of {dataset.title}",
            figures={
                "accuracy": measure.accuracy(p, test.y),
                "nll": measure.negative_log_likelihood(p, test.y),
                "ece": measure.expected_calibration_error(p, test.y),
            },
            protocols=PROTOCOLS,
            how="; this model's ONNX graph in fp32",
            claimed=data is None and rows is None,
            details=p,
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: Reviews, measured: Measured | None = None
    ) -> None:
        def said(texts: Sequence[str]) -> NDArray[np.float32]:
            return probabilities(folder, manifest, texts)

        found: Mapping[str, Any] = read_json(folder / FIGURES_FILE)
        report = page.SentimentReport(
            manifest=manifest,
            found=found,
            test=dataset.test,
            probabilities=said(dataset.test.texts) if measured is None else measured.details,
            said=said,
            speed=measured_once(folder, "speed", lambda: page.speed(folder, manifest, dataset.test.texts)),
        )
        write(report.page(), folder)


FAMILY: Final = Sentiment()
