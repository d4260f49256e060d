"""The net that says in which direction digits move: its memory, its twin without one, what is published of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from app.core.manifest import DigitPicture
from training.__main__ import main
from training.data import mnist, moving_digits
from training.data.base import ImageDataset
from training.data.moving_digits import LABELS, SIDE
from training.families.motion import publish as moving
from training.families.motion.metrics import PublishedMotion
from training.families.motion.network import MotionNet, waves
from training.families.motion.trainer import Hyperparameters, MotionTrainer
from training.loop import Run, fit
from training.metrics import onnx_model

SMALL = Hyperparameters(widths=(4, 4, 8), features=16, hidden=24, epochs=1, batch_size=8)


def net(*, recurrent: bool = True) -> MotionNet:
    torch.manual_seed(0)
    return MotionNet(len(LABELS), side=SIDE, widths=(4, 4, 8), features=16, hidden=24, recurrent=recurrent).eval()


def digits(rows: int = 40) -> ImageDataset:
    x = torch.zeros(rows, 28, 28, 1, dtype=torch.uint8)
    x[:, 10:18, 10:18] = torch.randint(
        100, 256, (rows, 8, 8, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    y = torch.arange(rows) % 10
    return ImageDataset(
        name="mnist",
        title="MNIST",
        labels=tuple("0123456789"),
        picture=DigitPicture(kind="digit", height=28, width=28, box=20),
        train_x=x,
        train_y=y,
        held_x=x,
        held_y=y,
        test_x=x,
        test_y=y,
        source="made here",
        licence="none",
    )


def test_frame_by_frame_it_says_what_it_says_of_the_whole_clip() -> None:
    whole, x = net(), torch.rand(3, 7, SIDE, SIDE)
    logits, last = whole(x)
    state = torch.zeros(3, 24)
    for k in range(7):
        piece, state = whole(x[:, k : k + 1], state)
        torch.testing.assert_close(piece, logits[:, k : k + 1])
    torch.testing.assert_close(state, last)


def test_without_recurrence_a_frames_label_depends_on_no_other_frame() -> None:
    x = torch.rand(2, 5, SIDE, SIDE)
    other = x.clone()
    other[:, :4] = torch.rand(2, 4, SIDE, SIDE)
    forgetful, remembering = net(recurrent=False), net()
    assert torch.equal(forgetful(x)[0][:, 4], forgetful(other)[0][:, 4])
    assert not torch.allclose(remembering(x)[0][:, 4], remembering(other)[0][:, 4], atol=1e-6, rtol=0)


def test_the_gates_are_those_that_the_state_was_made_with() -> None:
    remembering, x = net(), torch.rand(2, 5, SIDE, SIDE)
    reset, update = remembering.gates(x)
    with torch.no_grad():
        seen = remembering.see(x)
        after = remembering.remember(seen)
    before = torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], dim=1)
    layer = remembering.gru.forwards
    # Cho et al. 2014, as in torch's documentation of nn.GRU.
    w, u = layer.weight_ih_l0.detach()[48:], layer.weight_hh_l0.detach()[48:]
    b, c = layer.bias_ih_l0.detach()[48:], layer.bias_hh_l0.detach()[48:]
    new = torch.tanh(seen @ w.T + b + reset * (before @ u.T + c))
    torch.testing.assert_close((1 - update) * new + update * before, after)


def test_waves_are_the_same_a_side_further_and_differ_in_between() -> None:
    place = torch.tensor([[3, 30]])
    torch.testing.assert_close(waves(place, 32), waves(place + 32, 32), atol=1e-5, rtol=0)
    assert (waves(place, 32) - waves(place + 1, 32)).norm() > 0.3


def test_training_it_resumes_where_it_was_stopped(tmp_path: Path) -> None:
    data, cpu = moving_digits.of(digits(16)), Accelerator(cpu=True)

    def trained(folder: Path, epochs: int, recipe: MotionTrainer) -> list[dict[str, float]]:
        run = Run(folder=folder, epochs=epochs, batch_size=8, seed=0, title="test", quiet=True)
        return fit(recipe, torch.arange(16), torch.arange(16), run=run, accelerator=cpu)

    made = [MotionTrainer(data, SMALL, seed=0, accelerator=cpu) for _ in range(2)]
    history = trained(tmp_path / "a", 2, made[0])
    assert history[-1]["held_loss"] < history[0]["held_loss"] + 0.5
    step = made[1].step

    def stop(batch: moving.MotionTrainer) -> dict[str, torch.Tensor]:  # type: ignore[valid-type]
        if batch.position == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return step(batch)  # type: ignore[arg-type]

    made[1].step = stop  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b", 2, made[1])
    resumed = MotionTrainer(data, SMALL, seed=7, accelerator=cpu)
    trained(tmp_path / "b", 2, resumed)
    for a, b in zip(made[0].average.parameters(), resumed.average.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_a_command_trains_publishes_measures_and_reports_both_nets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mnist, "load", digits)
    flags = ["--widths", "4,4,8", "--features", "16", "--hidden", "24", "--epochs", "1", "--batch-size", "400"]
    assert main(["motion", *flags]) == 0
    folder = tmp_path / "models" / "motion" / "1"
    manifest = onnx_model.load_manifest(folder)
    assert (manifest.task, manifest.modality, manifest.labels) == ("label-frames", "video", LABELS)
    figures = {q.name: q.value for q in manifest.quality}
    assert figures["accuracy_without_recurrence"] <= 0.25
    video = moving_digits.of(digits()).test_video.numpy()
    model = PublishedMotion(folder, manifest)
    p, states = model.label(video)
    assert p.shape == (40, 20, 9)
    np.testing.assert_allclose(p.sum(2), 1, atol=1e-5)
    assert states.shape == (40, 20, 24)
    assert (model.label_without_recurrence(video)[0, 3] == model.label_without_recurrence(video[:1, 3:4])[0, 0]).all()
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "without" in page
    assert len(json.loads((folder / "report" / "figures.json").read_text())["gates"]) == 2
    capsys.readouterr()
    status = main(["evaluate", "motion"])
    assert status == 0, capsys.readouterr()
    assert "The manifest says the same." in capsys.readouterr().out
