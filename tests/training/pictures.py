"""Pictures that a small net can learn in seconds: a folder of coloured patches, and rows of digits' kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from app.core.manifest import DigitPicture
from training.data.base import ImageDataset

COLOURS = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (210, 50, 40)}


def write_pictures(root: Path, *, per_class: int = 20, side: int = 16, seed: int = 0) -> Path:
    """`root/<colour>/<number>.png`, `per_class` of each, all different: noisy patches, told apart by their colour."""
    rng = np.random.default_rng(seed)
    for label, colour in COLOURS.items():
        (root / label).mkdir(parents=True)
        for i in range(per_class):
            pixels = np.clip(rng.normal(colour, 40, (side, side, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{i}.png")
    return root


Rows = tuple[Tensor, Tensor]  # x (N, H, W, 1) uint8, y (N,)


def dataset_of(name: str, labels: tuple[str, ...], *, train: Rows, held: Rows, test: Rows, box: int) -> ImageDataset:
    """A data set of these rows, which are digits of their size, drawn into the middle `box` pixels."""
    height, width = train[0].shape[1:3]
    return ImageDataset(
        name=name,
        title=name.capitalize(),
        labels=labels,
        picture=DigitPicture(kind="digit", height=height, width=width, box=box),
        train_x=train[0],
        train_y=train[1],
        held_x=held[0],
        held_y=held[1],
        test_x=test[0],
        test_y=test[1],
        source="made here",
        licence="CC0",
    )


def bars(rows: int, *, seed: int, side: int = 8) -> Rows:
    """Pictures of 8x8 or less with one bright column each, more or less bright; which column is the label, 0 to 3."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(rows, 8, 8, 1, dtype=torch.uint8)
    y = torch.arange(rows) % 4
    brightness = torch.randint(150, 256, (rows, 1, 1), generator=generator, dtype=torch.uint8)
    x[torch.arange(rows), :, 2 * y] = brightness
    return x[:, :side, :side], y


def bars_dataset(rows: int = 320, *, side: int = 8) -> ImageDataset:
    train, held, test = (bars(n, seed=n, side=side) for n in (rows, 64, 48))
    return dataset_of("bars", tuple("0123"), train=train, held=held, test=test, box=side - 2)
