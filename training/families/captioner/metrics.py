"""How well pictures are captioned: a published folder, or a network in training, with the server's own search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from training.data.flickr8k import Captioned
from training.data.scenes import ARTICLES, DIGIT, NUMBERS, SIDE, Scenes
from training.data.tokenizer import file_of
from training.families.captioner.corpus import MAX_TOKENS, Corpus
from training.families.captioner.network import GRID, Captioner, Saying, Scoring, Seeing
from training.families.captioner.trainer import blank_pictures
from training.metrics import onnx_model
from training.metrics.captions import bleu_4, cider_d
from training.metrics.translation import version
from training.metrics.writing import Step as RunStep
from training.metrics.writing import finish
from training.networks.encoder_decoder import END, START, STATES

ENCODER_OUTPUTS: Final = ("memory", *STATES)
STEP_OUTPUTS: Final = ("best", "log_probabilities", "attention", *(f"next_{name}" for name in STATES))
SCORER_OUTPUTS: Final = ("log_probability",)
BEAM: Final = {"photos": 3, "scenes": 1}
PENALTY: Final = 1.0
"""Hypotheses are ranked by the mean log probability of a token: see `Hypothesis.score`."""
BLANK: Final = {"photos": 128, "scenes": 24}
"""Grey levels of the picture that shows nothing; a scene's background is dark."""
ROWS_PER_RUN: Final = 64
LIKELIEST: Final = 10  # pictures, among which the right one should be
ASKED: Final = 250  # sentences for which pictures are ranked, evenly spaced in their test
SCORED_ROWS: Final = 250  # pictures in a run of the scorer

