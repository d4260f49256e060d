"""Spoken words: one label from a recording of any length, the same beside longer ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.sounds import corpora
from training import __main__ as command
from training.data import sound
from training.families.spoken import publish, recipe
from training.families.spoken.network import Classifier, SpokenNet
from training.metrics import onnx_model


@torch.no_grad()
def test_rows_of_mixed_lengths_give_what_each_gives_alone() -> None:
    torch.manual_seed(0)
    net = Classifier(SpokenNet(5, width=16, hidden=8, dropout=0.1), 1.3).eval()
    lengths = [700, 16000, 5000]
    rows = [torch.randn(1, n, generator=torch.Generator().manual_seed(n)) * 0.1 for n in lengths]
    together = torch.zeros(3, 16000)
    for row, wave in zip(together, rows, strict=True):
        row[: wave.shape[1]] = wave
    p = net(together, torch.tensor(lengths))
    for i, wave in enumerate(rows):
        assert torch.allclose(p[i], net(wave, torch.tensor([lengths[i]]))[0], atol=1e-6)
    assert torch.allclose(p.sum(1), torch.ones(3))


@pytest.mark.slow
@pytest.mark.parametrize("data", ["fsdd", "speech-commands"])
def test_a_classifier_is_trained_published_measured_and_shown(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {corpus.name: corpus for corpus in corpora()}
    monkeypatch.setattr(publish, "CORPORA", {name: (lambda corpus=corpus: corpus) for name, corpus in made.items()})
    monkeypatch.setattr(recipe, "fsdd", lambda: made["fsdd"])
    monkeypatch.setattr(recipe, "speech_commands", lambda: made["speech-commands"])
    flags = ["--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs"), "--precision", "fp32"]
    leave_out = ["--leave-out"] if data == "fsdd" else []
    small = ["--epochs", "3", "--width", "16", "--hidden", "12", "--batch-size", "8"]
    assert command.main(["spoken", "--data", data, *flags, *small, *leave_out]) == 0
    name = "spoken-digits" if data == "fsdd" else "spoken-commands"
    folder = tmp_path / "models" / name / "1"
    manifest = onnx_model.load_manifest(folder)
    figures = {q.name: q.value for q in manifest.quality}
    assert ("accuracy_unseen_speakers" in figures) == bool(leave_out)
    assert "From sound to one label" in (folder / "report/index.html").read_text()
    capsys.readouterr()
    assert command.main(["evaluate", name, "--models", str(tmp_path / "models")]) == 0
    assert "says the same" in capsys.readouterr().out


def test_digits_of_other_people_are_labelled_as_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    made = corpora()[2]
    one, two, *_ = (clip for clip in made.of("train") if clip.words)
    seven = replace(one, label="unknown", words=(("seven", *one.words[0][1:]),))
    clips = (seven, replace(seven, part="test"), replace(two, words=(("tree", 0.0, 0.1),)), replace(two, words=()))
    monkeypatch.setattr(recipe, "speech_commands", lambda: replace(made, clips=clips))
    (found,) = recipe.foreign_digits()
    assert (found.label, found.samples is one.samples) == ("seven", True)


def test_labels_of_commands_are_the_twelve_of_the_benchmark() -> None:
    assert len(publish.LABELS["speech-commands"]) == 12
    assert publish.LABELS["fsdd"] == sound.DIGITS
