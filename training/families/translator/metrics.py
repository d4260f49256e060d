"""How well sentences are translated: a published folder, or a network in training, with the server's own search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from app.codecs.text.tokenizer import Tokenizer
from app.core.decoding.writing import Hypothesis, Search
from app.core.manifest import Manifest
from training.data.parallel import Pairs
from training.data.tokenizer import file_of
from training.families.translator.corpus import MAX_TOKENS, Tokenizers
from training.families.translator.network import Reading, Translator
from training.metrics import onnx_model
from training.metrics.classification import expected_calibration_error
from training.metrics.translation import bleu, bleu_lower, chrf, sentence_chrf, version
from training.metrics.writing import Step as RunStep
from training.metrics.writing import finish
from training.networks.encoder_decoder import END, START, STATES, Step

ENCODER_OUTPUTS: Final = ("memory", *STATES)
STEP_OUTPUTS: Final = ("best", "log_probabilities", "attention", *(f"next_{name}" for name in STATES))
BEAM: Final = 5
PENALTY: Final = 1.0
"""Hypotheses are ranked by the mean log probability of a token: see `Hypothesis.score`."""
ROWS_PER_RUN: Final = 64
WRONG: Final = 40.0
"""A sentence of less chrF2 is called wrong."""
SHORT: Final = {
    "test_2016_flickr": "",
    "test_2017_flickr": "_2017",
    "test_2017_mscoco": "_mscoco",
    "test_2018_flickr": "_2018",
    "tatoeba": "_tatoeba",
}
"""What figures of each test are called behind their measure; nothing for the headline."""
DATA: Final = {
    "": "test_2016_flickr of Multi30k",
    "_2017": "test_2017_flickr of Multi30k",
    "_mscoco": "test_2017_mscoco of Multi30k",
    "_2018": "test_2018_flickr of Multi30k",
    "_tatoeba": "the everyday sentences of Tatoeba's test, by our split",
}
_BLEU: Final = f"BLEU by {version()}, 13a, cased, detokenised text against the reference as it is"
_BEAM: Final = f"beam of {BEAM}, ranked by the mean log probability of a token"


def protocols() -> dict[str, str]:
    """By the names of figures."""
    found = {}
    for short, data in DATA.items():
        found[f"bleu{short}"] = f"{_BLEU}; {_BEAM}; {data}"
        found[f"chrf{short}"] = f"chrF2 by {version()}; {_BEAM}; {data}"
    return found | {
        "bleu_greedy": f"{_BLEU}; greedy; {DATA['']}",
        "chrf_greedy": f"chrF2 by {version()}; greedy; {DATA['']}",
        "bleu_lower": f"BLEU by {version()}, 13a, in small letters, nearer to papers' figures; {_BEAM}; {DATA['']}",
        "ece_tokens": "calibration error of the next token's probability, after the reference's tokens before it, 15 "
        f"equal-mass bins, events: each of the 16 likeliest tokens, or any other; {DATA['']}",
        "auc_probability": "area under the ROC curve of a translation's mean log probability of a token, as a sign of "
        f"whether its chrF2 is {WRONG:.0f} or more; greedy; {DATA['']}",
        "error_confident": f"share of translations with a chrF2 under {WRONG:.0f} among the third that the model is "
        f"surest of; greedy; {DATA['']}",
    }


@dataclass(frozen=True, kw_only=True)
class Model:
    """A translator that can be run. Arrays by name, as the graphs have them."""

    read: Tokenizer
    written: Tokenizer
    encoder: RunStep
    step: RunStep

    @classmethod
    def published(cls, folder: Path, manifest: Manifest, *, threads: int | None = None) -> Model:
        """A folder's graphs in ONNX Runtime on the CPU. Raises `LoadRefused`."""
        threads = threads or torch.get_num_threads()

        def run(graph: str, outputs: Sequence[str]) -> RunStep:
            session = onnx_model.open_graph(folder, manifest.graphs[graph], threads=threads)
            return lambda rows: dict(zip(outputs, session.run(list(outputs), dict(rows)), strict=True))

        assert manifest.text is not None
        assert manifest.writing is not None
        return cls(
            read=Tokenizer((folder / manifest.text.tokenizer.file).read_bytes()),
            written=Tokenizer((folder / manifest.writing.tokenizer.file).read_bytes()),
            encoder=run("encoder", ENCODER_OUTPUTS),
            step=run("step", STEP_OUTPUTS),
        )

    @classmethod
    def trained(cls, network: Translator, tokenizers: Tokenizers) -> Model:
        """A network in torch, on the CPU."""

        def run(module: torch.nn.Module, outputs: Sequence[str]) -> RunStep:
            module.eval()

            @torch.no_grad()
            def of(rows: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
                found = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in rows.values()))
                return {name: tensor.numpy() for name, tensor in zip(outputs, found, strict=True)}

            return of

        return cls(
            read=Tokenizer(file_of(tokenizers.read, end=True).encode()),
            written=Tokenizer(file_of(tokenizers.written, end=False).encode()),
            encoder=run(Reading(network), ENCODER_OUTPUTS),
            step=run(Step(network.decoder), STEP_OUTPUTS),
        )

    def translate(self, texts: Sequence[str], *, beam: int = 1) -> list[Hypothesis]:
        """The best translation of each text."""
        found: list[Hypothesis] = [Hypothesis()] * len(texts)
        ids = [self.read.encode(text, MAX_TOKENS).ids for text in texts]
        for some, encoded in self._encoded(ids, max(1, ROWS_PER_RUN // beam)):
            searches = [
                Search(
                    encoded["memory"][row : row + 1, : len(ids[i])],
                    {name: encoded[name][row : row + 1] for name in STATES},
                    length=len(ids[i]),
                    start=START,
                    end=END,
                    most=MAX_TOKENS,
                    beam=beam,
                    penalty=PENALTY,
                )
                for row, i in enumerate(some)
            ]
            finish(searches, self.step, rows=ROWS_PER_RUN)
            for i, search in zip(some, searches, strict=True):
                found[i] = search.hypotheses()[0]
        return found

    def text(self, hypothesis: Hypothesis) -> str:
        return self.written.decode(hypothesis.tokens)

    def forced(self, pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Of each token of the references, after those before it: the probabilities of the best tokens and of any other
        (N, K + 1), and which of these it is (N,)."""
        read = [self.read.encode(text, MAX_TOKENS).ids for text in pairs.source]
        written = [self.written.encode(text, MAX_TOKENS - 1).ids.tolist() for text in pairs.target]
        p: list[NDArray[np.float64]] = []
        y: list[int] = []
        for some, encoded in self._encoded(read, ROWS_PER_RUN):
            rows = {"memory": encoded["memory"], "length": np.array([len(read[i]) for i in some])}
            states = {name: encoded[name] for name in STATES}
            tokens = [[START, *written[i], END] for i in some]
            for t in range(max(map(len, tokens)) - 1):
                now = np.array([row[min(t, len(row) - 1)] for row in tokens])
                outputs = self.step({"token": now, **rows, **states})
                states = {name: outputs[f"next_{name}"] for name in STATES}
                for k, row in enumerate(tokens):
                    if t + 1 < len(row):
                        best = outputs["best"][k].tolist()
                        likely = np.exp(outputs["log_probabilities"][k].astype(np.float64))
                        p.append(np.append(likely, max(0.0, 1 - likely.sum())))
                        y.append(best.index(row[t + 1]) if row[t + 1] in best else len(best))
        return np.stack(p), np.array(y)

    def _encoded(
        self, ids: Sequence[NDArray[np.int64]], rows: int
    ) -> Sequence[tuple[list[int], Mapping[str, NDArray[Any]]]]:
        """Numbers of texts of similar length, and what the encoder makes of them, so many at a time."""
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found = []
        for begin in range(0, len(order), rows):
            some = order[begin : begin + rows]
            tokens = np.zeros((len(some), max(len(ids[i]) for i in some)), np.int64)
            for row, i in zip(tokens, some, strict=True):
                row[: len(ids[i])] = ids[i]
            length = np.array([len(ids[i]) for i in some])
            found.append((some, self.encoder({"tokens": tokens, "length": length})))
        return found


@dataclass(frozen=True, kw_only=True)
class Translated:
    """The sentences of one test, and what the model made of them."""

    test: str
    pairs: Pairs
    greedy: list[Hypothesis]
    beam: list[Hypothesis]
    greedy_texts: list[str]
    beam_texts: list[str]


def translated(model: Model, tests: Mapping[str, Pairs], *, rows: int | None) -> list[Translated]:
    """The first `rows` sentences of each test."""
    found = []
    for test, all_pairs in tests.items():
        pairs = all_pairs.first(rows)
        greedy, beam = model.translate(pairs.source), model.translate(pairs.source, beam=BEAM)
        found.append(
            Translated(
                test=test,
                pairs=pairs,
                greedy=greedy,
                beam=beam,
                greedy_texts=[model.text(one) for one in greedy],
                beam_texts=[model.text(one) for one in beam],
            )
        )
    return found


def sureness(hypotheses: Sequence[Hypothesis]) -> NDArray[np.float64]:
    """The mean log probability of a token of each, the end counted."""
    return np.array([one.log_probability / max(1, len(one.log_probabilities)) for one in hypotheses])


def figures(
    done: Sequence[Translated], forced: Callable[[Pairs], tuple[NDArray[np.float64], NDArray[np.int64]]]
) -> dict[str, float]:
    """By the names in `protocols`; the first test is the headline."""
    found = {}
    for one in done:
        short = SHORT[one.test]
        found[f"bleu{short}"] = bleu(one.beam_texts, one.pairs.target)
        found[f"chrf{short}"] = chrf(one.beam_texts, one.pairs.target)
    first = done[0]
    found["bleu_greedy"] = bleu(first.greedy_texts, first.pairs.target)
    found["chrf_greedy"] = chrf(first.greedy_texts, first.pairs.target)
    found["bleu_lower"] = bleu_lower(first.beam_texts, first.pairs.target)
    found["ece_tokens"] = expected_calibration_error(*forced(first.pairs))
    sure = sureness(first.greedy)
    wrong = np.array(sentence_chrf(first.greedy_texts, first.pairs.target)) < WRONG
    if 0 < wrong.sum() < len(wrong):
        found["auc_probability"] = float(roc_auc_score(~wrong, sure))
    surest = np.argsort(-sure, kind="stable")[: max(1, len(sure) // 3)]
    found["error_confident"] = float(wrong[surest].mean())
    return found


def speed(folder: Path, manifest: Manifest, texts: Sequence[str]) -> list[dict[str, float]]:
    """Words that one thread writes in a second, greedily, by sentences translated together."""
    model = Model.published(folder, manifest, threads=1)
    found = []
    for together in (1, 8, 32):
        some = list(texts[:together])
        begun = perf_counter()
        written = [model.text(one) for one in model.translate(some)]
        for _ in range(2):
            model.translate(some)
        taken = (perf_counter() - begun) / 3
        found.append({"sentences": together, "words_per_s": sum(len(text.split()) for text in written) / taken})
    return found