_BEAM: Final = "beam of {beam}, ranked by the mean log probability of a token"
_WORDS: Final = "words in small letters without signs, five references"
PHOTO_PROTOCOLS: Final = {
    "cider": f"CIDEr-D as in Vedantam et al. 2015 and the authors' code, without stemming, {_WORDS}; "
    f"{_BEAM.format(beam=BEAM['photos'])}",
    "bleu_4": f"BLEU-4 of the corpus by {version()}, unsmoothed, {_WORDS}; {_BEAM.format(beam=BEAM['photos'])}",
    "cider_greedy": f"CIDEr-D, {_WORDS}; greedy",
    "bleu_4_greedy": f"BLEU-4 by {version()}, unsmoothed, {_WORDS}; greedy",
    "recall_10": f"share of first sentences whose own picture is among the {LIKELIEST} of all test pictures that give "
    "the sentence the greatest probability",
}
SCENE_PROTOCOLS: Final = {
    "accuracy_exact": "share of scenes whose caption is the right sentence, letter by letter; greedy",
    "accuracy_unseen": "the same share of scenes that have at least one digit in a colour which it never had in "
    "training; greedy",
    "share_pointed": "share of the digits in exact captions at which the cell that was looked at most when the "
    "digit's number was written is one that the digit covers",
    "auc_probability": "area under the ROC curve of a caption's log probability, as a sign of whether it is exact, "
    "over both tests",
    "error_confident": "share of captions that are not exact among the third that the model is surest of, over both "
    "tests",
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """A captioner that can be run. Arrays by name, as the graphs have them."""

    writer: Tokenizer
    encoder: RunStep
    step: RunStep
    scorer: RunStep

    @classmethod
    def published(cls, folder: Path, manifest: Manifest, *, threads: int | None = None) -> Model:
        """A folder's graphs in ONNX Runtime on the CPU. Raises `LoadRefused`."""
        threads = threads or torch.get_num_threads()

        def run(graph: str, outputs: Sequence[str]) -> RunStep:
            session = onnx_model.open_graph(folder, manifest.graphs[graph], threads=threads)
            return lambda rows: dict(zip(outputs, session.run(list(outputs), dict(rows)), strict=True))

        assert manifest.writing is not None
        return cls(
            writer=Tokenizer((folder / manifest.writing.tokenizer.file).read_bytes()),
            encoder=run("encoder", ENCODER_OUTPUTS),
            step=run("step", STEP_OUTPUTS),
            scorer=run("scorer", SCORER_OUTPUTS),
        )

    @classmethod
    def trained(cls, network: Captioner, corpus: Corpus, *, language: int = 0) -> Model:
        """A network in torch, on the CPU."""

        def run(module: torch.nn.Module, outputs: Sequence[str]) -> RunStep:
            module.eval()

            @torch.no_grad()
            def of(rows: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
                found = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in rows.values()))
                found = [found] if isinstance(found, torch.Tensor) else found
                return {name: tensor.numpy() for name, tensor in zip(outputs, found, strict=True)}

            return of

        return cls(
            writer=Tokenizer(file_of(corpus.tokenizer, end=False).encode()),
            encoder=run(Seeing(network, language), ENCODER_OUTPUTS),
            step=run(Saying(network), STEP_OUTPUTS),
            scorer=run(Scoring(network), SCORER_OUTPUTS),
        )

    def captions(self, pictures: NDArray[np.uint8], *, beam: int = 1) -> list[Hypothesis]:
        """The best caption of each picture (N, SIDE, SIDE, 3)."""
        found: list[Hypothesis] = []
        rows = max(1, ROWS_PER_RUN // beam)
        for begin in range(0, len(pictures), rows):
            encoded = self.encoder({"image": pictures[begin : begin + rows]})
            searches = [
                Search(
                    encoded["memory"][i : i + 1],
                    {name: encoded[name][i : i + 1] for name in STATES},
                    length=None,
                    start=START,
                    end=END,
                    most=MAX_TOKENS,
                    beam=beam,
                    penalty=PENALTY,
                )
                for i in range(len(encoded["memory"]))
            ]
            finish(searches, self.step, rows=ROWS_PER_RUN)
            found += [search.hypotheses()[0] for search in searches]
        return found

    def text(self, hypothesis: Hypothesis) -> str:
        return self.writer.decode(hypothesis.tokens)

    def scores(self, pictures: NDArray[np.uint8], texts: Sequence[str]) -> NDArray[np.float64]:
        """The log probability of each text given each picture: (texts, pictures)."""
        tokens = [[START, *self.writer.encode(text, MAX_TOKENS).ids.tolist(), END] for text in texts]
        found = np.zeros((len(texts), len(pictures)))
        for begin in range(0, len(pictures), SCORED_ROWS):
            part = slice(begin, begin + SCORED_ROWS)
            encoded = [
                self.encoder({"image": pictures[part][i : i + ROWS_PER_RUN]})
                for i in range(0, len(pictures[part]), ROWS_PER_RUN)
            ]
            memory = {name: np.concatenate([one[name] for one in encoded]) for name in ENCODER_OUTPUTS}
            for row, ids in zip(found, tokens, strict=True):
                same = np.broadcast_to(np.array(ids), (len(memory["memory"]), len(ids)))
                row[part] = self.scorer({**memory, "tokens": np.ascontiguousarray(same)})["log_probability"]
        return found

    def evidence(self, pictures: NDArray[np.uint8], hypotheses: Sequence[Hypothesis], blank: int) -> list[float]:
        """The log probability of each picture's caption less that which a blank picture gives to it, in nats."""
        texts = [self.text(one) for one in hypotheses]
        nothing = self.scores(blank_pictures(blank, 1).numpy(), texts)[:, 0]
        return [float(one.log_probability - other) for one, other in zip(hypotheses, nothing, strict=True)]


def surest(logs: NDArray[np.float64]) -> NDArray[np.int64]:
    """The third with the greatest log probabilities."""
    return np.argsort(-logs, kind="stable")[: max(1, len(logs) // 3)]


# Photographs.


@dataclass(frozen=True, kw_only=True)
class CaptionedPhotos:
    """Photographs, and what the model made of them."""

    photos: Captioned
    greedy: list[str]
    beam: list[str]
    scores: NDArray[np.float64]  # (sentences, photographs), see `ranks`


def captioned(model: Model, photos: Captioned) -> CaptionedPhotos:
    pictures = photos.resized(SIDE).numpy()
    greedy, beam = (model.captions(pictures, beam=beam) for beam in (1, BEAM["photos"]))
    return CaptionedPhotos(
        photos=photos,
        greedy=[model.text(one) for one in greedy],
        beam=[model.text(one) for one in beam],
        scores=model.scores(pictures, [photos.sentences[i][0] for i in asked(len(photos))]),
    )


def asked(rows: int) -> list[int]:
    """Numbers of the photographs whose first sentence is asked for."""
    return [int(i) for i in np.linspace(0, rows - 1, min(ASKED, rows)).round()]


def ranks(scores: NDArray[np.float64], own: Sequence[int]) -> NDArray[np.int64]:
    """The place of each sentence's own picture, from 1 on; of equal scores the worse place."""
    right = scores[np.arange(len(own)), own]
    found: NDArray[np.int64] = (scores >= right[:, None]).sum(1)
    return found


def photo_figures(done: CaptionedPhotos) -> dict[str, float]:
    """By the names in `PHOTO_PROTOCOLS`."""
    references = done.photos.sentences
    return {
        "cider": cider_d(done.beam, references),
        "bleu_4": bleu_4(done.beam, references),
        "cider_greedy": cider_d(done.greedy, references),
        "bleu_4_greedy": bleu_4(done.greedy, references),
        "recall_10": float((ranks(done.scores, asked(len(done.photos))) <= LIKELIEST).mean()),
    }


# Scenes.


@dataclass(frozen=True, kw_only=True)
class CaptionedScenes:
    """Scenes, and what the model made of them."""

    scenes: Scenes
    truth: list[str]
    found: list[Hypothesis]
    texts: list[str]

    @property
    def exact(self) -> NDArray[np.bool_]:
        return np.array([one == other for one, other in zip(self.texts, self.truth, strict=True)])

    @property
    def logs(self) -> NDArray[np.float64]:
        return np.array([one.log_probability for one in self.found])


def captioned_scenes(model: Model, some: Scenes, language: str) -> CaptionedScenes:
    found = model.captions(some.pictures.numpy())
    return CaptionedScenes(
        scenes=some, truth=some.sentences(language), found=found, texts=[model.text(one) for one in found]
    )


def scene_figures(test: CaptionedScenes, unseen: CaptionedScenes, model: Model, language: str) -> dict[str, float]:
    """By the names in `SCENE_PROTOCOLS`."""
    exact = np.concatenate([test.exact, unseen.exact])
    logs = np.concatenate([test.logs, unseen.logs])
    found = {
        "accuracy_exact": float(test.exact.mean()),
        "accuracy_unseen": float(unseen.exact.mean()),
        "error_confident": float((~exact[surest(logs)]).mean()),
    }
    if 0 < exact.sum() < len(exact):
        found["auc_probability"] = float(roc_auc_score(exact, logs))
    hits = [hit for done in (test, unseen) for hit in pointed(done, model, language)]
    if hits:
        found["share_pointed"] = float(np.mean(hits))
    return found


def pointed(done: CaptionedScenes, model: Model, language: str) -> list[bool]:
    """Of each digit of the exact captions: whether most was looked at where it is when its number was written."""
    hits = []
    numbers = NUMBERS[language]
    for scene, one, exact in zip(done.scenes.scenes, done.found, done.exact, strict=True):
        if not exact:
            continue
        pieces = [piece.strip().lower() for piece in model.writer.pieces(one.tokens)]
        at = 0
        for thing in scene:
            # Behind its article: "three digits" and the Portuguese "um" are not the digit's number.
            at = _index(pieces, ARTICLES[language], at) + 1
            assert thing.digit is not None  # of scenes to be measured on, whose things have names
            where = _index(pieces, numbers[thing.digit], at)
            if where < len(pieces):  # else it is written in several tokens
                hits.append(_covers(thing.middle, int(one.attention[where].argmax())))
    return hits


def _index(pieces: Sequence[str], piece: str, begin: int) -> int:
    """Where it is next; the end where it is nowhere."""
    return next((i for i in range(begin, len(pieces)) if pieces[i] == piece), len(pieces))


def _covers(middle: tuple[int, int], cell: int) -> bool:
    """Whether a digit of 28 pixels reaches into that cell."""
    size = SIDE // GRID
    return all(
        abs(m - (c * size + size / 2)) < (DIGIT + size) / 2 for m, c in zip(middle, divmod(cell, GRID), strict=True)
    )


def speed(folder: Path, manifest: Manifest, pictures: NDArray[np.uint8]) -> list[dict[str, float]]:
    """Captions that one thread writes in a second, greedily, by pictures captioned together."""
    model = Model.published(folder, manifest, threads=1)
    found = []
    for together in (1, 8, 32):
        some = np.resize(pictures, (together, *pictures.shape[1:]))
        model.captions(some)
        begun = perf_counter()
        for _ in range(3):
            model.captions(some)
        found.append({"pictures": together, "captions_per_s": 3 * together / (perf_counter() - begun)})
    return found
