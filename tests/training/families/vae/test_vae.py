"""The VAE as a recipe: its gradients, what it learns, what it publishes; small nets, real ONNX graphs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from tests.training.pictures import dataset_of, write_pictures
from training.__main__ import main
from training.data.base import ImageDataset
from training.data.binarise import PROTOCOL, binarised
from training.export import Export, write_graph
from training.families.vae.metrics import PublishedVae
from training.families.vae.network import GaussianEncoder, PictureDecoder
from training.families.vae.recipe import ServedDecoder, ServedEncoder
from training.families.vae.trainer import Hyperparameters, Trainer, reparameterise
from training.loop import Run, fit
from training.metrics import onnx_model
from training.recipe import Batch

SMALL = Hyperparameters(
    latent=3, width=8, hidden=16, epochs=12, batch_size=20, lr=0.02, rise_steps=5, ema_steps=5.0, kl_warm_up=0.3
)


def bars(rows: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Grey pictures of 10x10 with one bright column each; which column is the label."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 20, (rows, 10, 10, 1), generator=generator, dtype=torch.uint8)
    y = torch.arange(rows) % 10
    x[torch.arange(rows), :, y] = 230
    return x, y


def dataset(rows: int = 200) -> ImageDataset:
    train, held, test = (bars(n, seed=n) for n in (rows, 40, 30))
    return dataset_of("bars", tuple("0123456789"), train=train, held=held, test=test, box=8)


def trainer(h: Hyperparameters = SMALL, *, seed: int = 0) -> Trainer:
    return Trainer(binarised(dataset()), h, seed=seed, accelerator=Accelerator(cpu=True))


def trained(recipe: Trainer, folder: Path, *, epochs: int = SMALL.epochs) -> list[dict[str, float]]:
    data = binarised(dataset())
    run = Run(folder=folder, epochs=epochs, batch_size=SMALL.batch_size, seed=0, title="bars", quiet=True)
    return fit(recipe, data.train_x, data.train_y, run=run, accelerator=recipe.accelerator)


def test_the_gradient_through_the_sample_is_the_finite_difference() -> None:
    mu = torch.tensor([[0.3, -0.8]], dtype=torch.float64, requires_grad=True)
    logvar = torch.tensor([[-0.5, 0.4]], dtype=torch.float64, requires_grad=True)
    noise = torch.randn(1, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def value(mu: Tensor, logvar: Tensor) -> Tensor:
        return (reparameterise(mu, logvar, noise).sin() * torch.tensor([1.0, 3.0])).sum()

    value(mu, logvar).backward()
    step = 1e-6
    for variable in (mu, logvar):
        assert variable.grad is not None
        for i in range(2):
            ends = []
            for side in (step, -step):
                moved = variable.detach().clone()
                moved[0, i] += side
                ends.append(value(moved, logvar) if variable is mu else value(mu, moved))
            difference = float((ends[0] - ends[1]).detach()) / (2 * step)
            assert float(variable.grad[0, i]) == pytest.approx(difference, rel=1e-6)


def test_training_shows_both_terms_and_raises_the_held_out_elbo(tmp_path: Path) -> None:
    history = trained(trainer(), tmp_path)
    for row in history:
        assert row["loss"] == pytest.approx(row["reconstruction"] + row["kl"], rel=1e-4)
        assert row["held_loss"] == pytest.approx(row["held_reconstruction"] + row["held_kl"], rel=1e-4)
    assert history[-1]["held_loss"] < 0.9 * history[0]["held_loss"]


def test_what_is_served_is_the_average_with_the_highest_held_out_elbo(tmp_path: Path) -> None:
    recipe = trainer()
    history = trained(recipe, tmp_path, epochs=3)
    assert recipe.best_loss == min(row["held_loss"] for row in history)
    with torch.no_grad():
        recipe.average.decoder.start_at(0.99)  # a worse average
    assert recipe.measure()["held_loss"] > recipe.best_loss
    recipe.average.load_state_dict(recipe.best.state_dict())
    assert recipe.measure()["held_loss"] == recipe.best_loss


@pytest.mark.slow
def test_a_run_that_was_stopped_and_resumed_has_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    h = replace(SMALL, samples=2, samples_from=0.5)
    whole = trainer(h)
    trained(whole, tmp_path / "whole", epochs=2)
    first = trainer(h)
    step, taken = first.step, 0

    def stop(batch: Batch) -> dict[str, Tensor]:
        nonlocal taken
        taken += 1
        if taken == 14:
            raise KeyboardInterrupt
        return step(batch)

    first.step = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trained(first, tmp_path / "halves", epochs=2)
    second = trainer(h, seed=5)  # other weights until the checkpoint's are read
    trained(second, tmp_path / "halves", epochs=2)
    for name, value in whole.average.state_dict().items():
        assert torch.equal(second.average.state_dict()[name], value), name


@pytest.mark.slow
def test_several_samples_train_the_tighter_bound(tmp_path: Path) -> None:
    recipe = trainer(replace(SMALL, samples=3))
    history = trained(recipe, tmp_path, epochs=8)
    assert history[-1]["held_loss"] < 0.9 * history[0]["held_loss"]


@pytest.mark.parametrize(("shape", "rows"), [((1, 28, 28), 2), ((3, 10, 13), 3), ((1, 3, 4), 1)])
def test_any_size_of_picture_comes_back_in_its_size(shape: tuple[int, int, int], rows: int) -> None:
    encoder = GaussianEncoder(shape, latent=5, width=8, blocks=2, hidden=16)
    decoder = PictureDecoder(shape, latent=5, width=8, blocks=2, hidden=16)
    mu, logvar = encoder(torch.rand(rows, *shape))
    assert mu.shape == logvar.shape == (rows, 5)
    assert decoder(mu).shape == (rows, *shape)


def test_a_decoder_begins_at_the_pictures_mean() -> None:
    decoder = PictureDecoder((1, 8, 8), latent=4, width=8, blocks=1, hidden=16)
    with torch.no_grad():
        decoder.patches.weight.zero_()
        decoder.start_at(0.2)
        assert torch.allclose(torch.sigmoid(decoder(torch.randn(2, 4))), torch.tensor(0.2))


def test_binarised_pixels_are_ink_as_often_as_they_are_bright_and_the_same_every_time() -> None:
    grey = dataset(2000)
    once, again = binarised(grey), binarised(grey)
    for part in ("train_x", "held_x", "test_x"):
        assert torch.equal(getattr(once, part), getattr(again, part))
        assert set(getattr(once, part).unique().tolist()) == {0, 255}
    bright = grey.train_x == 230
    assert float((once.train_x[bright] == 255).double().mean()) == pytest.approx(230 / 255, abs=0.01)
    dark = grey.train_x < 20
    expected = float(grey.train_x[dark].double().mean()) / 255
    assert float((once.train_x[dark] == 255).double().mean()) == pytest.approx(expected, abs=0.003)
    assert PROTOCOL in once.data_source.note


def test_black_and_white_stay_as_they_are() -> None:
    grey = dataset()
    grey.test_x[:5], grey.test_x[5:] = 0, 255
    assert torch.equal(binarised(grey).test_x, grey.test_x)


@pytest.mark.slow
def test_the_served_graphs_agree_with_torch(tmp_path: Path) -> None:
    network = trainer().best.eval()
    x = bars(70, seed=1)[0]
    encoder, decoder = ServedEncoder(network.encoder), ServedDecoder(network.decoder)
    with torch.no_grad():
        codes = encoder(x)[0]
        pictures = decoder(codes)
    assert pictures.shape == x.shape
    assert 0 <= float(pictures.min()) <= float(pictures.max()) <= 1
    written = [
        write_graph(tmp_path, Export(graph="encoder", module=encoder, inputs={"image": x}, outputs=("mu", "logvar"))),
        write_graph(tmp_path, Export(graph="decoder", module=decoder, inputs={"latent": codes}, outputs=("image",))),
    ]
    assert max(one.parity_max_abs for one in written) < 1e-5


@pytest.mark.slow
def test_a_folder_of_pictures_becomes_a_published_model_with_measured_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "pictures", per_class=60)
    where = ["--models", str(tmp_path / "models"), "--name", "colours"]
    arguments = ["vae", "--data", str(tmp_path / "pictures"), "--size", "8", "--latent", "2", "--epochs", "20"]
    arguments += ["--width", "8", "--hidden", "16", "--batch-size", "16", "--rise-steps", "10", "--lr", "0.01"]
    arguments += ["--kl-warm-up", "0.5", "--runs", str(tmp_path / "runs"), *where]
    assert main([*arguments, "--threads", "1", "--precision", "fp32"]) == 0
    folder = tmp_path / "models" / "colours" / "1"
    manifest = onnx_model.load_manifest(folder)
    assert manifest.tasks == ("reconstruct", "generate")
    found = {m.name: m.value for m in manifest.quality}
    assert found["elbo"] == pytest.approx(-found["reconstruction"] - found["kl"], abs=1e-6)
    assert found["nll"] <= -found["elbo"]
    kept = json.loads((folder / "report" / "figures.json").read_text(encoding="utf-8"))
    by_samples = [kept["nll_by_samples"][k] for k in ("1", "10", "100", "1000")]
    assert by_samples == sorted(by_samples, reverse=True)
    assert by_samples[-1] == pytest.approx(found["nll"])
    model = PublishedVae(folder, manifest)
    x = np.zeros((3, 8, 8, 3), np.uint8)
    assert model.decode(model.encode(x)[0]).shape == x.shape
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    for words in ("The manifold", "Reconstructions", "Latent traversals", "How tight the bound is"):
        assert words in page
    assert main(["evaluate", "colours", "--models", str(tmp_path / "models")]) == 0
    assert "The manifest says the same." in capsys.readouterr().out
