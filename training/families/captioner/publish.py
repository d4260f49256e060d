"""Publishing captioners: two graphs that write, one that scores, a tokenizer, and their figures."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from app.core.manifest import Calibration, Manifest, PhotoPicture, TextFile, Writing
from training.data import flickr8k, mnist, scenes
from training.data.base import DataError
from training.data.flickr8k import Flickr8k
from training.data.scenes import LANGUAGES, DigitScenes
from training.data.tokenizer import file_of
from training.export import Export
from training.families.captioner import metrics
from training.families.captioner import report as page
from training.families.captioner.corpus import MAX_TOKENS, Corpus, DigitCorpus, Held, Ids, Photos, shifted
from training.families.captioner.metrics import (
    BEAM,
    BLANK,
    ENCODER_OUTPUTS,
    PENALTY,
    SCORER_OUTPUTS,
    STEP_OUTPUTS,
    CaptionedPhotos,
    CaptionedScenes,
    Model,
)
from training.families.captioner.network import GRID, SIDE, Captioner, Saying, Scoring, Seeing, whole
from training.families.captioner.trainer import blank_pictures, logits_of
from training.family import Family, Measured
from training.metrics.captions import bleu_4, cider_d
from training.metrics.classification import fit_temperature
from training.networks.encoder_decoder import BEST, END, START, STATES
from training.publish import Draft, publish, read_json, total_seconds, write_json
from training.reporting.latency import kept_latency, measured_once
from training.reporting.page import write

TOKENIZER_FILE: Final = "written.json"
FIGURES_FILE: Final = "report/figures.json"
MAX_ROWS: Final = 64
PARITY_PICTURES: Final = 32
GOLDEN_ROWS: Final = 2
CALIBRATION_TOKENS: Final = 4000
PHOTO_PICTURE: Final = PhotoPicture(kind="photo", height=SIDE, width=SIDE, channels=3, resize="stretch")
PHOTO_GOALS: Final = {"cider": 0.30, "bleu_4": 14.0, "recall_10": 0.12}
SCENE_GOALS: Final = {"accuracy_exact": 0.97, "accuracy_unseen": 0.90}
GAIN: Final = "gain_of_sight_cider"
GAIN_GOAL: Final = 0.15


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One trained network, on the CPU."""

    seed: int
    network: Captioner
    history: list[dict[str, float]]


def publish_photos(
    trained: Sequence[Trained],
    twin: Trained | None,
    corpus: Photos,
    *,
    options: argparse.Namespace,
    precision: str,
) -> Path:
    """Publish the network with the greatest CIDEr-D on held-out photographs.

    Args:
        twin: of the first seed, which saw a blank picture in place of all others.

    Returns: the published folder. Raises: PublishError.
    """
    data = corpus.data
    chosen = max(trained, key=lambda one: one.history[-1]["held_cider"])
    said = "" if twin is None else _said_by_the_blind(twin, corpus)
    kept = {"history": chosen.history, "twin": {"history": [] if twin is None else twin.history, "text": said}}

    def measure(folder: Path, manifest: Manifest) -> Measured:
        found = PHOTOS.measure(folder, manifest, data, data=None, rows=None)
        return found if twin is None else _with_gain(found, data, said)

    draft = Draft(
        task="caption",
        modality="image",
        title="A sentence for a photograph",
        summary=(
            "Says in an English sentence what a photograph shows, and where it looked for each word. Its eyes were "
            f"trained from scratch on {len(data.train):,} photographs of people and dogs, which is very few: most of "
            "its captions are wrong in something, many in everything. See the report for how much it sees."
        ),
        data=data.data_source,
        max_rows=MAX_ROWS,
        train_s=total_seconds(chosen.history),
        precision=precision,
        seeds=(chosen.seed,),
        goals=PHOTO_GOALS | {GAIN: GAIN_GOAL},
        **_written("photos", PHOTO_PICTURE, corpus, chosen.network, language=0),
    )
    held = corpus.held["held"]
    pictures = torch.from_numpy(page.shown_photos(PARITY_PICTURES))
    exports = _exports(chosen.network, pictures, held, _temperature_of(draft), language=0)
    return publish(
        PHOTOS,
        data,
        draft,
        exports,
        options=options,
        measure=measure,
        keep=lambda folder, _: write_json(folder / FIGURES_FILE, kept),
    )


