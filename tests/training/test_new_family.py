"""A new family is one folder: `new_family/centroids` has all commands as soon as it lies among the families."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import training
from app.core.manifest import Manifest
from tests.training.pictures import write_pictures
from training import families
from training.__main__ import main

FOLDER = Path(__file__).with_name("new_family")


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder lies among the families, as a package `training.families.centroids`."""
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(FOLDER)])
    yield
    for name in [name for name in sys.modules if name.startswith("training.families.centroids")]:
        del sys.modules[name]


@pytest.mark.usefixtures("added")
def test_it_is_listed_trains_resumes_publishes_and_is_measured_and_shown_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list"]) == 0
    assert "centroids" in capsys.readouterr().out

    pictures = str(write_pictures(tmp_path / "pictures", side=8))
    models = ["--models", str(tmp_path / "models")]
    command = ["centroids", "--data", pictures, "--size", "8", "--name", "colours", "--seeds", "0,1", *models]
    command += ["--runs", str(tmp_path / "runs"), "--threads", "1", "--precision", "fp32"]
    assert main(command) == 0
    folder = tmp_path / "models" / "colours" / "1"
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    assert manifest.made.recipe == "centroids"
    assert manifest.made.parameters == 3 * 8 * 8 * 3
    (accuracy,) = manifest.quality
    assert accuracy.value == 1.0

    capsys.readouterr()
    assert main(["evaluate", "colours", *models]) == 0
    assert "The manifest says the same." in capsys.readouterr().out
    assert main(["report", "colours", *models, "--to", str(tmp_path / "again")]) == 0
    assert "4 epochs" in (tmp_path / "again" / "report" / "index.html").read_text(encoding="utf-8")

    assert main(command) == 0, "the runs are there already"
    assert (folder.parent / "2" / "classifier.onnx").read_bytes() == (folder / "classifier.onnx").read_bytes()


def test_nothing_outside_its_folder_knows_of_it() -> None:
    package = Path(training.__file__).parent
    assert [path for path in package.rglob("*.py") if "centroids" in path.read_text(encoding="utf-8")] == []
