"""The translator: rows do not see their neighbours, steps give what all at once gives, a grammar is learnt."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tests.training.sentences import collections, pairs
from training import __main__ as command
from training.data.parallel import Pairs
from training.export import write_graph
from training.families.translator import metrics, publish, recipe, report
from training.families.translator.corpus import Rows, learn, rows_of, train_pairs
from training.families.translator.metrics import Model
from training.families.translator.network import Reading, Translator
from training.families.translator.trainer import Hyperparameters, Trainer, padded, tensors
from training.loop import Run, fit
from training.metrics import onnx_model
from training.networks.encoder_decoder import END, NEVER, START, Step

TOKENS = 60
SMALL = ["--vocabulary", "90", "--width", "24", "--reading", "24", "--writing", "32"]


def network(*, attention: bool = True, layers: int = 1) -> Translator:
    torch.manual_seed(0)
    made = Translator(TOKENS, TOKENS, width=12, reading=10, writing=14, layers=layers, dropout=0.2, attention=attention)
    for parameter in made.parameters():  # larger than at first, so that a mistake shows
        parameter.data *= 2
    return made.eval()


def rows(*lengths: int, seed: int = 0) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(4, TOKENS, n) for n in lengths]


@torch.no_grad()
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_rows_of_mixed_lengths_give_what_each_gives_alone(attention: bool, layers: int) -> None:
    net = network(attention=attention, layers=layers)
    sentences = tensors(Rows(read=rows(3, 9, 1, 6), written=rows(5, 2, 7, 4, seed=1)), range(4))
    logits, weight = net(sentences.read, sentences.length, sentences.before)
    for i, (read, written) in enumerate(zip(rows(3, 9, 1, 6), rows(5, 2, 7, 4, seed=1), strict=True)):
        alone = tensors(Rows(read=[read], written=[written]), [0])
        expected, looked = net(alone.read, alone.length, alone.before)
        torch.testing.assert_close(logits[i : i + 1, : len(written) + 1], expected)
        torch.testing.assert_close(weight[i : i + 1, : len(written) + 1, : len(read)], looked)


@torch.no_grad()
@pytest.mark.parametrize("attention", [True, False])
def test_steps_with_their_states_give_what_all_at_once_gives(attention: bool) -> None:
    net = network(attention=attention)
    one = tensors(Rows(read=rows(5, 3), written=rows(6, 6, seed=1)), range(2))
    logits, weight = net(one.read, one.length, one.before)
    step = Step(net.decoder, temperature=1.7)
    memory, *states = Reading(net)(one.read, one.length)
    for t in range(7):
        best, logs, looked, *states = step(one.before[:, t], memory, one.length, *states)
        expected = (logits[:, t] / 1.7).index_fill(1, torch.tensor(NEVER), -1e4).log_softmax(1)
        torch.testing.assert_close(logs, expected.gather(1, best))
        assert best[:, 0].tolist() == expected.argmax(1).tolist()
        torch.testing.assert_close(looked, weight[:, t])
    assert looked[1, 3:].tolist() == [0, 0]
    assert looked.sum(1).tolist() == pytest.approx([1, 1] if attention else [0, 0], abs=1e-5)


@torch.no_grad()
def test_a_step_never_writes_padding_start_or_unknown() -> None:
    net = network()
    net.decoder.bias[list(NEVER)] = 50
    memory, *states = Reading(net)(torch.tensor([[5, 6]]), torch.tensor([2]))
    best, logs, *_ = Step(net.decoder)(torch.tensor([START]), memory, torch.tensor([2]), *states)
    assert not set(best[0].tolist()) & set(NEVER)
    assert float(logs.max()) > -10


def test_targets_are_what_comes_after_and_the_end() -> None:
    one = tensors(Rows(read=rows(2, 3), written=[np.array([7, 8]), np.array([9])]), range(2))
    assert one.before.tolist() == [[START, 7, 8], [START, 9, 0]]
    assert one.after.tolist() == [[7, 8, END], [9, END, 0]]


def prepared() -> tuple[Trainer, Any, Any]:
    made = collections()
    tokenizers = learn(made, 90)
    data = rows_of(train_pairs(made, 1), tokenizers)
    held = {one.name: rows_of(one.held, tokenizers) for one in made}
    sizes = tokenizers.read.get_vocab_size(), tokenizers.written.get_vocab_size()
    h = Hyperparameters(
        vocabulary=90, width=32, reading=32, writing=64, epochs=5, batch_size=32, rise_steps=10, ema_steps=10, lr=1e-2,
        dropout=0.0,
    )  # fmt: skip
    trainer = Trainer(data, held, *sizes, h, attention=True, seed=0, accelerator=Accelerator(cpu=True))
    return trainer, tokenizers, made


def test_a_grammar_is_learnt_and_sentences_that_were_never_seen_are_translated(tmp_path: Path) -> None:
    trainer, tokenizers, made = prepared()
    numbers = torch.arange(len(trainer.rows))
    run = Run(folder=tmp_path, epochs=5, batch_size=32, seed=0, title="test", quiet=True)
    history = fit(trainer, numbers, numbers, run=run, accelerator=trainer.accelerator)
    assert history[-1]["held_nll_multi30k"] < 0.4 < 1 < history[0]["held_nll_multi30k"]
    model = Model.trained(trainer.served(), tokenizers)
    test = made[0].tests["test_2016_flickr"]
    for beam in (1, 4):
        written = [model.text(one) for one in model.translate(test.source, beam=beam)]
        assert np.mean([a == b for a, b in zip(written, test.target, strict=True)]) > 0.8
    done = metrics.translated(model, {"test_2016_flickr": test}, rows=20)
    figures = metrics.figures(done, model.forced)
    assert figures["bleu"] > 85
    assert set(figures) <= set(metrics.protocols())


def test_a_resumed_run_takes_the_steps_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    def weights(*epochs: int, folder: str) -> dict[str, torch.Tensor]:
        for count in epochs:
            trainer, _, _ = prepared()
            few = torch.arange(64)
            run = Run(folder=tmp_path / folder, epochs=count, batch_size=16, seed=0, title="t", quiet=True)
            fit(trainer, few, few, run=run, accelerator=trainer.accelerator)
        return trainer.served().state_dict()

    # Progress, and so the learning rate, depends on the number of epochs: the same run twice, the second from the end.
    once, again = weights(1, folder="a"), weights(1, 1, folder="b")
    assert all(torch.equal(once[name], again[name]) for name in once)


@torch.no_grad()
def test_probabilities_of_forced_tokens_are_those_of_the_network() -> None:
    trainer, tokenizers, made = prepared()
    test = made[0].tests["test_2016_flickr"].first(5)
    model, net, data = Model.trained(trainer.served(), tokenizers), trainer.served(), rows_of(test, tokenizers)
    alone = []
    for i in range(5):
        p, y = model.forced(Pairs(source=test.source[i : i + 1], target=test.target[i : i + 1]))
        one = tensors(data, [i])
        logits, _ = net(one.read, one.length, one.before)
        expected = logits[0].index_fill(1, torch.tensor(NEVER), -1e4).softmax(1)
        likely = expected.sort(1, descending=True).values[:, :16].numpy()
        np.testing.assert_allclose(p, np.column_stack([likely, 1 - likely.sum(1)]), atol=1e-5)
        own = expected.gather(1, one.after.T)[:, 0].numpy()
        assert (y == (likely > own[:, None] + 1e-7).sum(1)).all()
        alone.append(p)
    together, _ = model.forced(test)
    np.testing.assert_allclose(np.sort(together, axis=0), np.sort(np.concatenate(alone), axis=0), atol=1e-5)


@pytest.mark.slow
def test_graphs_say_what_torch_says_on_mixed_lengths(tmp_path: Path) -> None:
    net = network()
    held = Rows(read=rows(4, 9, 2, 7, 3), written=rows(3, 8, 5, 1, 6, seed=1))
    for export in publish._exports(net, held, 1.3):
        written = write_graph(tmp_path, export)
        assert written.parity_max_abs < 1e-4
        assert all(spec.shape[0] == "rows" for spec in (*written.graph.inputs, *written.graph.outputs))


def test_the_map_of_attention_has_a_cell_for_each_token_read_and_written() -> None:
    hypothesis = metrics.Hypothesis(tokens=(5, 6), attention=(np.array([0.9, 0.1, 0]), np.array([0, 0.5, 0.5])))
    drawn = report.attention_map(["▁a", "<b", "</s>"], ["um", " cão"], hypothesis)
    assert drawn.count("<rect") == 6
    assert "&lt;b" in drawn
    assert 'opacity="0.90"' in drawn


def test_padding_is_behind_each_row() -> None:
    assert padded([np.array([3, 4]), np.array([5])]).tolist() == [[3, 4], [5, 0]]


def test_options_of_the_command_are_the_hyperparameters() -> None:
    parser = argparse.ArgumentParser()
    recipe.add_options(parser)
    assert parser.parse_args(["--pair", "de-en", "--reading", "64"]).reading == 64


@pytest.mark.slow
@pytest.mark.parametrize("twin", [True, False])
def test_a_translator_is_trained_published_measured_and_shown(
    twin: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (recipe, publish):
        monkeypatch.setitem(module.PAIRS, "en-pt", collections)
    flags = ["--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs"), "--precision", "fp32"]
    small = [*SMALL, "--epochs", "2", "--batch-size", "16", "--lr", "0.01", "--twin" if twin else "--no-twin"]
    assert command.main(["translator", "--pair", "en-pt", *flags, *small]) == 0
    folder = tmp_path / "models" / "translator-en-pt" / "1"
    manifest = onnx_model.load_manifest(folder)
    assert set(manifest.graphs) == {"encoder", "step"}
    names = {q.name for q in manifest.quality}
    assert {"bleu", "chrf", "bleu_greedy", "bleu_tatoeba", "ece_tokens", "error_confident"} <= names
    assert (publish.GAIN in names) == twin
    text = (folder / "report/index.html").read_text()
    assert "Twenty sentences, unedited" in text
    assert ("With attention and without" in text) == twin
    assert manifest.text is not None
    assert "man\n" in (folder / manifest.text.words.file).read_text()  # type: ignore[union-attr]
    capsys.readouterr()
    assert command.main(["evaluate", "translator-en-pt", "--models", str(tmp_path / "models")]) == 0
    assert "says the same" in capsys.readouterr().out


def test_the_toy_sentences_are_what_they_say() -> None:
    assert ("The red man sees the dog.", "O homem vermelho vê o cão.") in zip(
        pairs(0, 1200).source, pairs(0, 1200).target, strict=True
    )
