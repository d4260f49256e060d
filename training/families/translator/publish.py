"""Publishing a translator: two graphs, two tokenizers, the words that it knows, and its figures."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from app.codecs.text.words import list_of_words
from app.core.manifest import Calibration, DataSource, Languages, Manifest, Text, TextFile, Writing
from training.data.base import DataError
from training.data.parallel import LANGUAGES
from training.data.tokenizer import file_of
from training.export import Export
from training.families.translator import metrics
from training.families.translator import report as page
from training.families.translator.corpus import (
    MAX_TOKENS,
    PAIRS,
    Collections,
    Rows,
    Tokenizers,
    rows_of,
    train_pairs,
)
from training.families.translator.metrics import ENCODER_OUTPUTS, PENALTY, STEP_OUTPUTS, Model, translated
from training.families.translator.network import Reading, Translator
from training.families.translator.trainer import logits_of, padded
from training.family import Family, Measured
from training.metrics.classification import fit_temperature
from training.metrics.translation import bleu
from training.networks.encoder_decoder import BEST, END, START, STATES, Step, ends, inside
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import measured_once
from training.reporting.page import write

READ_FILE: Final = "read.json"
WRITTEN_FILE: Final = "written.json"
WORDS_FILE: Final = "words.txt"
FIGURES_FILE: Final = "report/figures.json"
MAX_ROWS: Final = 64
MAX_CHARACTERS: Final = 2000
PARITY_SENTENCES: Final = 32
GOLDEN_ROWS: Final = 4
CALIBRATION_TOKENS: Final = 4000
EXAMPLES: Final = {"de": "Zwei Hunde spielen im Schnee.", "en": "Two dogs are playing in the snow."}
GOALS: Final = {"de-en": {"bleu": 38.0}, "en-pt": {"bleu": 45.0}}
GAIN: Final = "gain_of_attention_bleu"
GAIN_GOAL: Final = 8.0


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One trained network, on the CPU."""

    seed: int
    network: Translator
    history: list[dict[str, float]]


def publish_translator(
    trained: Sequence[Trained],
    twin: Trained | None,
    collections: Collections,
    tokenizers: Tokenizers,
    *,
    options: argparse.Namespace,
    precision: str,
) -> Path:
    """Publish the network with the least held-out loss on the first collection.

    Args:
        twin: of the first seed, without attention.

    Returns: the published folder. Raises: PublishError.
    """
    first = collections[0]
    chosen = min(trained, key=lambda one: one.history[-1][f"held_nll_{first.name}"])
    held = rows_of(first.held, tokenizers)
    temperature, tokens = _temperature(chosen.network, held)
    pairs = first.tests[next(iter(first.tests))]
    beside: list[str] = []
    if twin is not None:
        model = Model.trained(twin.network, tokenizers)
        beside = [model.text(one) for one in model.translate(pairs.source, beam=metrics.BEAM)]
    files = _files(collections, tokenizers)
    kept: dict[str, Any] = {
        "history": chosen.history,
        "twin": {"history": [] if twin is None else twin.history, "texts": beside},
    }

    def measure(folder: Path, manifest: Manifest) -> Measured:
        found = FAMILY.measure(folder, manifest, collections, data=None, rows=None)
        return found if twin is None else _with_gain(found, bleu(beside, pairs.target), len(pairs))

    draft = Draft(
        task="translate",
        modality="text",
        title=f"{LANGUAGES[first.source]} to {LANGUAGES[first.target]}",
        summary=_summary(collections),
        data=_data(collections, options.pair),
        max_rows=MAX_ROWS,
        train_s=total_seconds(chosen.history),
        precision=precision,
        seeds=(chosen.seed,),
        goals=GOALS[options.pair] | {GAIN: GAIN_GOAL},
        fields={
            "text": Text(
                tokenizer=_file(READ_FILE, files),
                max_tokens=MAX_TOKENS,
                max_characters=MAX_CHARACTERS,
                example=EXAMPLES[first.source],
                words=_file(WORDS_FILE, files),
                sentences=True,
            ),
            "writing": Writing(
                tokenizer=_file(WRITTEN_FILE, files),
                start=START,
                end=END,
                max_tokens=MAX_TOKENS,
                best=BEST,
                penalty=PENALTY,
            ),
            "languages": Languages(source=first.source, target=first.target),
            "calibration": Calibration(method="temperature", temperature=temperature, rows=tokens),
        },
        files=files,
    )
    return publish(
        FAMILY,
        collections,
        draft,
        _exports(chosen.network, held, temperature),
        options=options,
        measure=measure,
        keep=lambda folder, _: write_json(folder / FIGURES_FILE, kept),
    )


def _files(collections: Collections, tokenizers: Tokenizers) -> dict[str, bytes]:
    return {
        READ_FILE: file_of(tokenizers.read, end=True).encode(),
        WRITTEN_FILE: file_of(tokenizers.written, end=False).encode(),
        WORDS_FILE: list_of_words(train_pairs(collections, 1).source),
    }


def _file(name: str, files: dict[str, bytes]) -> TextFile:
    return TextFile(file=name, sha256=hashlib.sha256(files[name]).hexdigest())


