"""Augmentation: what may change, what may not, and that the generator is the only chance in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from training.data import augment

Augmentation = Callable[[Tensor, Generator], Tensor]
ALL: dict[str, Augmentation] = {
    "shift": lambda x, g: augment.shift(x, g, pixels=3),
    "cut_out": lambda x, g: augment.cut_out(x, g, side=4),
    "handwrite": lambda x, g: augment.handwrite(x, g),
}


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(name: str) -> None:
    x = torch.rand(16, 1, 28, 28, generator=generator(9))
    first, again, other = (ALL[name](x, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == x.shape
    assert first.min() >= 0
    assert first.max() <= 1


def test_a_shift_shows_a_window_of_the_reflected_picture() -> None:
    x = torch.arange(2 * 6 * 5, dtype=torch.float32).view(2, 1, 6, 5)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    moved = augment.shift(x, generator(), pixels=2)
    for row in range(2):
        windows = [padded[row, 0, i : i + 6, j : j + 5] for i in range(5) for j in range(5)]
        assert any(torch.equal(moved[row, 0], window) for window in windows)


def test_a_cut_out_blanks_one_square_and_nothing_else() -> None:
    x = torch.rand(32, 3, 16, 16, generator=generator(3))
    cut = augment.cut_out(x, generator(4), side=4)
    changed = (cut != x).any(1)
    assert torch.equal(cut.permute(0, 2, 3, 1)[~changed], x.permute(0, 2, 3, 1)[~changed])
    for mask in changed:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert 1 <= len(rows) <= 4
        assert 1 <= len(columns) <= 4
        assert mask.sum() == len(rows) * len(columns), "one full square, cut by the border at most"


def test_every_row_is_seen_both_ways_in_each_pair_of_epochs_and_half_of_them_each_way() -> None:
    x = torch.rand(4000, 1, 1, 4, generator=generator(5))
    index = torch.arange(4000)
    first, second, third = (augment.mirror_alternately(x, index, epoch=e) for e in range(3))
    assert torch.equal(first, second.flip(-1))
    assert torch.equal(first, third)
    mirrored = (first != x).any(-1).flatten().float().mean()
    assert 0.45 < mirrored < 0.55


def test_handwriting_of_no_strength_leaves_unmarked_rows_as_they_are() -> None:
    x = torch.rand(400, 1, 28, 28, generator=generator(6))
    same = augment.handwrite(x, generator(7), strength=0.0)
    unchanged = ((same - x).abs().amax((1, 2, 3)) < 1e-4).float().mean()
    assert 0.8 < unchanged < 0.96, "the pen changes for 12 % of the rows, and for no others"
