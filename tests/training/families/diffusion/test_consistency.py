"""Few-step training: the teacher's trajectories, and a student that lands where they end; small nets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from tests.training.pictures import bars_dataset
from training.families.diffusion import trajectories as made
from training.families.diffusion.consistency_trainer import Hyperparameters, Trainer
from training.families.diffusion.network import Denoiser
from training.families.diffusion.publish import fresh
from training.families.diffusion.trajectories import LOWEST_KEPT, TOP, Trajectories, trajectories
from training.loop import Run, fit

SMALL = Hyperparameters(
    rows=60, steps=6, epochs=8, batch_size=32, lr=1e-2, critic_width=8, critic_hidden=16, rise_steps=5, ema_steps=5.0
)


class Known(Denoiser):
    """Knows all pictures of a label to be the same: a column. Without a label, black."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Identity(), mean=0.0, sigma_data=0.5)

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        return columns(label).expand_as(x)


def columns(label: Tensor) -> Tensor:
    x = torch.zeros(len(label), 1, 8, 8)
    told = (label < 4).nonzero()[:, 0]
    x[told, :, :, 2 * label[told]] = 0.8
    return x


def drawn(folder: Path, *, teacher: Denoiser | None = None, rows: int = 60) -> Trajectories:
    return trajectories(
        teacher or Known(),
        bars_dataset(),
        rows=rows,
        steps=6,
        unlabelled=0.1,
        seed=0,
        kept=folder,
        digest="abc",
        accelerator=Accelerator(cpu=True),
    )


def test_trajectories_end_where_the_teacher_sees_the_picture(tmp_path: Path) -> None:
    found = drawn(tmp_path)
    label = torch.repeat_interleave(torch.arange(5), found.rows)
    torch.testing.assert_close(found.end.float(), columns(label), atol=1e-3, rtol=0)
    assert found.x.shape == (len(found.sigmas), 60, 1, 8, 8)
    assert found.sigmas[0] == TOP
    assert float(found.sigmas.min()) >= LOWEST_KEPT


def test_a_point_of_a_trajectory_lies_at_its_level_from_the_end(tmp_path: Path) -> None:
    # Where the teacher knows the picture, the way to it is straight: x = x0 + sigma * noise, the same noise all along;
    # but at the top it is noise alone, without the picture, which is a twentieth of it at most.
    found = drawn(tmp_path)
    noise = (found.x.float() - found.end.float()) / found.sigmas[:, None, None, None, None]
    torch.testing.assert_close(noise, noise[:1].expand_as(noise), atol=0.06, rtol=0)
    assert float(noise.std()) == pytest.approx(1, rel=0.05)


def test_points_are_drawn_for_the_labels_that_are_asked_for(tmp_path: Path) -> None:
    found, label = drawn(tmp_path), torch.tensor([0, 3, 4, 1, 4, 2] * 50)
    x, sigma, end = found.like(label, torch.Generator().manual_seed(0))
    torch.testing.assert_close(end, columns(label), atol=1e-3, rtol=0)
    noise = (x - end) / sigma[:, None, None, None]
    assert float(noise.std()) == pytest.approx(1, rel=0.05)
    assert float((sigma == TOP).float().mean()) > made.AT_TOP - 0.05


def test_trajectories_are_drawn_once_and_found_again(tmp_path: Path) -> None:
    first = drawn(tmp_path)

    class Gone(Known):
        def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
            raise AssertionError("the teacher was asked again")

    assert torch.equal(drawn(tmp_path, teacher=Gone()).end, first.end)


def test_a_student_learns_to_land_at_one_stroke(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = bars_dataset()
    student = fresh(data, widths=(8, 16), blocks=(1, 1), told=16)
    accelerator = Accelerator(cpu=True)
    recipe = Trainer(
        data, SMALL, teacher=student, drawn=drawn(tmp_path), classifiers=None, seed=0, accelerator=accelerator
    )
    run = Run(folder=tmp_path / "run", epochs=SMALL.epochs, batch_size=32, seed=0, title="bars", quiet=True)
    history = fit(recipe, data.train_x, data.train_y, run=run, accelerator=accelerator)
    assert history[-1]["distance"] < 0.1 * history[0]["distance"]
    x, sigma, end = recipe.drawn.like(torch.arange(4).repeat(20), torch.Generator().manual_seed(1))
    low = sigma < 1
    with torch.no_grad():
        landed = recipe.best(x, sigma, torch.arange(4).repeat(20))
    assert float((landed - end)[low].square().mean().sqrt()) < 0.1


def test_what_one_and_two_evaluations_draw_is_watched(tmp_path: Path) -> None:
    class ReferenceClassifier:
        data = bars_dataset()

    seen: list[Tensor] = []

    def quick(pictures: Tensor, classifiers: object) -> object:
        seen.append(pictures)
        return type("Glance", (), {"mean_fd_ratio": float(len(seen))})()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "quick_fd", quick)
        patch.setattr(made, "class_share", lambda *_: 0.5)
        found = made.watched(Known(), ReferenceClassifier(), bars_dataset().held_y, Accelerator(cpu=True))  # type: ignore[arg-type]
    assert found == {
        "held_fd_ratio_1": 1.0,
        "held_class_share_1": 0.5,
        "held_fd_ratio_2": 2.0,
        "held_class_share_2": 0.5,
    }
    assert all(pictures.shape == (64, 8, 8, 1) for pictures in seen)
