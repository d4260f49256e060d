"""Handwritten digits that move over a small field, and in which direction: made here, so that the truth is exact.

The field has no edge: what leaves it on one side comes back on the other. So a digit is everywhere with the same
probability, whatever its direction, and a single frame tells nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Generator, Tensor

from app.core.manifest import DataSource
from training.data.base import ImageDataset

SIDE: Final = 32  # of the field, in pixels
FRAMES: Final = 20  # of a clip
RATE: Final = 10.0  # frames a second
CHANGE: Final = 0.2  # at every frame, how probably direction and speed are chosen anew
SPEEDS: Final = (2, 3, 4)  # pixels a frame, along each axis that it moves on
# Towards which side, in steps of (down, right): rows of the picture count downwards.
STEPS: Final = {
    "still": (0, 0),
    "right": (0, 1),
    "up-right": (-1, 1),
    "up": (-1, 0),
    "up-left": (-1, -1),
    "left": (0, -1),
    "down-left": (1, -1),
    "down": (1, 0),
    "down-right": (1, 1),
}
LABELS: Final = tuple(STEPS)
"""The label of a frame is the direction of the step from the frame before to it. The first frame is still."""
HELD_CLIPS: Final = 500
TEST_CLIPS: Final = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class MovingDigits:
    """Clips of held-out and of test digits; to train on, new ones are made of `train_digits`.

    Videos are uint8 (N, FRAMES, SIDE, SIDE), labels int64 (N, FRAMES).
    """

    train_digits: Tensor  # uint8 (N, 28, 28), as are the digits of the others
    held_video: Tensor
    held_labels: Tensor
    test_video: Tensor
    test_labels: Tensor
    digits: ImageDataset

    @property
    def data_source(self) -> DataSource:
        """The manifest's field `data`; rows are digits to train on, clips to be measured on."""
        return DataSource(
            name=f"{self.digits.title}, moving",
            source=f"made by training/data/moving_digits.py of {self.digits.source}",
            licence=self.digits.licence,
            rows_train=len(self.train_digits),
            rows_held_out=len(self.held_video),
            rows_test=len(self.test_video),
            note="rows to train on are digits, of which every step makes new clips; the others are clips",
        )


def of(digits: ImageDataset) -> MovingDigits:
    """The same clips each time to be measured on."""
    held, held_labels, _ = clips(digits.held_x[:HELD_CLIPS, ..., 0], Generator().manual_seed(1))
    test, test_labels, _ = clips(digits.test_x[:TEST_CLIPS, ..., 0], Generator().manual_seed(2))
    return MovingDigits(
        train_digits=digits.train_x[..., 0],
        held_video=held,
        held_labels=held_labels,
        test_video=test,
        test_labels=test_labels,
        digits=digits,
    )


def clips(digits: Tensor, generator: Generator, *, frames: int = FRAMES) -> tuple[Tensor, Tensor, Tensor]:
    """A clip of each digit (B, h, w) uint8.

    Returns: video (B, frames, SIDE, SIDE) uint8, labels (B, frames) int64, and the row and column of the digit's upper
    left corner (B, frames, 2) int64, 0 to SIDE - 1.
    """
    rows = len(digits)

    def drawn(*shape: int, end: int) -> Tensor:
        return torch.randint(end, shape, generator=generator)

    labels, speeds = drawn(rows, frames, end=len(LABELS)), torch.tensor(SPEEDS)[drawn(rows, frames, end=len(SPEEDS))]
    changes = torch.rand(rows, frames, generator=generator) < CHANGE
    labels[:, 0] = 0
    changes[:, :2] = True  # the first step is chosen, too
    since = torch.where(changes, torch.arange(frames), 0).cummax(1).values  # (B, frames): when it was last chosen
    labels, speeds = labels.gather(1, since), speeds.gather(1, since)
    steps = torch.tensor(list(STEPS.values()))[labels] * speeds[..., None]  # (B, frames, 2)
    place = (drawn(rows, 1, 2, end=SIDE) + steps.cumsum(1)) % SIDE
    return _drawn_at(digits, place), labels, place


def _drawn_at(digits: Tensor, place: Tensor) -> Tensor:
    """Digits (B, h, w) with their upper left corners at `place` (B, T, 2): (B, T, SIDE, SIDE)."""
    rows, height, width = digits.shape
    field = digits.new_zeros(rows, SIDE, SIDE)
    field[:, :height, :width] = digits
    pixels = torch.arange(SIDE)
    down, right = ((pixels - place[..., axis, None]) % SIDE for axis in (0, 1))  # (B, T, SIDE) each
    return field[torch.arange(rows)[:, None, None, None], down[..., None], right[..., None, :]]
