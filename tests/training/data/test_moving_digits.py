"""Moving digits: the label of each frame is exactly how the digit moved, and a frame alone tells nothing of it."""

from __future__ import annotations

import numpy as np
import torch

from training.data import moving_digits
from training.data.moving_digits import LABELS, SIDE, SPEEDS, STEPS, clips


def some(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    digits = torch.randint(1, 256, (rows, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(9))
    video, labels, place = clips(digits, torch.Generator().manual_seed(seed))
    return video.numpy(), labels.numpy(), place.numpy()


def test_every_frame_is_the_one_before_rolled_in_the_labels_direction_and_in_no_other() -> None:
    video, labels, _ = some(6)
    assert video.dtype == np.uint8
    for frames, said in zip(video, labels, strict=True):
        assert LABELS[said[0]] == "still"
        for before, frame, label in zip(frames, frames[1:], said[1:], strict=False):
            fitting = [
                name
                for name, (down, right) in STEPS.items()
                for speed in (SPEEDS if name != "still" else (1,))
                if (np.roll(before, (down * speed, right * speed), (0, 1)) == frame).all()
            ]
            assert fitting == [LABELS[label]]


def test_the_place_is_that_of_the_digits_upper_left_corner() -> None:
    digit = torch.zeros(1, 28, 28, dtype=torch.uint8)
    digit[0, 0, 0] = 255
    video, _, place = clips(digit, torch.Generator().manual_seed(3))
    for frame, (row, column) in zip(video[0], place[0], strict=True):
        assert frame.nonzero().tolist() == [[int(row), int(column)]]


def test_directions_are_equally_frequent_and_independent_of_the_place() -> None:
    _, labels, place = some(600)
    later = labels[:, 1:]
    share = np.bincount(later.ravel(), minlength=len(LABELS)) / later.size
    assert np.abs(share - 1 / 9).max() < 0.02
    left = place[:, 1:, 1] < SIDE // 2
    for label in range(len(LABELS)):
        assert abs(left[later == label].mean() - 0.5) < 0.06


def test_the_direction_changes_now_and_then_and_stays_in_between() -> None:
    _, labels, _ = some(600)
    changed = (labels[:, 2:] != labels[:, 1:-1]).mean()
    # Chosen anew with probability 0.2, of which one in nine is the same again.
    assert abs(changed - moving_digits.CHANGE * 8 / 9) < 0.02


def test_the_same_seed_makes_the_same_clips() -> None:
    one, other, another = some(2, seed=4), some(2, seed=4), some(2, seed=5)
    assert (one[0] == other[0]).all()
    assert (one[0] != another[0]).any()
