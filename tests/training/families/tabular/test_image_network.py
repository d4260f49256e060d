"""The dense net for pictures: it knows nothing of pictures, and learns against its own worst directions."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from training.data.base import ImageDataset
from training.data.mnist import PICTURE
from training.families.tabular.image_network import FlatClassifier, FlatHyperparameters, FlatNet, flat, flat_for
from training.loop import Run, fit
from training.recipe import Batch

SMALL = FlatHyperparameters(widths=(16, 8), epochs=3, batch_size=32, dropout=0.2)


def dataset(order: np.ndarray | None = None) -> ImageDataset:
    """Noise with a bar whose place is the label; `order` puts the pixels elsewhere."""
    rng = np.random.default_rng(0)
    y = np.arange(160) % 4
    x = rng.integers(0, 120, (160, 28, 28, 1), dtype=np.uint8)
    for row, label in enumerate(y):
        x[row, 6 * label : 6 * label + 4] = 230
    if order is not None:
        x = x.reshape(160, -1)[:, order].reshape(160, 28, 28, 1)
    pictures, labels = torch.from_numpy(x), torch.from_numpy(y)
    return ImageDataset(
        name="bars", title="Bars", labels=("0", "1", "2", "3"), picture=PICTURE, train_x=pictures[:128],
        train_y=labels[:128], held_x=pictures[128:], held_y=labels[128:], test_x=pictures[128:], test_y=labels[128:],
        source="drawn", licence="none",
    )  # fmt: skip


def classifier(data: ImageDataset, h: FlatHyperparameters = SMALL) -> FlatClassifier:
    return FlatClassifier(data, h, seed=0, accelerator=Accelerator(cpu=True, mixed_precision="no"))


def a_batch(data: ImageDataset, rows: int = 32) -> Batch:
    return Batch(
        x=data.train_x[:rows], y=data.train_y[:rows], index=torch.arange(rows), share=slice(0, rows),
        generator=torch.Generator().manual_seed(0), epoch=0, position=0, progress=0.1,
    )  # fmt: skip


def test_it_learns_and_what_is_served_is_what_was_measured(tmp_path: Path) -> None:
    data = dataset()
    recipe = classifier(data)
    run = Run(folder=tmp_path, epochs=6, batch_size=32, seed=0, title="", quiet=True)
    history = fit(recipe, data.train_x, data.train_y, run=run, accelerator=recipe.accelerator)
    assert history[-1]["held_accuracy"] == 1.0
    assert torch.allclose(recipe.served()(data.held_x), recipe.logits(data.held_x), atol=1e-5)


def test_a_net_that_was_saved_and_loaded_goes_on_as_if_it_had_not_been() -> None:
    data = dataset()
    one, other = classifier(data), classifier(data)
    one.step(a_batch(data))
    other.load_state(copy.deepcopy(one.state()))  # as the checkpoint on disk is
    one.step(a_batch(data))
    other.step(a_batch(data))
    for a, b in zip(one.bare.state_dict().values(), other.bare.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_moving_all_pixels_alike_changes_nothing() -> None:
    """With the first layer's columns moved in step, every number on the way is the same."""
    order = np.random.default_rng(1).permutation(28 * 28)
    plain, moved = dataset(), dataset(order)
    one, other = classifier(plain), classifier(moved)
    with torch.no_grad():
        other.bare.layers[0].weight.copy_(one.bare.layers[0].weight[:, order])
    for _ in range(2):
        loss = [float(recipe.step(a_batch(data))["loss"]) for recipe, data in ((one, plain), (other, moved))]
        assert loss[0] == pytest.approx(loss[1], rel=1e-4)


def test_rows_are_moved_by_the_reach_in_the_direction_that_raises_their_loss_most() -> None:
    data = dataset()
    recipe = classifier(data, replace(SMALL, reach=0.05, dropout=0.0))
    seen: list[torch.Tensor] = []
    recipe.bare.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    recipe.step(a_batch(data))
    before, after = seen
    assert torch.equal(before, flat(data.train_x[:32]))
    step = after - before
    assert step.square().mean(1).sqrt().tolist() == pytest.approx([0.05] * 32, rel=1e-4)
    fresh = classifier(data, replace(SMALL, dropout=0.0)).bare
    fresh.train()

    def loss(x: torch.Tensor) -> float:
        return float(F.cross_entropy(fresh(x), data.train_y[:32]))

    away = torch.randn(step.shape, generator=torch.Generator().manual_seed(0))
    away = 0.05 * math.sqrt(784) * F.normalize(away, dim=1)
    with torch.no_grad():
        assert loss(after) > loss(before + away)
        assert loss(after) > loss(before)


def test_the_norms_running_statistics_are_those_of_real_rows_alone() -> None:
    data = dataset()
    still, moved = (classifier(data, replace(SMALL, reach=reach, dropout=0.0)) for reach in (0.0, 0.5))
    for recipe in (still, moved):
        recipe.step(a_batch(data))
    assert torch.equal(still.bare.norms[0].running_mean, moved.bare.norms[0].running_mean)  # type: ignore[arg-type]


def test_masks_multiply_what_the_units_give() -> None:
    net = FlatNet(pixels=6, classes=3, widths=(4,)).eval()
    x = torch.rand(5, 6)
    assert torch.allclose(net(x, [torch.zeros(5, 4)]), net.head.bias.expand(5, 3))
    assert torch.equal(net(x, [torch.ones(5, 4)]), net(x))


def test_a_small_folder_gets_smaller_batches_and_more_epochs() -> None:
    h = flat_for(dataset())
    assert h.batch_size == 16
    assert h.epochs * (128 // h.batch_size) >= 800
