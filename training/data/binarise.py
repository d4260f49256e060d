"""Static binarisation: each pixel becomes ink or paper once, for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training.data.base import ImageDataset

PROTOCOL: Final = (
    "pixels binarised once for all, in train, held-out and test rows alike: a pixel of value v is 1 where the next "
    "number of PCG64([2014, part]), its upper 53 bits as a fraction, is below v / 255, rows and pixels in their order; "
    "part 0 is train, 1 held out, 2 test"
)


def binarised(dataset: ImageDataset) -> ImageDataset:
    """The same rows with every pixel 0 or 255, 255 with probability v / 255 (Salakhutdinov and Murray 2008).

    Drawn from the bit generator's raw stream, which NumPy promises never to change (NEP 19).
    """
    note = f"{dataset.note}; {PROTOCOL}" if dataset.note else PROTOCOL
    return replace(
        dataset,
        train_x=_binary(dataset.train_x, part=0),
        held_x=_binary(dataset.held_x, part=1),
        test_x=_binary(dataset.test_x, part=2),
        note=note,
    )


def _binary(x: Tensor, *, part: int) -> Tensor:
    values = x.cpu().numpy()
    fractions = (np.random.PCG64([2014, part]).random_raw(values.size) >> np.uint64(11)) * 2.0**-53
    ink = fractions.reshape(values.shape) < values / 255
    return torch.from_numpy(ink.astype(np.uint8) * np.uint8(255)).to(x.device)
