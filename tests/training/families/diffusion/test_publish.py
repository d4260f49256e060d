"""Diffusion models from the command line to a published folder, measured and shown again from its ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.pictures import bars_dataset, write_pictures
from training.__main__ import main
from training.data.base import ImageDataset
from training.families.diffusion import denoising, recipe
from training.families.diffusion import metrics as diffused
from training.families.diffusion import publish as diffusing
from training.metrics import generated, onnx_model, reference_classifiers

pytestmark = pytest.mark.slow

TINY = ("--widths", "8,16", "--blocks", "1,1", "--told", "16", "--epochs", "2", "--batch-size", "16")


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges of two steps, and a handful of pictures where the protocol has thousands."""
    made = reference_classifiers.reference_classifiers

    def quick(_: Path | None, data: ImageDataset) -> reference_classifiers.ReferenceClassifiers:
        return made(tmp_path / "judges", data, settings=tuple(_short(s) for s in reference_classifiers.SETTINGS))

    monkeypatch.setattr(diffusing, "reference_classifiers", quick)
    monkeypatch.setattr(recipe, "reference_classifiers", quick)
    monkeypatch.setattr(diffused, "CAS_PICTURES", 24)
    monkeypatch.setattr(diffused, "CURVE_PICTURES", 8)
    monkeypatch.setattr(diffused, "CURVES", {"multistep": (2,), "heun": (2,), "consistency": (3,)})
    monkeypatch.setattr(generated, "cas_gap", lambda *_: type("Score", (), {"gap": 1.5})())
    monkeypatch.setattr(denoising, "BESIDE_ROWS", 4)


def _short(s: reference_classifiers.ReferenceSettings) -> reference_classifiers.ReferenceSettings:
    return reference_classifiers.ReferenceSettings(
        network=s.network, seed=s.seed, epochs=min(1, s.epochs), batch_size=16, handwriting=0.0
    )


@pytest.mark.usefixtures("few")
def test_both_recipes_publish_what_evaluate_finds_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures, models, runs = str(write_pictures(tmp_path / "colours")), str(tmp_path / "models"), str(tmp_path / "runs")
    places = ["--models", models, "--runs", runs, "--threads", "1"]
    assert main(["diffusion", "--data", pictures, "--size", "16", "--name", "many", *TINY, *places]) == 0
    folder = tmp_path / "models" / "many" / "1"
    manifest = onnx_model.load_manifest(folder)
    assert manifest.tasks == ("generate", "denoise")
    assert {"fd_ratio_16", "fd_ratio_8_pooled", "class_share", "cas_gap", "blind_psnr", "gain_bm3d_psnr"} <= {
        q.name for q in manifest.quality
    }
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    for heading in ("Samples by label", "The chain, forwards and backwards", "Denoising", "Failures"):
        assert heading in page

    (checkpoint,) = Path(runs).glob("many-*/checkpoint.pt")
    student = ["consistency", "--data", pictures, "--size", "16", "--name", "one", "--teacher", str(checkpoint)]
    sizes = ["--rows", "40", "--steps", "4", "--epochs", "1", "--batch-size", "16", "--critic-width", "8"]
    assert main([*student, *sizes, *places]) == 0
    manifest = onnx_model.load_manifest(tmp_path / "models" / "one" / "1")
    assert manifest.tasks == ("generate",)
    assert manifest.sampling is not None
    assert [sampler.name for sampler in manifest.sampling.samplers] == ["consistency"]

    capsys.readouterr()
    for name in ("many", "one"):
        assert main(["evaluate", name, "--models", models]) == 0
        assert "The manifest says the same." in capsys.readouterr().out
    assert main(["report", "one", "--models", models, "--to", str(tmp_path / "again")]) == 0
    again = (tmp_path / "again" / "report" / "index.html").read_text(encoding="utf-8")
    assert "Samples by label" in again


def test_ratios_are_those_of_the_protocol(tmp_path: Path) -> None:
    data = bars_dataset(400)
    judge = reference_classifiers.reference_classifiers(
        tmp_path, data, settings=tuple(_short(s) for s in reference_classifiers.SETTINGS)
    )
    floors = diffused.Floors(judge, 48)
    drawn = np.random.default_rng(0).random((48, 8, 8, 1), np.float32)
    expected = generated.fidelity(drawn, judge, rows=48, resamples=diffused.RESAMPLES).fd_ratio
    assert floors.ratios(drawn) == pytest.approx(expected, rel=1e-4)