def publish_scenes(
    trained: Sequence[Trained], corpus: DigitCorpus, *, language: str, options: argparse.Namespace, precision: str
) -> Path:
    """Publish the network that has most held-out sentences of that language right.

    Returns: the published folder. Raises: PublishError.
    """
    data = corpus.data
    chosen = max(trained, key=lambda one: one.history[-1][f"held_exact_{language}"])
    number = list(LANGUAGES).index(language)
    draft = Draft(
        task="caption",
        modality="image",
        title=f"Coloured digits in {LANGUAGES[language]}",
        summary=(
            f"Says in {LANGUAGES[language]} which handwritten digits a picture has, in which colours and where, and "
            "where it looked for each word. Knows one to four light digits on a dark background, in red, green, blue, "
            "yellow and white; of other pictures it says something of the same form that is wrong."
        ),
        data=data.data_source.model_copy(update={"spec": language}),
        max_rows=MAX_ROWS,
        train_s=total_seconds(chosen.history),
        precision=precision,
        seeds=(chosen.seed,),
        goals=SCENE_GOALS,
        **_written("scenes", scenes.PICTURE, corpus, chosen.network, language=number),
    )
    held = corpus.held["held"]
    exports = _exports(chosen.network, held.pictures[:PARITY_PICTURES], held, _temperature_of(draft), language=number)
    return publish(
        DIGITS,
        data,
        draft,
        exports,
        options=options,
        keep=lambda folder, _: write_json(folder / FIGURES_FILE, {"history": chosen.history}),
    )


