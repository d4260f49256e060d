"""The command line as a user runs it: train, kill, resume, publish, evaluate, serve what came out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from app.core.manifest import Manifest
from tests.training.pictures import write_pictures
from training.__main__ import _anywhere, main
from training.families.image_classifier.trainer import Classifier

SMALL = ["--size", "16", "--widths", "8,16,16", "--threads", "1", "--precision", "fp32"]
# Norm statistics are over one forward pass: 8 rows, whether one process makes two passes or two make one each.
SMALL += ["--batch-size", "16", "--forward-rows", "8"]


def command(folder: Path, *more: str) -> list[str]:
    where = ["--models", str(folder / "models"), "--runs", str(folder / "runs"), "--name", "colours"]
    return [sys.executable, "-m", "training", "cnn", "--data", str(folder / "pictures"), *SMALL, *where, *more]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=120, check=False)


def start_and_kill(arguments: list[str], *, after: str) -> None:
    """Start, kill once `after` has been printed: nothing can be put in order."""
    with subprocess.Popen(
        arguments,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stderr is not None
        seen = ""
        while not re.search(after, seen):
            piece = process.stderr.read(1)
            assert piece, f"ended before {after!r} was printed: {seen}"
            seen += piece
        process.kill()
        process.stderr.read()
    assert process.returncode == -signal.SIGKILL


def weights(folder: Path) -> bytes:
    return (folder / "classifier.onnx").read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    write_pictures(folder / "pictures")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(command(folder, "--epochs", "12")[3:]) == 0
    assert "curl -F image=@" in printed.getvalue()
    return folder


def test_a_folder_of_pictures_becomes_a_published_model_that_has_learnt(trained: Path) -> None:
    published = trained / "models" / "colours" / "1"
    manifest = Manifest.model_validate_json((published / "manifest.json").read_bytes())
    assert manifest.labels == ("blue", "green", "red")
    accuracy = next(m for m in manifest.quality if m.name == "accuracy")
    assert accuracy.value == 1.0
    assert manifest.made.parity_max_abs <= 1e-4
    assert {p.name for p in published.iterdir()} == {"manifest.json", "classifier.onnx", "golden.npz", "report"}
    assert [p.name for p in (trained / "models" / "colours").iterdir()] == ["1"], "nothing temporary is left"


def test_evaluate_reproduces_the_manifest_from_the_onnx_file_alone(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "colours", "--models", str(trained / "models")]) == 0
    assert "The manifest says the same." in capsys.readouterr().out


def test_evaluate_says_so_when_the_manifest_claims_something_else(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    liar = tmp_path / "colours" / "1"
    liar.mkdir(parents=True)
    for file in ("classifier.onnx", "manifest.json"):
        (liar / file).write_bytes((trained / "models" / "colours" / "1" / file).read_bytes())
    manifest = json.loads((liar / "manifest.json").read_text())
    manifest["quality"][0]["value"] = 0.5
    (liar / "manifest.json").write_text(json.dumps(manifest))
    assert main(["evaluate", "colours", "--models", str(tmp_path)]) == 1
    assert "defect" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_was_killed_then_interrupted_and_resumed_ends_with_the_same_weights(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pictures").symlink_to(trained / "pictures")
    again = command(tmp_path, "--epochs", "12")
    start_and_kill(again, after=r"epoch=4/12")
    assert list((tmp_path / "runs").rglob("checkpoint.pt"))

    measure = Classifier.measure
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "measure", lambda self: signal.raise_signal(signal.SIGINT) or measure(self))
        assert main(again[3:]) == 130
    assert not (tmp_path / "models" / "colours").exists(), "nothing half-published"
    assert "the same command goes on from there" in capfd.readouterr().err

    assert main(again[3:]) == 0
    assert "epoch=3/12" not in capfd.readouterr().err, "it began again instead of going on"
    assert weights(tmp_path / "models" / "colours" / "1") == weights(trained / "models" / "colours" / "1")


def learnt(folder: Path) -> dict[str, torch.Tensor]:
    """The network's weights as training left them, without the norms' running statistics (each process has its own)."""
    (checkpoint,) = (folder / "runs").rglob("checkpoint.pt")
    network = torch.load(checkpoint, weights_only=True)["recipe"]["network"]
    return {name: value for name, value in network.items() if "running" not in name and value.is_floating_point()}


@pytest.mark.slow  # three processes that import torch
def test_two_processes_over_gloo_learn_what_one_does(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").symlink_to(trained / "pictures")
    launch = f"{sys.executable} -m accelerate.commands.launch --cpu --num_processes 2 --num_machines 1 "
    launch += "--mixed_precision no --dynamo_backend no --main_process_port 0 -m"
    done = run([*launch.split(), *command(tmp_path, "--epochs", "12")[2:]])
    assert done.returncode == 0, done.stderr
    one, two = learnt(trained), learnt(tmp_path)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-4), name


def test_the_reader_is_told_which_recipes_and_data_sets_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert {"cnn", "mnist", "cifar10", "digits"} <= set(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: ["--model-version", "1"], "exists and is never changed"),
        (lambda f: ["--models", str(f / "pictures" / "red" / "0.png")], "expected a folder"),
        (lambda f: ["--data", str(f / "nowhere")], "no such folder"),
    ],
)
def test_what_can_be_known_before_training_is_said_in_one_line(
    trained: Path, spoil: Callable[[Path], list[str]], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(trained, "--epochs", "100000", *spoil(trained))[3:]) == 1
    line = capsys.readouterr().err.strip()
    assert says in line.splitlines()[-1]
    assert "Traceback" not in line


def test_the_recorded_command_is_anybodys() -> None:
    words = ["mlp", "--data", "a b.csv", "--models", "/some/where", "--runs=/else/where", "--target", "y"]
    assert _anywhere(words) == ["mlp", "--data", "a b.csv", "--target", "y"]
