"""The speech recogniser: pieces hear what the whole hears, rows do not hear their neighbours, targets are in place."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from accelerate import Accelerator

from app.core.manifest import Manifest
from tests.training.sounds import corpora
from training import __main__ as command
from training.data.base import DataError
from training.data.sound import RATE, words_of
from training.data.sound_mixing import Mixer, Row
from training.families.speech import publish, recipe
from training.families.speech.network import PIECE, Recognizer, SpeechNet, Streamer
from training.families.speech.teacher import load_teacher
from training.families.speech.trainer import IGNORED, Hyperparameters, Trainer
from training.metrics import onnx_model
from training.networks.sound import BEFORE, STEP, LogMel, mel_bands, padded, steps

WORDS = 7
SPEECH = Path(__file__).parents[4] / "models/speech/1"


def network(*, bidirectional: bool) -> SpeechNet:
    torch.manual_seed(0)
    made = SpeechNet(WORDS, width=16, hidden=12, layers=2, bidirectional=bidirectional, dropout=0.1)
    return made.eval()


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, samples, generator=torch.Generator().manual_seed(seed)) * 0.1


@torch.no_grad()
def test_pieces_with_their_states_give_what_the_whole_recording_gives() -> None:
    net = network(bidirectional=False)
    sound = noise(4 * PIECE)
    whole, _ = Recognizer(net)(sound, torch.tensor([sound.shape[1]]))
    past, hidden, parts = torch.zeros(1, BEFORE), torch.zeros(1, 24), []
    for piece in sound.split(PIECE, dim=1):
        logs, past, hidden = Streamer(net)(piece, past, hidden)
        parts.append(logs)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("bidirectional", [True, False])
def test_rows_of_mixed_lengths_give_what_each_gives_alone(bidirectional: bool) -> None:
    net = Recognizer(network(bidirectional=bidirectional))
    lengths = [5000, 16000, 300, 9600]
    together = torch.zeros(4, 16000)
    rows = [noise(n, seed=n) for n in lengths]
    for row, wave in zip(together, rows, strict=True):
        row[: wave.shape[1]] = wave
    logs, own = net(together, torch.tensor(lengths))
    for i, wave in enumerate(rows):
        alone, count = net(wave, torch.tensor([lengths[i]]))
        assert int(own[i]) == int(count[0]) == -(-lengths[i] // STEP)
        assert torch.allclose(logs[i, : own[i]], alone[0, : own[i]], atol=1e-5)


@torch.no_grad()
def test_a_streaming_net_does_not_hear_what_comes_after_a_step() -> None:
    net = Recognizer(network(bidirectional=False))
    sound = noise(10 * STEP)
    changed = sound.clone()
    changed[:, 6 * STEP :] = 0
    length = torch.tensor([10 * STEP])
    same = torch.isclose(net(sound, length)[0], net(changed, length)[0], atol=1e-6).all(dim=2)[0]
    assert same.tolist() == [True] * 6 + [False] * 4


def test_a_tone_is_loudest_in_the_mel_band_around_its_frequency() -> None:
    centres = mel_bands().argmax(axis=1) * RATE / 512
    t = torch.arange(RATE) / RATE
    for hertz in (300.0, 1000.0, 4000.0):
        mel = LogMel()(0.3 * torch.sin(2 * torch.pi * hertz * t)[None])
        band = int(mel[0].mean(dim=0).argmax())
        assert abs(centres[band] - hertz) < 0.06 * hertz + 32


def test_padding_makes_one_output_for_each_step_begun() -> None:
    net = network(bidirectional=True)
    for samples in (1, STEP - 1, STEP, STEP + 1, 3 * STEP):
        mel = net.mel(padded(torch.zeros(1, samples), BEFORE // 2))
        assert net.subsampling(mel).shape[1] == int(steps(torch.tensor([samples]))[0]) == -(-samples // STEP)


def trainer(*, streaming: bool) -> Trainer:
    sentences, *single = corpora()
    mixer = Mixer(sentences.of("train"), [clip for corpus in single for clip in corpus.of("train")])
    h = Hyperparameters(streaming=streaming, width=16, hidden=12, delay=3)
    words = words_of(corpora())
    return Trainer(mixer, words, {"grid": sentences.of("held")}, h, seed=0, accelerator=Accelerator(cpu=True))


@pytest.mark.parametrize(("streaming", "late"), [(False, 0), (True, 3)])
def test_the_label_of_a_step_is_the_word_that_is_spoken_there(streaming: bool, late: int) -> None:
    one = trainer(streaming=streaming)
    blank, go = len(one.words), one.index["go"]
    row = Row(np.zeros(20 * STEP, np.float32), (("go", 4 * 0.04, 8 * 0.04),))
    _, own, target, texts = one.tensors([row], torch.tensor([1.0]))
    assert own.tolist() == [20 + late]
    assert target[0].tolist() == [blank] * (4 + late) + [go] * 4 + [blank] * 12
    assert texts[0].tolist() == [go]
    _, own, target, _ = one.tensors([row, Row(np.zeros(STEP, np.float32), ())], torch.tensor([1.5, 1.0]))
    assert target[0].tolist()[6 + late : 12 + late] == [go] * 6  # half as slow again
    assert target[1, int(own[1]) :].unique().tolist() == [IGNORED]


def test_a_streaming_net_begins_with_its_teachers_convolutions_and_learns_its_words_later() -> None:
    sentences = corpora()[0]
    h = Hyperparameters(streaming=True, width=16, hidden=12, delay=3)
    words = words_of(corpora())
    torch.manual_seed(1)
    teacher = SpeechNet(len(words), width=16, hidden=12, layers=2, bidirectional=True, dropout=0.0).eval()
    mixer = Mixer(sentences.of("train"), [])
    one = Trainer(mixer, words, {}, h, seed=0, accelerator=Accelerator(cpu=True), teacher=teacher)
    for name, value in teacher.subsampling.state_dict().items():
        assert torch.equal(one.bare.subsampling.state_dict()[name], value)
    mel = teacher.mel(noise(20 * STEP))
    told = teacher.of_mel(mel, torch.tensor([10]))[0, :10].detach()
    # What the teacher says of step i is compared with step i + 3, of the row's 13 steps.
    later = torch.full((1, mel.shape[1] // 4, len(words) + 1), -50.0)
    later[0, 3:13] = told
    entropy = -(told.exp() * told).sum()
    assert one.unlike(teacher, mel, later, torch.tensor([13])).item() == pytest.approx(entropy.item(), rel=1e-4)
    at_once = torch.full_like(later, -50.0)
    at_once[0, :10] = told
    assert one.unlike(teacher, mel, at_once, torch.tensor([13])).item() > entropy.item() + 1


@torch.no_grad()
def test_a_published_model_is_a_net_of_torch_again() -> None:
    words = list(onnx_model.load_manifest(SPEECH).labels)
    teacher, digest = load_teacher(SPEECH, words, 256)
    assert len(digest) == 12
    sound, length = torch.cat([noise(16000), noise(16000, seed=1)]), torch.tensor([16000, 9000])
    logs, own = Recognizer(teacher)(sound, length)
    session = onnxruntime.InferenceSession(SPEECH / "recognizer.onnx", providers=["CPUExecutionProvider"])
    told, _ = session.run(None, {"sound": sound.numpy(), "length": length.numpy()})
    for row, other, count in zip(logs, torch.from_numpy(told), own.tolist(), strict=True):
        torch.testing.assert_close(row[:count], other[:count], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["speech-streaming/1", "motion/1", "vae-2d/1"])
def test_what_is_no_teacher_is_refused_by_name(name: str) -> None:
    words = list(onnx_model.load_manifest(SPEECH).labels)
    with pytest.raises(DataError, match=rf"{name}: is no net of the 76 words and --width 256 that hears whole rec"):
        load_teacher(SPEECH.parents[1] / name, words, 256)


def test_a_teacher_of_other_words_or_another_width_or_none_is_refused(tmp_path: Path) -> None:
    words = list(onnx_model.load_manifest(SPEECH).labels)
    with pytest.raises(DataError, match=r"is no net of the 75 words and --width 256"):
        load_teacher(SPEECH, words[1:], 256)
    with pytest.raises(DataError, match=r"is no net of the 76 words"):
        load_teacher(SPEECH, [*words[1:], "hello"], 256)
    with pytest.raises(DataError, match=r"is no net of the 76 words and --width 128"):
        load_teacher(SPEECH, words, 128)
    with pytest.raises(DataError, match=r"none: no such model; expected the folder of a version that"):
        load_teacher(tmp_path / "none", words, 256)


def test_the_blank_is_made_as_likely_as_gives_the_fewest_errors_on_held_out_clips() -> None:
    said = replace(corpora()[1].of("held")[0], words=(("go", 0.0, 0.2),))
    # "no" was not said, and is as likely as exp(0.4) blanks; "go" was, and is as likely as exp(2.2) of them.
    odds = np.array([[2.2, -9, 0], [-9, -9, 0], [-9, 0.4, 0]], np.float32)
    logs = odds - np.logaddexp.reduce(odds, axis=1, keepdims=True)
    bias, tried = publish.best_bias(["go", "no"], {"fsdd": [(said, logs)]})
    assert bias == 0.5
    assert [row["fsdd"] for row in tried] == [1.0] * 5 + [0.0] * 4 + [1.0] * 2


def test_of_biases_with_equal_errors_the_least_is_taken() -> None:
    said = replace(corpora()[1].of("held")[0], words=(("go", 0.0, 0.2),))
    logs = np.log(np.array([[0.98, 0.01, 0.01]], np.float32))
    bias, tried = publish.best_bias(["go", "no"], {"fsdd": [(said, logs)]})
    assert bias == 0.0
    assert len({row["fsdd"] for row in tried}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_recogniser_is_trained_published_measured_and_shown(
    streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = corpora()
    loads = {corpus.name: (lambda corpus=corpus: corpus) for corpus in made}
    for module in (recipe, publish):
        monkeypatch.setattr(module, "CORPORA", loads)
    monkeypatch.setattr(recipe, "ROWS_PER_EPOCH", 64)
    flags = ["--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs"), "--precision", "fp32"]
    small = ["--heavy-epochs", "1", "--light-epochs", "1", "--width", "16", "--hidden", "12"]
    kind = ["--streaming"] if streaming else []
    assert command.main(["speech", *flags, *small, *kind]) == 0
    name = "speech-streaming" if streaming else "speech"
    folder = tmp_path / "models" / name / "1"
    manifest = onnx_model.load_manifest(folder)
    assert isinstance(manifest, Manifest)
    assert set(manifest.graphs) == {"streamer" if streaming else "recognizer"}
    # So short a training may leave no word whose start could be compared.
    assert {q.name for q in manifest.quality} | {"start_error_ms"} == set(publish.PROTOCOLS)
    text = (folder / "report/index.html").read_text()
    assert "The hidden state over time" in text
    if not streaming:
        teacher = ["--teacher", str(folder)]
        assert command.main(["speech", *flags, *small, "--streaming", *teacher]) == 0
        assert (tmp_path / "models/speech-streaming/1").is_dir()
    capsys.readouterr()
    assert command.main(["evaluate", name, "--models", str(tmp_path / "models")]) == 0
    assert "says the same" in capsys.readouterr().out


def test_options_of_the_command_are_the_hyperparameters() -> None:
    parser = argparse.ArgumentParser()
    recipe.add_options(parser)
    assert parser.parse_args(["--streaming", "--delay", "4"]).delay == 4
