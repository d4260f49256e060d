"""A generator as it is served: its ONNX graph, and a published folder with its figures and report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.pictures import write_pictures
from training.__main__ import main
from training.export import Export, write_graph
from training.families.gan.publish import ServedConditionalGenerator, ServedGenerator
from training.families.gan.recipe import DEFAULTS
from training.families.gan.trainer import Hyperparameters
from training.metrics import onnx_model
from training.networks.adversarial import Generator


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [False, True])
def test_the_exported_generator_draws_what_torch_draws(conditional: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Generator(picture=(1, 9, 7), latent=5, classes=3 if conditional else 0, width=8, hidden=16).eval()
    inputs = {"latent": torch.randn(20, 5)}
    if conditional:
        assert network.label is not None
        nn.init.normal_(network.label.weight, std=3.0)
        inputs["label"] = torch.arange(20) % 3
    served = ServedConditionalGenerator(network) if conditional else ServedGenerator(network)
    written = write_graph(tmp_path, Export(graph="generator", module=served, inputs=inputs, outputs=("image",)))
    assert [spec.name for spec in written.graph.inputs] == list(inputs)
    assert written.graph.outputs[0].shape == ("rows", 9, 7, 1)
    session = onnx_model.open_graph(tmp_path, written.graph, threads=1)
    with torch.no_grad():
        expected = served(*inputs.values()).numpy()
    for rows in (slice(0, 1), slice(3, 20)):
        drawn = session.run(["image"], {name: value[rows].numpy() for name, value in inputs.items()})[0]
        assert np.abs(drawn - expected[rows]).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "titles"),
    [
        ("gan", ("Samples", "Interpolations", "Nearest training pictures", "Failures", "Learning curves")),
        ("cgan", ("Samples", "The same latents as every class", "Learning curves")),
    ],
)
def test_a_folder_of_pictures_becomes_a_published_generator_with_measured_figures(
    recipe: str,
    titles: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where the reference classifiers are kept
    write_pictures(tmp_path / "pictures", per_class=90)
    where = ["--models", str(tmp_path / "models"), "--name", "colours"]
    arguments = [recipe, "--data", str(tmp_path / "pictures"), "--size", "8", "--latent", "3", "--epochs", "4"]
    arguments += ["--width", "8", "--hidden", "16", "--critic-width", "8", "--critic-hidden", "16", *where]
    arguments += ["--batch-size", "16", "--runs", str(tmp_path / "runs"), "--threads", "1", "--precision", "fp32"]
    assert main(arguments) == 0
    folder = tmp_path / "models" / "colours" / "1"
    manifest = onnx_model.load_manifest(folder)
    assert manifest.task == "generate"
    assert manifest.labels == (("blue", "green", "red") if recipe == "cgan" else ())
    found = {m.name: m.value for m in manifest.quality}
    extractors = [found[f"fd_ratio_{name}"] for name in ("pooled", "strided", "random")]
    assert found["fd_ratio"] == pytest.approx(sum(extractors) / 3)
    assert ("class_share" in found) == (recipe == "cgan")
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    for words in titles:
        assert words in page
    assert main(["evaluate", "colours", "--models", str(tmp_path / "models")]) == 0
    assert "The manifest says the same." in capsys.readouterr().out


def test_a_batch_that_cannot_be_looked_at_in_eights_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "pictures", per_class=90)
    arguments = ["gan", "--data", str(tmp_path / "pictures"), "--size", "8", "--models", str(tmp_path / "models")]
    assert main([*arguments, "--batch-size", "12", "--precision", "fp32"]) == 1
    assert "a multiple of 8" in capsys.readouterr().err


@pytest.mark.parametrize(("recipe", "defaults"), DEFAULTS.items())
def test_help_says_the_hyperparameters_that_the_recipe_runs_with(
    recipe: str, defaults: Hyperparameters, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([recipe, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name, value in asdict(defaults).items():
        flag = "--" + name.replace("_", "-") + " "
        told = said.rpartition(flag)[2].partition("(default ")[2].partition(")")[0]
        assert told == str(value), name
