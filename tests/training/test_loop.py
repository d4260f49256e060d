"""The loop against a recipe of three numbers: order, resumption, figures, and least squares as the known answer."""

from __future__ import annotations

import argparse
import signal
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from training.loop import CHECKPOINT_FILE, Interrupted, Run, fit, run_folder
from training.recipe import Batch


class LeastSquares:
    """y = x w by gradient descent, with a little of the generator's noise, so that every random number counts."""

    def __init__(self, *, stop_at: int | None = None, noise: float = 1e-3) -> None:
        self.w = torch.zeros(3)
        self.noise = noise
        self.stop_at = stop_at
        self.seen: list[list[int]] = []

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self.seen.append(batch.index.tolist())
        error = batch.x @ self.w - batch.y
        self.w = self.w - 0.2 * batch.x.T @ error / len(error)
        self.w = self.w + self.noise * torch.randn(3, generator=batch.generator)
        if len(self.seen) == self.stop_at:
            signal.raise_signal(signal.SIGINT)
        return {"loss": (error**2).mean()}

    def measure(self) -> dict[str, float]:
        return {"held_loss": 0.0}

    def state(self) -> dict[str, Any]:
        return {"w": self.w}

    def load_state(self, state: dict[str, Any]) -> None:
        self.w = state["w"]


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    return x, x @ torch.tensor([1.0, -2.0, 0.5])


def run(folder: Path, **changed: Any) -> Run:
    settings: dict[str, Any] = {"epochs": 20, "batch_size": 10, "seed": 0, "title": "test", "quiet": True}
    return Run(folder=folder, **(settings | changed))


def test_it_finds_the_least_squares_solution(rows: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    recipe = LeastSquares(noise=0.0)
    history = fit(recipe, *rows, run=run(tmp_path), accelerator=Accelerator(cpu=True))
    expected = torch.linalg.lstsq(rows[0], rows[1][:, None]).solution[:, 0]
    assert torch.allclose(recipe.w, expected, atol=1e-4)
    assert len(history) == 20
    assert history[-1]["loss"] < 1e-6 < history[0]["loss"]


def test_an_epoch_shows_every_row_once_in_an_order_of_its_own(rows: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    recipe = LeastSquares()
    fit(recipe, *rows, run=run(tmp_path, epochs=2), accelerator=Accelerator(cpu=True))
    first, second = list(chain(*recipe.seen[:5])), list(chain(*recipe.seen[5:]))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


@pytest.mark.parametrize("stop_at", [1, 5, 7, 23])
def test_a_stopped_run_goes_on_to_the_very_same_end(rows: tuple[Tensor, Tensor], tmp_path: Path, stop_at: int) -> None:
    whole, stopped, resumed = LeastSquares(), LeastSquares(stop_at=stop_at), LeastSquares()
    accelerator = Accelerator(cpu=True)
    history = fit(whole, *rows, run=run(tmp_path / "whole"), accelerator=accelerator)
    with pytest.raises(Interrupted):
        fit(stopped, *rows, run=run(tmp_path / "cut"), accelerator=accelerator)
    again = fit(resumed, *rows, run=run(tmp_path / "cut"), accelerator=accelerator)
    assert torch.equal(resumed.w, whole.w)
    assert stopped.seen + resumed.seen == whole.seen
    assert [h["loss"] for h in again] == pytest.approx([h["loss"] for h in history])


def test_a_checkpoint_is_whole_or_not_there(rows: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT_FILE).with_suffix(".tmp").write_bytes(b"cut off by a power failure")
    recipe = LeastSquares()
    fit(recipe, *rows, run=run(tmp_path), accelerator=Accelerator(cpu=True))
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT_FILE]


@pytest.mark.parametrize("fresh", [True, False])
def test_a_fresh_start_forgets_the_same_commands_checkpoint(tmp_path: Path, fresh: bool) -> None:
    options = argparse.Namespace(runs=str(tmp_path), name="net", fresh=False)
    folder = run_folder(options, {"seed": 0}, Accelerator(cpu=True))
    folder.mkdir()
    (folder / CHECKPOINT_FILE).touch()
    options.fresh = fresh
    assert run_folder(options, {"seed": 0}, Accelerator(cpu=True)) == folder
    assert folder.exists() is not fresh


def test_another_seed_is_another_run(rows: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    one, other = LeastSquares(), LeastSquares()
    fit(one, *rows, run=run(tmp_path / "0"), accelerator=Accelerator(cpu=True))
    fit(other, *rows, run=run(tmp_path / "1", seed=1), accelerator=Accelerator(cpu=True))
    assert one.seen != other.seen


def test_a_recipe_that_has_seen_enough_ends_the_run_and_a_resumed_one_stays_ended(
    rows: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    class Content(LeastSquares):
        @property
        def stopped(self) -> str | None:
            return "good enough" if float(self.w[0]) > 0.9 else None

    first = Content(noise=0.0)
    history = fit(first, *rows, run=run(tmp_path), accelerator=Accelerator(cpu=True))
    assert 0 < len(history) < 20
    assert len(first.seen) == 5 * len(history)
    second = Content(noise=0.0)
    assert fit(second, *rows, run=run(tmp_path), accelerator=Accelerator(cpu=True)) == history
    assert second.seen == []


def test_folders_of_one_name_and_other_sizes_of_picture_are_other_runs(tmp_path: Path) -> None:
    def folder(data: str, size: int | None = None) -> Path:
        options = argparse.Namespace(name="gan", runs=str(tmp_path), fresh=False, data=data, size=size)
        return run_folder(options, {"seed": 0, "data": Path(data).name}, Accelerator(cpu=True))

    for parent in ("a", "b"):
        (tmp_path / parent / "pictures").mkdir(parents=True)
    one, other = (str(tmp_path / parent / "pictures") for parent in ("a", "b"))
    assert len({folder(one), folder(other), folder(one, 28), folder("nowhere-pictures")}) == 4
    assert folder(one) == folder(one)
    assert folder("mnist-of-nowhere", 28) == folder("mnist-of-nowhere")  # a data set's own pictures have their size
