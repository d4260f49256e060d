"""The denoiser of photos as a recipe: what its nets can take, what they learn, what is published of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from training.__main__ import main
from training.data import photos
from training.data.base import DataError
from training.export import Export, write_graph
from training.families.photo_denoiser import metrics as restoration
from training.families.photo_denoiser import publish as restoring
from training.families.photo_denoiser import trainer as photo_denoiser
from training.families.photo_denoiser.network import FAINTEST, NoiseEstimator, Restorer
from training.families.photo_denoiser.trainer import (
    EstimatorTrainer,
    Hyperparameters,
    RestorerTrainer,
    crops,
    noise_levels,
)
from training.loop import Run, fit
from training.metrics import onnx_model

SMALL = Hyperparameters(
    widths=(8, 8), blocks=(1, 1), epochs=1, batch_size=8, crop=32, ema_steps=20.0, estimator_epochs=1
)


def gentle(rows: int, *sides: int, seed: int) -> np.ndarray:
    """Smooth pictures (rows, H, W): waves of several lengths and directions."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: sides[0], : sides[1]] / 12
    angle = rng.uniform(0, np.pi, (rows, 1, 1))
    wave = np.sin(rng.uniform(0.5, 2, (rows, 1, 1)) * (x * np.cos(angle) + y * np.sin(angle)))
    return np.clip(128 + 90 * wave, 0, 255).astype(np.uint8)


def some_photos(rows: int = 12) -> photos.Photos:
    return photos.Photos(
        train=torch.from_numpy(gentle(rows, 40, 44, seed=0)),
        held=torch.from_numpy(gentle(4, 40, 44, seed=1)),
        bsd68=tuple(gentle(2, 30, 50, seed=2)),
        set12=tuple(gentle(1, 33, 33, seed=3)),
    )


def fitted(trainer: photo_denoiser.Trainer, folder: Path, epochs: int) -> list[dict[str, float]]:
    run = Run(folder=folder, epochs=epochs, batch_size=8, seed=0, title="test", quiet=True)
    numbers = torch.arange(len(trainer.photos)).repeat(20)
    return fit(trainer, numbers, numbers, run=run, accelerator=trainer.accelerator)


@pytest.fixture(scope="module")
def cpu() -> Accelerator:
    return Accelerator(cpu=True)


def test_an_untrained_net_changes_nothing_whatever_the_size() -> None:
    net = Restorer((8, 12, 16), (1, 1, 1))
    assert net.stride == 8
    for height, width in ((8, 16), (40, 24)):
        x = torch.rand(2, 1, height, width)
        torch.testing.assert_close(net(x, torch.tensor([0.1, 0.2])), x)


def test_the_shipped_net_has_at_most_a_million_parameters() -> None:
    h = Hyperparameters()
    nets = Restorer(h.widths, h.blocks), NoiseEstimator()
    assert sum(p.numel() for net in nets for p in net.parameters()) <= 1_000_000


