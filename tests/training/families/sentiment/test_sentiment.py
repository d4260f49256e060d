"""Sentiment: one label from a text of any length, the same beside longer ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tests.training.reviews import reviews
from training import __main__ as command
from training.data.base import DataError
from training.families.sentiment import publish, recipe
from training.families.sentiment.network import Classifier, SentimentNet
from training.families.sentiment.trainer import Hyperparameters, Trainer, passes, tensors
from training.loop import Run, fit
from training.metrics import onnx_model


@torch.no_grad()
def test_rows_of_mixed_lengths_give_what_each_gives_alone() -> None:
    torch.manual_seed(0)
    net = Classifier(SentimentNet(30, 2, width=8, hidden=6, dropout=0.1), 1.3).eval()
    rows = [np.random.default_rng(n).integers(4, 30, n) for n in (3, 17, 1, 8)]
    p = net(*tensors(rows))
    for i, row in enumerate(rows):
        torch.testing.assert_close(p[i : i + 1], net(*tensors([row])))
    assert len({round(float(row[0]), 5) for row in p}) == 4


def test_a_word_that_turns_the_next_one_round_is_learnt(tmp_path: Path) -> None:
    h = Hyperparameters(
        vocabulary=80, width=16, hidden=16, dropout=0.0, unknown=0.0, phrases=False, epochs=20, batch_size=20, lr=0.02,
        rise_steps=5, ema_steps=5,
    )  # fmt: skip
    data = recipe.prepared(reviews(), h)
    held = data.held, data.reviews.held.y
    trainer = Trainer(data.train, data.reviews.train.y, held, 80, h, seed=0, accelerator=Accelerator(cpu=True))
    rows = torch.arange(100)
    run = Run(folder=tmp_path, epochs=20, batch_size=20, seed=0, title="test", quiet=True)
    history = fit(trainer, rows, rows, run=run, accelerator=trainer.accelerator)
    assert history[-1]["held_accuracy"] >= 0.95


def test_a_pass_has_texts_of_similar_length_and_a_bounded_size() -> None:
    ids = [np.zeros(n, np.int64) for n in (6000, 10, 9000, 20_000, 11)]
    assert passes(ids) == [[1, 4], [0], [2], [3]]


def test_a_model_is_not_measured_on_sentences_that_it_learnt_from() -> None:
    class Fake:
        class data:  # noqa: N801
            spec = "sst2"

    with pytest.raises(DataError, match="those that the model of sst2 learnt from"):
        publish.FAMILY.load_data(Fake, "rt-polarity")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(("data", "first"), [("sst2", "0"), ("sst2", "1"), ("rt-polarity", "1"), ("imdb", "1")])
def test_a_classifier_is_trained_published_measured_and_shown(
    data: str, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(publish.DATA, data, lambda: reviews(data))
    monkeypatch.setitem(publish.DATA, "imdb", lambda: reviews("imdb"))
    monkeypatch.setattr(recipe, "rt_polarity", lambda fold: reviews(data))
    monkeypatch.setattr(recipe, "FOLDS", 2)
    flags = ["--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs"), "--precision", "fp32"]
    small = [
        "--epochs",
        "3",
        "--first-epochs",
        first,
        "--width",
        "8",
        "--hidden",
        "8",
        "--batch-size",
        "20",
        "--vocabulary",
        "80",
    ]
    folds = ["--folds"] if data == "rt-polarity" else []
    assert command.main(["sentiment", "--data", data, *flags, *small, *folds, "--seeds", "0,1"]) == 0
    folder = tmp_path / "models" / f"sentiment-{data}" / "1"
    manifest = onnx_model.load_manifest(folder)
    (mean,) = (q for q in manifest.quality if q.name == "accuracy_mean")
    assert mean.goal == publish.GOALS[data]
    assert mean.spread is not None
    assert ("2 folds" in mean.protocol) == bool(folds)
    assert ("imdb in small" in manifest.data.name) == (data == "imdb" or first == "1")
    assert "Which words decide" in (folder / "report/index.html").read_text()
    capsys.readouterr()
    assert command.main(["evaluate", f"sentiment-{data}", "--models", str(tmp_path / "models")]) == 0
    assert "says the same" in capsys.readouterr().out