def _temperature(network: Translator, held: Rows) -> tuple[float, int]:
    """What makes the probabilities of held-out tokens right, and of how many: labels were smoothed in training."""
    logits, tokens = logits_of(network, held, torch.device("cpu"))
    some = slice(None, None, max(1, len(tokens) // CALIBRATION_TOKENS))
    return fit_temperature(logits[some].numpy(), tokens[some].numpy()), len(tokens[some])


@torch.no_grad()
def _exports(network: Translator, held: Rows, temperature: float) -> list[Export]:
    """Checked on held-out sentences. Steps are of all positions: of row k the one after k tokens, as far as it goes."""
    network.eval()
    read, written = held.read[:PARITY_SENTENCES], held.written[:PARITY_SENTENCES]
    tokens, length = padded(read), torch.tensor([len(ids) for ids in read])
    memory, *first = Reading(network)(tokens, length)
    asked: list[int] = []
    states: list[tuple[Tensor, ...]] = []
    for k, ids in enumerate(written):
        before = torch.tensor([[START, *ids.tolist()]])[:, : 1 + k % (len(ids) + 1)]
        row = memory[k : k + 1]
        state = (first[0][k : k + 1], first[1][k : k + 1], first[2][k : k + 1], first[3][k : k + 1])
        if before.shape[1] > 1:
            own = length[k : k + 1]
            _, _, state = network.decoder(before[:, :-1], row, ends(row, own), inside(row, own), state)
        asked.append(int(before[0, -1]))
        states.append(state)
    return [
        Export(
            graph="encoder",
            module=Reading(network),
            inputs={"tokens": tokens, "length": length},
            outputs=ENCODER_OUTPUTS,
            dynamic={"tokens": {1: "tokens"}, "memory": {1: "tokens"}},
            golden_rows=GOLDEN_ROWS,
        ),
        Export(
            graph="step",
            module=Step(network.decoder, temperature),
            inputs={
                "token": torch.tensor(asked),
                "memory": memory,
                "length": length,
                **{name: torch.cat([state[i] for state in states]) for i, name in enumerate(STATES)},
            },
            outputs=STEP_OUTPUTS,
            dynamic={"memory": {1: "tokens"}, "attention": {1: "tokens"}},
            golden_rows=GOLDEN_ROWS,
        ),
    ]


def _with_gain(found: Measured, without: float, sentences: int) -> Measured:
    protocol = (
        f"BLEU of this model less that of its twin without attention ({without:.2f}), trained alike by the same "
        "command and measured in torch on the same sentences by the same search"
    )
    return replace(
        found,
        figures={**found.figures, GAIN: found.figures["bleu"] - without},
        protocols={**found.protocols, GAIN: protocol},
        rows_of={**found.rows_of, GAIN: sentences},
    )


def _summary(collections: Collections) -> str:
    first, *others = collections
    more = f" and {len(others[0].train):,} everyday sentences" if others else ""
    doubt = "Of other texts" if others else "Of anything but descriptions of pictures"
    return (
        f"Translates {LANGUAGES[first.source]} to {LANGUAGES[first.target]}, word by word. Trained on "
        f"{len(first.train):,} descriptions of pictures{more} alone. {doubt} it knows little, and often writes "
        "something fluent that is wrong: see the report for when to believe it."
    )


def _data(collections: Collections, pair: str) -> DataSource:
    return DataSource(
        name=" and ".join(one.title for one in collections),
        spec=pair,
        source="; ".join(one.origin for one in collections),
        licence="; ".join(f"{one.title}: {one.licence}" for one in collections),
        rows_train=sum(len(one.train) for one in collections),
        rows_held_out=sum(len(one.held) for one in collections),
        rows_test=sum(len(pairs) for one in collections for pairs in one.tests.values()),
        note="The model may not be used commercially: it was learnt from data that may not."
        + (" Everyday sentences are of Portugal and of Brazil." if len(collections) > 1 else ""),
    )


class Translators(Family[Collections]):
    """Measured on all tests of their own collections."""

    def load_data(self, manifest: Manifest, data: str | None) -> Collections:
        if data is not None and data != manifest.data.spec:
            raise DataError(f"--data {data}: this translator is measured on {manifest.data.spec}: leave it out")
        return PAIRS[manifest.data.spec]()

    def measure(
        self, folder: Path, manifest: Manifest, dataset: Collections, *, data: str | None, rows: int | None
    ) -> Measured:
        model = Model.published(folder, manifest)
        tests = {name: pairs for one in dataset for name, pairs in one.tests.items()}
        done = translated(model, tests, rows=rows)
        counts = {f"{measure}{metrics.SHORT[one.test]}": len(one.pairs) for one in done for measure in ("bleu", "chrf")}
        return Measured(
            rows=len(done[0].pairs),
            of="test sentences",
            figures=metrics.figures(done, model.forced),
            protocols=metrics.protocols(),
            how="; this model's ONNX graphs in fp32, with the server's own search",
            rows_of=counts,
            claimed=rows is None,
            details=done,
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: Collections, measured: Measured | None = None
    ) -> None:
        model = Model.published(folder, manifest)
        tests = {name: pairs for one in dataset for name, pairs in one.tests.items()}
        first = next(iter(tests.values()))
        report = page.TranslatorReport(
            manifest=manifest,
            found=read_json(folder / FIGURES_FILE),
            done=translated(model, tests, rows=None) if measured is None else measured.details,
            model=model,
            forced=model.forced(first),
            speed=measured_once(folder, "speed", lambda: metrics.speed(folder, manifest, first.source)),
        )
        write(report.page(), folder)


FAMILY: Final = Translators()
