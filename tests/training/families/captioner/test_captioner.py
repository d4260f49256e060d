"""Captioners: pictures do not see their neighbours, steps give what all at once gives, toys are published."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from app.core.decoding.writing import Hypothesis
from tests.app.live import open_server
from tests.training.photographs import write_flickr8k
from tests.training.pictures import dataset_of
from training import __main__ as command
from training.data import flickr8k, mnist, scenes
from training.data.base import ImageDataset
from training.data.scenes import SIDE, DigitScenes, Scenes, Thing
from training.export import write_graph
from training.families.captioner import publish, recipe, report
from training.families.captioner.corpus import DigitCorpus, Held, Photos, ids_of, lot_of, shifted, telling
from training.families.captioner.metrics import CaptionedScenes, Model, pointed, ranks
from training.families.captioner.network import CELLS, Captioner, Saying, Scoring, Seeing
from training.families.captioner.trainer import SCENES, Hyperparameters, Trainer, blank_pictures, logits_of
from training.loop import Run, fit
from training.metrics import onnx_model
from training.networks.encoder_decoder import END, NEVER, PADDING, START, UNKNOWN
from training.networks.pictures import pixels
from training.recipe import Batch

TOKENS = 40
TINY: dict[str, Any] = {"widths": (6, 8, 10, 12), "blocks": (0, 0, 0, 1), "memory": 14, "width": 12, "hidden": 16}
FLAGS = ["--widths", "6,8,12,16", "--blocks", "0,0,0,1", "--memory", "16", "--width", "16", "--hidden", "24"]
GLYPHS = {  # a toy digit: which rows of 28 are light, and how far to the right
    digit: (slice(4 + 2 * digit, 8 + 2 * digit), slice(4, 24)) for digit in range(10)
}


def network(*, languages: int = 2) -> Captioner:
    torch.manual_seed(0)
    made = Captioner(TOKENS, words=5, languages=languages, dropout=0.2, **TINY)
    for parameter in made.parameters():  # larger than at first, so that a mistake shows
        parameter.data *= 1.5
    made.language.data.normal_()
    return made.eval()


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)


def sentences(*lengths: int, seed: int = 0) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(4, TOKENS, n) for n in lengths]


def digits(rows: int = 60) -> ImageDataset:
    """Ten glyphs with some noise."""

    def some(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.arange(count) % 10
        x = torch.randint(40, (count, 28, 28, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
        for row, digit in zip(x, y.tolist(), strict=True):
            row[GLYPHS[digit]] = 255
        return x, y

    labels = tuple("0123456789")
    return dataset_of("mnist", labels, train=some(rows, 0), held=some(20, 1), test=some(20, 2), box=20)


@pytest.fixture
def few_scenes(monkeypatch: pytest.MonkeyPatch) -> DigitScenes:
    monkeypatch.setattr(scenes, "HELD_SCENES", 12)
    monkeypatch.setattr(scenes, "TEST_SCENES", 16)
    return scenes.of(digits())


@torch.no_grad()
def test_pictures_and_sentences_together_give_what_each_gives_alone() -> None:
    net = network()
    x, language = pixels(pictures(3)), torch.tensor([0, 1])
    ids = sentences(5, 2, 7, 4, 1, 6)
    before, _ = shifted(ids)
    logits, weight, said = net(x, before, language.repeat(3))
    for i in range(3):
        for k in range(2):
            own, _ = shifted([ids[2 * i + k]])
            expected, looked, words = net(x[i : i + 1], own, language[k : k + 1])
            torch.testing.assert_close(logits[2 * i + k, : own.shape[1]], expected[0])
            torch.testing.assert_close(weight[2 * i + k, : own.shape[1]], looked[0])
            torch.testing.assert_close(said[i], words[0])
    assert weight.sum(2).flatten().tolist() == pytest.approx([1.0] * weight.shape[0] * weight.shape[1], abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("language", [0, 1])
def test_steps_give_what_all_at_once_gives_and_so_does_the_scorer(language: int) -> None:
    net, image = network(), pictures(2)
    ids = sentences(6, 3)
    before, after = shifted(ids)
    logits, weight, _ = net(pixels(image), before, torch.tensor([language] * 2))
    expected = (logits / 1.7).index_fill(2, torch.tensor(NEVER), -1e4).log_softmax(2)
    memory, *states = Seeing(net, language)(image)
    first, step = states, Saying(net, temperature=1.7)
    for t in range(before.shape[1]):
        best, logs, looked, *states = step(before[:, t], memory, *states)
        torch.testing.assert_close(logs, expected[:, t].gather(1, best))
        torch.testing.assert_close(looked, weight[:, t])
    tokens = torch.cat([before, torch.zeros(2, 3, dtype=torch.int64)], dim=1)
    for row, own in zip(tokens, ids, strict=True):
        row[len(own) + 1] = END
    scored = Scoring(net, temperature=1.7)(memory, *first, tokens)
    of_each = expected.gather(2, after[:, :, None])[:, :, 0] * (after != 0)
    torch.testing.assert_close(scored, of_each.sum(1))


@torch.no_grad()
def test_the_languages_differ_in_the_first_states_alone() -> None:
    net, image = network(), pictures(1)
    (one, *states), (other, *others) = Seeing(net, 0)(image), Seeing(net, 1)(image)
    assert torch.equal(one, other)
    assert not torch.allclose(states[0], others[0])


def test_a_step_of_training_has_all_that_its_sentences_have() -> None:
    lot = lot_of(torch.zeros(2, 3, 8, 8), [sentences(2, 3), sentences(1, 2, seed=5)], torch.tensor([0, 1]),
                 torch.tensor([4, int(sentences(2)[0][1])]))  # fmt: skip
    assert lot.language.tolist() == [0, 1, 0, 1]
    assert lot.before[:, 0].tolist() == [START] * 4
    assert (lot.after == END).sum(1).tolist() == [1] * 4
    assert lot.before[1, 1:4].tolist() == lot.after[1, :3].tolist()
    assert lot.said.shape == (2, 2)
    assert lot.said[0, 1] == 1


def test_cells_are_asked_for_words_that_are_neither_rare_nor_everywhere() -> None:
    rows = [[np.array([5, 6, *([7] if i % 4 == 0 else []), *([8] if i == 0 else [])])] for i in range(400)]
    assert telling(rows).tolist() == [7]


def test_sentences_come_back_from_their_ids(few_scenes: DigitScenes) -> None:
    corpus = DigitCorpus(few_scenes, vocabulary=400, rows=8, strength=0, unnamed=0)
    for language in scenes.LANGUAGES:
        said = few_scenes.unseen.sentences(language)
        ids = ids_of(corpus.tokenizer, [[text] for text in said])
        model = Model.trained(network_for(corpus), corpus)
        assert [model.writer.decode(own[0].tolist()) for own in ids] == said


def network_for(corpus: DigitCorpus | Photos) -> Captioner:
    torch.manual_seed(0)
    size = corpus.tokenizer.get_vocab_size()
    return Captioner(size, words=len(corpus.words), languages=corpus.languages, dropout=0.0, **TINY)


def batch(rows: int, *, seed: int = 0) -> Batch:
    index = torch.arange(rows)
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        x=index, y=index, index=index, share=slice(0, rows), generator=generator, epoch=0, position=0, progress=0.0
    )


def test_a_batch_is_the_same_again_and_photographs_are_shown_anew_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_scenes: DigitScenes
) -> None:
    monkeypatch.setenv("LECTERN_DATA", str(write_flickr8k(tmp_path)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos = Photos(flickr8k.load(), vocabulary=120, reframing=0.7, each=3)
    for corpus in (photos, DigitCorpus(few_scenes, vocabulary=400, rows=8, strength=0.5, unnamed=0.5)):
        one, again, other = (corpus.lot(batch(4, seed=seed)) for seed in (0, 0, 1))
        assert one.x.shape == (4, 3, SIDE, SIDE)
        assert float(one.x.min()) >= 0
        assert float(one.x.max()) <= 1
        assert torch.equal(one.x, again.x)
        assert torch.equal(one.after, again.after)
        assert not torch.equal(one.x, other.x)
        assert len(one.before) == 4 * (3 if corpus is photos else 2)


def test_the_place_of_the_right_picture_is_counted_from_one_and_ties_are_the_worse_one() -> None:
    scores = np.array([[-1.0, -5.0, -9.0], [-2.0, -2.0, -2.0], [-3.0, -2.0, -1.0]])
    assert ranks(scores, [0, 1, 0]).tolist() == [1, 3, 3]


def test_a_look_counts_where_the_digit_is_and_at_its_number(few_scenes: DigitScenes) -> None:
    corpus = DigitCorpus(few_scenes, vocabulary=400, rows=8, strength=0, unnamed=0)
    model = Model.trained(network_for(corpus), corpus)
    things = tuple(
        Thing(digit=digit, colour=4, place=(i, i), middle=(18 + 37 * i, 18 + 37 * i))
        for i, digit in enumerate((1, 3, 1))
    )
    some = Scenes(pictures=pictures(1), scenes=(things,))
    for language in scenes.LANGUAGES:
        (text,) = some.sentences(language)
        ids = tuple(corpus.tokenizer.encode(text).ids)
        names = {scenes.NUMBERS[language][one.digit] for one in things}
        pieces = [piece.strip().lower() for piece in model.writer.pieces(ids)]
        article = scenes.ARTICLES[language]
        attention, number = [], 0
        for i, piece in enumerate(pieces):
            row = np.zeros(CELLS)
            close = [k for k in (i - 1, i - 2) if k >= 0 and pieces[k] == article]
            if piece in names and close and number < 3 and (piece != article or pieces[i - 1] == article):
                row[{0: 8, 1: 24, 2: 0}[number]] = 1  # the third looks at the first
                number += 1
            attention.append(row)
        found = Hypothesis(tokens=ids, attention=tuple(attention), finished=True)
        done = CaptionedScenes(scenes=some, truth=[text], found=[found], texts=[text])
        assert pointed(done, model, language) == [True, True, False]
        wrong = replace(done, texts=["A blue one."])
        assert pointed(wrong, model, language) == []


def test_the_twin_sees_nothing_of_the_picture() -> None:
    net = network(languages=1)
    held = Held(pictures=pictures(3), sentences=[sentences(4)] * 3, language=torch.zeros(1, dtype=torch.int64))
    cpu = torch.device("cpu")
    seen, _ = logits_of(net, held, cpu)
    blind, _ = logits_of(net, held, cpu, blank=blank_pictures(128, 1))
    torch.testing.assert_close(blind[:5], blind[5:10])
    assert not torch.allclose(seen[:5], seen[5:10])


def test_pictures_that_are_shown_are_not_the_data_sets() -> None:
    shown = report.shown_photos(5)
    assert shown.shape == (5, SIDE, SIDE, 3)
    assert (shown == report.shown_photos(5)).all()
    assert len({row.tobytes() for row in shown}) == 5


@pytest.mark.slow
def test_a_resumed_run_takes_the_steps_of_one_that_was_not_stopped(few_scenes: DigitScenes, tmp_path: Path) -> None:
    corpus = DigitCorpus(few_scenes, vocabulary=400, rows=8, strength=0.5, unnamed=0.5)
    h = replace(SCENES, **TINY, batch_size=2, epochs=1)

    def trainer(seed: int) -> Trainer:
        return Trainer(corpus, h, seed=seed, accelerator=Accelerator(cpu=True))

    def trained(folder: str, one: Trainer) -> Trainer:
        run = Run(folder=tmp_path / folder, epochs=2, batch_size=2, seed=0, title="t", quiet=True)
        fit(one, torch.arange(8), torch.arange(8), run=run, accelerator=one.accelerator)
        return one

    whole, stopped = trained("a", trainer(0)), trainer(0)
    step = stopped.step

    def stop(some: Batch) -> dict[str, torch.Tensor]:
        if some.position == 5:
            raise KeyboardInterrupt
        return step(some)

    stopped.step = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trained("b", stopped)
    resumed = trained("b", trainer(7))
    for one, other in zip(whole.served().state_dict().values(), resumed.served().state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_scenes_are_learnt(few_scenes: DigitScenes, tmp_path: Path) -> None:
    corpus = DigitCorpus(few_scenes, vocabulary=400, rows=320, strength=0, unnamed=0)
    h = replace(SCENES, widths=(8, 16, 24, 32), blocks=(0, 0, 0, 0), memory=48, width=32, hidden=64, dropout=0.0)
    trainer = Trainer(corpus, replace(h, rise_steps=10, ema_steps=20), seed=0, accelerator=Accelerator(cpu=True))
    run = Run(folder=tmp_path, epochs=8, batch_size=16, seed=0, title="test", quiet=True)
    history = fit(trainer, torch.arange(320), torch.arange(320), run=run, accelerator=trainer.accelerator)
    assert history[-1]["held_nll"] < 0.8 * history[0]["held_nll"]
    assert history[-1]["words"] < history[0]["words"]


@pytest.mark.slow
def test_graphs_say_what_torch_says(tmp_path: Path) -> None:
    held = Held(
        pictures=pictures(6), sentences=[sentences(4, 6), sentences(2, 3, seed=3)] * 3, language=torch.arange(2)
    )
    for export in publish._exports(network(), held.pictures, held, 1.3, language=1):
        written = write_graph(tmp_path, export)
        assert written.parity_max_abs < 1e-4
        assert all(spec.shape[0] == "rows" for spec in (*written.graph.inputs, *written.graph.outputs))


def test_a_colour_that_is_left_open_is_written_before_what_follows_but_never_learnt(few_scenes: DigitScenes) -> None:
    corpus = DigitCorpus(few_scenes, vocabulary=400, rows=8, strength=0, unnamed=1)
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(8, 1)
    lot = corpus.lot(
        Batch(x=x, y=x, index=torch.arange(8), share=slice(0, 8), generator=generator, epoch=0, position=0, progress=0)
    )
    assert (lot.before == UNKNOWN).any(1).all()
    assert not (lot.after == UNKNOWN).any()
    open_ = lot.before[:, 1:] == UNKNOWN
    assert (lot.after[:, :-1][open_] == PADDING).all()
    lone = (lot.before[:, :-1] == corpus.space) & open_
    assert not lone.any()
    # Nor are cells asked for colours where these are open, or for numbers.
    colours, numbers = (~lot.told[:, which].any(1) for which in (corpus.colours, corpus.numbers))
    assert (colours ^ numbers).all()
    assert lot.told[:, ~(corpus.colours | corpus.numbers)].all()
    names = {corpus.tokenizer.id_to_token(int(i)).strip("\u2581") for i in corpus.words[corpus.colours]}
    assert names >= {"red", "azul"}
    named = DigitCorpus(few_scenes, vocabulary=400, rows=8, strength=0, unnamed=0)
    assert named.lot(batch(4)).told.all()


def test_options_of_the_commands_are_the_hyperparameters() -> None:
    for add in (recipe.add_photo_options, recipe.add_scene_options):
        parser = argparse.ArgumentParser()
        add(parser)
        assert parser.parse_args(["--memory", "64"]).memory == 64
    assert recipe.PHOTOS.rows == Hyperparameters().rows


def ask(models: Path, picture: np.ndarray[Any, np.dtype[np.uint8]], **options: Any) -> dict[str, Any]:
    """What the app answers to one picture."""
    body = json.dumps({"image": picture.tolist(), **options}).encode()
    with open_server(models, max_body_bytes=1 << 22, grace_s=2) as server:
        reply = server.ask("POST", "/v1/caption", body, {"Content-Type": "application/json"})
        assert reply.status == 200, reply.body
        answer: dict[str, Any] = reply.json()
    return answer


@pytest.mark.slow
def test_scenes_are_trained_published_measured_shown_and_served_in_both_languages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scenes, "HELD_SCENES", 12)
    monkeypatch.setattr(scenes, "TEST_SCENES", 16)
    monkeypatch.setattr(mnist, "load", digits)
    monkeypatch.chdir(tmp_path)
    flags = ["--rows", "64", "--epochs", "1", "--batch-size", "16", "--lr", "0.01", "--precision", "fp32", *FLAGS]
    assert command.main(["scene-captions", *flags]) == 0
    assert command.main(["scene-captions", "--language", "pt", *flags]) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 1  # trained once
    for name, language in (("scene-captions", "en"), ("scene-captions-pt", "pt")):
        folder = tmp_path / "models" / name / "1"
        manifest = onnx_model.load_manifest(folder)
        assert (manifest.task, manifest.modality, manifest.data.spec) == ("caption", "image", language)
        assert set(manifest.graphs) == {"encoder", "step", "scorer"}
        assert {"accuracy_exact", "accuracy_unseen", "error_confident"} <= {q.name for q in manifest.quality}
        text = (folder / "report/index.html").read_text(encoding="utf-8")
        assert "Where it looks" in text
        capsys.readouterr()
        assert command.main(["evaluate", name]) == 0
        assert "says the same" in capsys.readouterr().out
    picture = scenes.of(digits()).test.pictures[0].numpy()
    model = Model.published(folder, manifest)
    (expected,) = model.captions(picture[None])
    answer = ask(tmp_path / "models", picture, model="scene-captions-pt")
    (found,) = answer["results"]
    assert found["text"] == model.text(expected)
    assert found["log_probability"] == pytest.approx(expected.log_probability, abs=1e-3)
    assert np.array(found["words"][0]["attention"]).shape == (7, 7)
    assert np.sum(found["words"][0]["attention"]) == pytest.approx(1, abs=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("twin", [True, False])
def test_photographs_are_trained_published_measured_shown_and_served(
    twin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LECTERN_DATA", str(write_flickr8k(tmp_path / "data")))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    flags = ["--epochs", "2", "--batch-size", "12", "--vocabulary", "120", "--lr", "0.01", "--precision", "fp32"]
    assert command.main(["captions", *flags, *FLAGS, "--twin" if twin else "--no-twin"]) == 0
    folder = tmp_path / "models" / "captions" / "1"
    manifest = onnx_model.load_manifest(folder)
    assert "non-commercial" in manifest.data.licence
    names = {q.name for q in manifest.quality}
    assert {"cider", "bleu_4", "cider_greedy", "bleu_4_greedy", "recall_10"} <= names
    assert (publish.GAIN in names) == twin
    text = (folder / "report/index.html").read_text(encoding="utf-8")
    assert ("the blind twin" in text) == twin
    shown = report.shown_photos(2)
    golden = np.load(folder / "golden.npz")["image"]
    assert (golden == shown).all()  # none of the data set's
    capsys.readouterr()
    assert command.main(["evaluate", "captions"]) == 0
    assert "says the same" in capsys.readouterr().out
    model = Model.published(folder, manifest)
    (expected,) = model.captions(shown[:1])
    (found,) = ask(tmp_path / "models", shown[0], beam=1)["results"]
    assert found["text"] == model.text(expected)
    (evidence,) = model.evidence(shown[:1], [expected], 128)
    assert found["evidence"] >= 0 or found["evidence"] == pytest.approx(evidence, abs=1e-2)