def test_the_estimate_follows_contrast_and_ignores_brightness() -> None:
    torch.manual_seed(0)
    net, x = NoiseEstimator(), torch.rand(3, 1, 32, 40)
    torch.testing.assert_close(net(3 * x), 3 * net(x), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(net(x + 0.4), net(x), rtol=1e-3, atol=1e-5)


def test_an_untrained_estimate_of_white_noise_is_right_already() -> None:
    torch.manual_seed(0)
    sigma = torch.tensor([0.02, 0.1, 0.4])
    noise = torch.randn(3, 1, 64, 64) * sigma.view(-1, 1, 1, 1)
    torch.testing.assert_close(NoiseEstimator()(0.5 + noise), sigma, rtol=0.15, atol=0)


def test_exported_it_still_finds_the_least_noise_in_a_black_picture(tmp_path: Path) -> None:
    net = NoiseEstimator().eval()
    export = Export(graph="estimator", module=net, inputs={"x": torch.rand(4, 1, 32, 32)}, outputs=("sigma",))
    write_graph(tmp_path, export)
    session = ort.InferenceSession(tmp_path / "estimator.onnx")
    (sigma,) = session.run(None, {"x": np.zeros((1, 1, 32, 32), np.float32)})
    np.testing.assert_allclose(sigma, [FAINTEST], rtol=1e-4)


def test_a_crop_is_one_of_the_eight_ways_of_a_square_of_its_own_picture() -> None:
    pictures = torch.randint(0, 256, (3, 9, 10), dtype=torch.uint8)
    numbers = torch.tensor([2, 0, 1, 1])
    found = crops(pictures, numbers, 4, torch.Generator().manual_seed(0))
    assert found.shape == (4, 1, 4, 4)
    for crop, number in zip((found * 255).round().to(torch.uint8), numbers.tolist(), strict=True):
        squares = pictures[number].unfold(0, 4, 1).unfold(1, 4, 1).reshape(-1, 4, 4)
        ways = [torch.rot90(s, k, (1, 2)) for k in range(4) for s in (squares, squares.flip(2))]
        assert any((way == crop[0]).all((1, 2)).any() for way in ways)


def test_noise_is_mostly_of_the_usual_strength_and_sometimes_beyond() -> None:
    levels = 255 * noise_levels(4000, torch.Generator().manual_seed(0))
    assert float(levels.min()) >= 0.5
    assert float(levels.max()) <= 100
    assert float((levels > 55).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float(levels[levels < 55].mean()) == pytest.approx(27.75, abs=1)


def test_both_nets_learn(tmp_path: Path, cpu: Accelerator) -> None:
    torch.manual_seed(0)
    data = some_photos()
    restorer = RestorerTrainer(Restorer((8, 8), (1, 1)), data, SMALL, accelerator=cpu)
    before = restorer.measure()["held_psnr"]
    assert fitted(restorer, tmp_path / "r", 3)[-1]["held_psnr"] > before + 1
    estimator = EstimatorTrainer(NoiseEstimator(), data, SMALL, accelerator=cpu)
    assert fitted(estimator, tmp_path / "e", 3)[-1]["held_error"] < 0.06


def test_a_run_that_was_stopped_and_resumed_has_the_weights_of_one_that_was_not(
    tmp_path: Path, cpu: Accelerator
) -> None:
    def made(seed: int) -> RestorerTrainer:
        torch.manual_seed(seed)
        return RestorerTrainer(Restorer((8, 8), (1, 1)), some_photos(2), SMALL, accelerator=cpu)

    whole, first, second = made(0), made(0), made(5)
    fitted(whole, tmp_path / "whole", 2)
    step = first.step

    def stop(batch: photo_denoiser.Batch) -> dict[str, Tensor]:
        if batch.position == 7:
            raise KeyboardInterrupt
        return step(batch)

    first.step = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fitted(first, tmp_path / "halves", 2)
    fitted(second, tmp_path / "halves", 2)
    for name, value in whole.average.state_dict().items():
        assert torch.equal(second.average.state_dict()[name], value), name


def test_psnr_clips_and_rounds_to_8_bits() -> None:
    truth = np.array([[0, 255], [100, 100]], np.uint8)
    almost = np.array([[-0.2, 1.3], [100.4 / 255, 101 / 255]], np.float32)
    assert restoration.psnr(almost, truth) == pytest.approx(10 * np.log10(255**2 / 0.25))


@pytest.mark.slow
def test_a_model_is_published_with_its_figures_and_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(photos, "load", some_photos)
    monkeypatch.setattr(restoring, "TILE", 32)
    monkeypatch.setattr(restoring, "OVERLAP", 8)
    monkeypatch.setattr(restoring, "CURVE", (15, 50))
    timed = onnx_model.Latency(rows=1, median_ms=0.5, p95_ms=0.7, repeats=20, device="a processor")
    monkeypatch.setattr(onnx_model, "latency_ms", lambda *_, **__: [timed])
    where = ["--models", str(tmp_path / "models")]
    small = ["--widths", "8,8", "--blocks", "1,1", "--epochs", "1", "--estimator-epochs", "1", "--crop", "32"]
    command = ["photo-denoiser", *small, *where, "--runs", str(tmp_path / "runs"), "--device", "cpu"]
    assert main([*command, "--precision", "fp32"]) == 0
    folder = tmp_path / "models" / "photo-denoiser" / "1"
    manifest = onnx_model.load_manifest(folder)
    assert manifest.task == "denoise"
    assert manifest.plane is not None
    assert [m.name for m in manifest.quality] == list(restoration.PROTOCOLS)
    assert main(["evaluate", "photo-denoiser", *where]) == 0
    assert "The manifest says the same." in capsys.readouterr().out
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "BM3D" in page
    assert "The noise of a tile was estimated in 0.50" in page
    assert main(["report", "photo-denoiser", *where, "--to", str(tmp_path / "again")]) == 0


def test_a_set_that_is_missing_or_not_whole_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LECTERN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"train400: no such folder; put the 400 PNG files"):
        photos.load()
    folder = tmp_path / "denoise" / "train400"
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "1.png")
    with pytest.raises(DataError, match=r"1 PNG files, train400 has 400"):
        photos.load()
    monkeypatch.setattr(photos, "PICTURES", {"train400": 1})
    with pytest.raises(DataError, match=r"1\.png: expected a grey picture of 8 bits, its mode is RGB"):
        photos.load()