def _written(kind: str, picture: PhotoPicture, corpus: Corpus, network: Captioner, *, language: int) -> dict[str, Any]:
    """Fields and files of a draft."""
    held = corpus.held["held"]
    own = replace(
        held,
        sentences=[one[language : language + 1] if len(held.language) > 1 else one for one in held.sentences],
        language=held.language[language : language + 1],
    )
    logits, tokens = logits_of(network, own, torch.device("cpu"))
    some = slice(None, None, max(1, len(tokens) // CALIBRATION_TOKENS))
    temperature = fit_temperature(logits[some].numpy(), tokens[some].numpy())
    data = file_of(corpus.tokenizer, end=False).encode()
    return {
        "fields": {
            "picture": picture,
            "writing": Writing(
                tokenizer=TextFile(file=TOKENIZER_FILE, sha256=hashlib.sha256(data).hexdigest()),
                start=START,
                end=END,
                max_tokens=MAX_TOKENS,
                best=BEST,
                beam=BEAM[kind],
                penalty=PENALTY,
                grid=(GRID, GRID),
                blank=BLANK[kind],
            ),
            "calibration": Calibration(method="temperature", temperature=temperature, rows=len(tokens[some])),
        },
        "files": {TOKENIZER_FILE: data},
        # Those that only training needs, the linear layer on the cells, are not in the graphs.
        "parameters": sum(p.numel() for name, p in network.named_parameters() if not name.startswith("words.")),
    }


def _temperature_of(draft: Draft) -> float:
    calibration: Calibration = draft.fields["calibration"]
    return calibration.temperature


@torch.no_grad()
def _exports(network: Captioner, pictures: Tensor, held: Held, temperature: float, *, language: int) -> list[Export]:
    """Checked on `pictures` and held-out sentences. Steps are of all positions: of row k the one after k tokens."""
    network.eval()
    memory, *first = Seeing(network, language)(pictures)
    sentences = [held.sentences[i % len(held.sentences)][-1 if language else 0] for i in range(len(pictures))]
    asked, states = _midway(network, memory, first, sentences)
    before, _ = shifted(sentences)
    ends = torch.tensor([len(ids) + 1 for ids in sentences])[:, None]
    tokens = torch.cat([before, torch.zeros_like(before[:, :1])], dim=1).scatter(1, ends, END)
    return [
        Export(
            graph="encoder",
            module=Seeing(network, language),
            inputs={"image": pictures},
            outputs=ENCODER_OUTPUTS,
            golden_rows=GOLDEN_ROWS,
        ),
        Export(
            graph="step",
            module=Saying(network, temperature),
            inputs={"token": asked, "memory": memory, **dict(zip(STATES, states, strict=True))},
            outputs=STEP_OUTPUTS,
            golden_rows=GOLDEN_ROWS,
        ),
        Export(
            graph="scorer",
            module=Scoring(network, temperature),
            inputs={"memory": memory, **dict(zip(STATES, first, strict=True)), "tokens": tokens},
            outputs=SCORER_OUTPUTS,
            dynamic={"tokens": {1: "tokens"}},
            golden_rows=GOLDEN_ROWS,
        ),
    ]


def _midway(
    network: Captioner, memory: Tensor, first: Sequence[Tensor], sentences: Sequence[Ids]
) -> tuple[Tensor, list[Tensor]]:
    """Of row k the token that is asked with after k of its sentence's (as far as it goes), and the states then."""
    asked: list[int] = []
    found: list[tuple[Tensor, ...]] = []
    for k, ids in enumerate(sentences):
        before = torch.tensor([[START, *ids.tolist()]])[:, : 1 + k % (len(ids) + 1)]
        own = memory[k : k + 1]
        state = (first[0][k : k + 1], first[1][k : k + 1], first[2][k : k + 1], first[3][k : k + 1])
        if before.shape[1] > 1:
            _, _, state = network.decoder(before[:, :-1], own, own, whole(own), state)
        asked.append(int(before[0, -1]))
        found.append(state)
    return torch.tensor(asked), [torch.cat([state[i] for state in found]) for i in range(len(STATES))]


def _said_by_the_blind(twin: Trained, corpus: Photos) -> str:
    """The one caption that the twin has for every picture."""
    model = Model.trained(twin.network, corpus)
    (one,) = model.captions(blank_pictures(BLANK["photos"], 1).numpy(), beam=BEAM["photos"])
    return model.text(one)


def _with_gain(found: Measured, data: Flickr8k, said: str) -> Measured:
    references = data.test.sentences
    texts = [said] * len(references)
    without = cider_d(texts, references)
    protocol = (
        f"CIDEr-D of this model less that of its blind twin ({without:.3f}; its BLEU-4 is "
        f"{bleu_4(texts, references):.1f}), trained alike by the same command with a blank picture in place of every "
        "photograph and measured in torch by the same search"
    )
    return replace(
        found,
        figures={**found.figures, GAIN: found.figures["cider"] - without},
        protocols={**found.protocols, GAIN: protocol},
    )


class PhotoCaptioners(Family[Flickr8k]):
    """Measured on the official test of Flickr8k."""

    def load_data(self, manifest: Manifest, data: str | None) -> Flickr8k:
        if data is not None:
            raise DataError(f"--data {data}: photo captions are measured on Flickr8k: leave it out")
        return flickr8k.load()

    def measure(
        self, folder: Path, manifest: Manifest, dataset: Flickr8k, *, data: str | None, rows: int | None
    ) -> Measured:
        done = metrics.captioned(Model.published(folder, manifest), dataset.test.first(rows))
        return Measured(
            rows=len(done.photos),
            of="test photographs",
            figures=metrics.photo_figures(done),
            protocols=metrics.PHOTO_PROTOCOLS,
            how="; this model's ONNX graphs in fp32, with the server's own search",
            rows_of={"recall_10": len(done.scores)},
            claimed=rows is None,
            details=done,
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: Flickr8k, measured: Measured | None = None
    ) -> None:
        model = Model.published(folder, manifest)
        pictures = page.shown_photos(page.PHOTOS_SHOWN)
        found = model.captions(pictures, beam=BEAM["photos"])
        done: CaptionedPhotos = measured.details if measured else metrics.captioned(model, dataset.test)
        report = page.PhotoReport(
            manifest=manifest,
            found=read_json(folder / FIGURES_FILE),
            done=done,
            people=dataset.test.sentences,
            train={text for own in dataset.train.sentences for text in own},
            model=model,
            pictures=pictures,
            shown=found,
            evidence=model.evidence(pictures, found, BLANK["photos"]),
            latency=kept_latency(folder, "encoder", threads=1),
            speed=measured_once(folder, "speed", lambda: metrics.speed(folder, manifest, pictures)),
        )
        write(report.page(), folder)


class SceneCaptioners(Family[DigitScenes]):
    """Measured on scenes of test digits that are the same each time, in the model's own language."""

    def load_data(self, manifest: Manifest, data: str | None) -> DigitScenes:
        if data is not None:
            raise DataError(
                f"--data {data}: scene captions are measured on scenes that are made for them: leave it out"
            )
        return scenes.of(mnist.load())

    def measure(
        self, folder: Path, manifest: Manifest, dataset: DigitScenes, *, data: str | None, rows: int | None
    ) -> Measured:
        model, language = Model.published(folder, manifest), language_of(manifest)
        test, unseen = (
            metrics.captioned_scenes(model, part.first(rows), language) for part in (dataset.test, dataset.unseen)
        )
        both = len(test.truth) + len(unseen.truth)
        return Measured(
            rows=len(test.truth),
            of="test scenes, and as many of unseen kinds",
            figures=metrics.scene_figures(test, unseen, model, language),
            protocols=metrics.SCENE_PROTOCOLS,
            how="; this model's ONNX graphs in fp32, with the server's own search",
            rows_of={"auc_probability": both, "error_confident": max(1, both // 3)},
            claimed=rows is None,
            details=(test, unseen),
        )

    def write_report(
        self, folder: Path, manifest: Manifest, dataset: DigitScenes, measured: Measured | None = None
    ) -> None:
        model, language = Model.published(folder, manifest), language_of(manifest)
        done: tuple[CaptionedScenes, CaptionedScenes]
        if measured is not None:
            done = measured.details
        else:
            test, unseen = (metrics.captioned_scenes(model, part, language) for part in (dataset.test, dataset.unseen))
            done = test, unseen
        pictures = dataset.test.pictures.numpy()
        report = page.SceneReport(
            manifest=manifest,
            found=read_json(folder / FIGURES_FILE),
            test=done[0],
            unseen=done[1],
            language=language,
            model=model,
            photos=page.shown_photos(2),
            latency=kept_latency(folder, "encoder", threads=1),
            speed=measured_once(folder, "speed", lambda: metrics.speed(folder, manifest, pictures)),
        )
        write(report.page(), folder)


def language_of(manifest: Manifest) -> str:
    """That it was published to write in."""
    return manifest.data.spec


PHOTOS: Final = PhotoCaptioners()
DIGITS: Final = SceneCaptioners()
