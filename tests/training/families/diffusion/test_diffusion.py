"""Diffusion models in training: preconditioning and noise against closed forms, learning, resuming; small nets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from tests.training.pictures import bars_dataset
from training.__main__ import main
from training.data.base import DataError
from training.export import Export, write_graph
from training.families.diffusion.network import Denoiser, UNet
from training.families.diffusion.noise_level import train_estimator
from training.families.diffusion.publish import MADE_BY, ServedDenoiser, fresh, load_teacher, noised
from training.families.diffusion.trainer import FAR, GUIDED_ABOUT, GUIDED_SPREAD, Hyperparameters, Trainer
from training.loop import CHECKPOINT_FILE, Run, fit
from training.recipe import Batch

SMALL = Hyperparameters(
    widths=(8, 16), blocks=(1, 1), told=16, epochs=8, batch_size=16, rise_steps=5, lr_filters=0.02, lr=0.01
)


def trainer(h: Hyperparameters = SMALL, *, seed: int = 0) -> Trainer:
    return Trainer(bars_dataset(), h, seed=seed, accelerator=Accelerator(cpu=True))


def trained(recipe: Trainer, folder: Path, *, epochs: int = SMALL.epochs) -> list[dict[str, float]]:
    data = bars_dataset()
    run = Run(folder=folder, epochs=epochs, batch_size=SMALL.batch_size, seed=0, title="bars", quiet=True)
    return fit(recipe, data.train_x, data.train_y, run=run, accelerator=recipe.accelerator)


def batch(rows: int) -> Batch:
    data = bars_dataset()
    return Batch(
        x=data.train_x[:rows],
        y=data.train_y[:rows],
        index=torch.arange(rows),
        share=slice(0, rows),
        generator=torch.Generator().manual_seed(0),
        epoch=0,
        position=0,
        progress=0.0,
    )


def untrained() -> Denoiser:
    return fresh(bars_dataset(), widths=(8, 16), blocks=(1, 1), told=16)


def test_a_fresh_denoiser_is_the_posterior_mean_of_white_pictures() -> None:
    # F is 0 at first, and c_skip alone is Wiener's filter: mean + s^2 / (s^2 + sigma^2) (x - mean).
    denoiser = untrained()
    x, sigma = torch.randn(3, 1, 8, 8), torch.tensor([0.1, 1.0, 10.0])
    shrunk = denoiser.sigma_data**2 / (denoiser.sigma_data**2 + sigma**2)
    expected = denoiser.mean + shrunk[:, None, None, None] * (x - denoiser.mean)
    torch.testing.assert_close(denoiser(x, sigma, torch.zeros(3, dtype=torch.int64)), expected)


def test_pixels_are_measured_about_the_mean_and_spread_of_the_data() -> None:
    x = bars_dataset().train_x.double() / 255
    assert untrained().mean == pytest.approx(float(x.mean()), rel=1e-5)
    assert untrained().sigma_data == pytest.approx(float(x.std()), rel=1e-5)


@pytest.mark.parametrize("sigma", [0.02, 0.3, 4.0])
def test_what_the_net_is_given_and_asked_for_has_variance_one_at_every_level(sigma: float) -> None:
    seen: list[Tensor] = []

    class Spy(UNet):
        def forward(self, x: Tensor, noise: Tensor, label: Tensor) -> Tensor:
            seen.append(x)
            return torch.zeros_like(x)

    torch.manual_seed(0)
    s = 0.3
    spy = Spy(channels=1, classes=4, widths=(8, 16), blocks=(1, 1), conditioning=16)
    denoiser = Denoiser(spy, mean=0.1, sigma_data=s)
    x0 = 0.1 + s * torch.randn(400, 1, 8, 8)  # white, so that what c_skip leaves is of known size
    level = torch.full((400,), sigma)
    denoised = denoiser(noised(x0, torch.randn_like(x0), level), level, torch.zeros(400, dtype=torch.int64))
    assert seen[0].var().item() == pytest.approx(1, rel=0.03)
    asked_for = (x0 - denoised).square().mean((1, 2, 3)) * denoiser.weight(level)
    assert asked_for.mean().item() == pytest.approx(1, rel=0.03)


def test_noised_pictures_have_the_mean_and_spread_of_q() -> None:
    torch.manual_seed(0)
    x0, sigma = torch.full((2000, 1, 4, 4), 0.7), torch.full((2000,), 0.4)
    x = noised(x0, torch.randn_like(x0), sigma)
    assert x.mean().item() == pytest.approx(0.7, abs=0.01)
    assert x.std().item() == pytest.approx(0.4, rel=0.02)


def test_each_part_of_the_noise_levels_is_met_once_a_batch() -> None:
    h = trainer().h
    sigma = trainer()._sigmas(64, torch.Generator().manual_seed(0), torch.device("cpu"))
    normal = (sigma.log() - h.log_sigma_mean) / h.log_sigma_spread
    part = (64 * (1 + torch.erf(normal / math.sqrt(2))) / 2).floor()
    assert part.tolist() == list(range(64))


def test_some_rows_are_at_levels_that_hide_everything_once_the_rates_fall() -> None:
    recipe = trainer()
    sigma = recipe._sigmas(100, torch.Generator().manual_seed(0), torch.device("cpu"), far=0.04)
    assert int((sigma >= FAR[0]).sum()) >= 4
    assert FAR[0] <= float(sigma[-4]) < float(sigma[-1]) <= FAR[1]
    assert not recipe._falls(0.5)
    assert recipe._falls(0.9)


def test_guidance_comes_to_rest_at_its_weight() -> None:
    # For labels with the posterior means -1 and 1 and half of the rows each, guidance is 0 + w (label's mean - 0).
    # If the average has come to that already, the mean of what it aims at must be that again: known in closed form.
    recipe = trainer(Hyperparameters(widths=(8, 16), blocks=(1, 1), told=16, guidance=1.5))
    x = torch.zeros(6, 1, 8, 8)
    sigma = GUIDED_ABOUT * torch.tensor([1.0, 1.0, 1.0, *3 * [math.exp(GUIDED_SPREAD)]])
    weight = torch.tensor([1.5, 1.5, 1.5, *3 * [1 + 0.5 * math.exp(-0.5)]])[:, None, None, None]
    label = torch.tensor([0, 1, 4, 0, 1, 4])
    mean = torch.tensor([-1.0, 1.0, 0.0, 0.0, 0.0])

    class AtRest(torch.nn.Module):
        def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
            return weight * mean[label][:, None, None, None] + x

    recipe.averages["short"] = AtRest()  # type: ignore[assignment]  # a stand-in with the same call
    posterior = mean[label][:, None, None, None] + x
    torch.testing.assert_close(recipe._guided(posterior, x, sigma, label), AtRest()(x, sigma, label))


def test_training_lowers_the_loss_and_the_label_is_known_or_done_without(tmp_path: Path) -> None:
    recipe = trainer()
    before = recipe.measure()["held_loss"]
    history = trained(recipe, tmp_path)
    assert history[-1]["held_loss"] < 0.6 * before
    assert history[-1]["held_loss"] == pytest.approx(min(recipe.held_losses.values()))

    x = 10 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        told = recipe.best(x, torch.full((4,), 10.0), torch.arange(4))
        untold = recipe.best(x, torch.full((4,), 10.0), torch.full((4,), 4))
    assert told.mean((1, 2)).argmax(1).tolist() == [0, 2, 4, 6]
    assert float(untold.mean((1, 2)).max()) < float(told.mean((1, 2)).max(1).values.min())


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, first, second = trainer(), trainer(), trainer()
    trained(whole, tmp_path / "whole", epochs=2)

    class Stop(Exception):
        pass

    def stop() -> dict[str, Tensor]:
        raise Stop

    data, step = bars_dataset(), first.step
    run = Run(folder=tmp_path / "cut", epochs=2, batch_size=16, seed=0, title="bars", quiet=True, checkpoint_every_s=0)

    def cut(one: Batch) -> dict[str, Tensor]:
        return stop() if one.position == 25 else step(one)

    first.step = cut  # type: ignore[method-assign, assignment]  # its argument has another name
    with pytest.raises(Stop):
        fit(first, data.train_x, data.train_y, run=run, accelerator=first.accelerator)
    fit(second, data.train_x, data.train_y, run=run, accelerator=second.accelerator)
    for name, weights in whole.averages["short"].state_dict().items():
        torch.testing.assert_close(second.averages["short"].state_dict()[name], weights, rtol=0, atol=0)


def test_a_checkpoint_teaches_with_its_better_average(tmp_path: Path) -> None:
    recipe = trainer()
    trained(recipe, tmp_path, epochs=1)
    teacher, digest = load_teacher(tmp_path / CHECKPOINT_FILE, bars_dataset())
    x, sigma, label = torch.randn(2, 1, 8, 8), torch.tensor([0.2, 2.0]), torch.tensor([1, 4])
    torch.testing.assert_close(teacher(x, sigma, label), recipe.best(x, sigma, label))
    assert len(digest) == 12


def test_a_file_that_is_no_checkpoint_teaches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"recipe": {}}, path)
    (tmp_path / "empty.pt").touch()
    (tmp_path / "words.pt").write_text("no checkpoint", encoding="utf-8")
    for name in ("other", "empty", "words"):
        with pytest.raises(DataError, match=rf"{name}\.pt: is no teacher, .* run of the recipe `diffusion`"):
            load_teacher(tmp_path / f"{name}.pt", bars_dataset())


def test_where_there_is_no_teacher_the_command_that_makes_one_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"none\.pt: no such file; .*`python -m training diffusion --data mnist`"):
        load_teacher(tmp_path / "none.pt", bars_dataset())
    monkeypatch.setenv("COLUMNS", "400")  # no line is broken
    with pytest.raises(SystemExit):
        main(["consistency", "--help"])
    assert MADE_BY in capsys.readouterr().out


def test_pictures_that_cannot_be_halved_twice_are_refused() -> None:
    with pytest.raises(DataError, match="6 x 6 pixels, expected both sides to be multiples of 4"):
        fresh(bars_dataset(side=6), widths=(8, 16), blocks=(1, 1), told=16)


@pytest.mark.slow
def test_the_exported_denoiser_answers_as_torch_does_at_all_levels(tmp_path: Path) -> None:
    recipe = trainer()
    recipe.step(batch(16))
    rows = 32
    sigma = torch.logspace(-2, 1.3, rows)
    x = torch.rand(rows, 8, 8, 1) + sigma[:, None, None, None] * torch.randn(rows, 8, 8, 1)
    inputs = {"x": x, "sigma": sigma, "label": torch.arange(rows) % 5}
    written = write_graph(
        tmp_path, Export(graph="denoiser", module=ServedDenoiser(recipe.bare), inputs=inputs, outputs=("denoised",))
    )
    assert written.parity_max_abs < 1e-4
    assert written.graph.outputs[0].shape == ("rows", 8, 8, 1)


def test_a_noise_level_is_learnt_to_a_few_per_cent() -> None:
    data = bars_dataset()
    network = train_estimator(data.train_x, low=0.05, high=1.0, steps=400, rows=64)
    clean = data.test_x.float() / 255
    torch.manual_seed(1)
    for sigma in (0.1, 0.3, 0.8):
        with torch.no_grad():
            found = network(clean + sigma * torch.randn_like(clean))
        # 64 pixels tell a standard deviation to within 1 / sqrt(128) = 9 %; the mean of 48 pictures is closer.
        assert float(found.mean()) == pytest.approx(sigma, rel=0.1)
        assert float((found / sigma).log().square().mean().sqrt()) < 0.25


def test_learning_a_noise_level_leaves_the_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train_estimator(bars_dataset().train_x, low=0.1, high=1.0, steps=2, rows=8)
    assert np.array_equal(torch.rand(2).numpy(), expected.numpy())
