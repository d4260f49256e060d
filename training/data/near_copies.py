"""Pictures of one part that are nearly those of another: cropped a little, scaled, or compressed once more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS: Final = 64
MOST_BITS: Final = 6
"""That may differ between the hashes of near-copies; of two photographs that have nothing in common 32 do."""
MOST_LEVELS: Final = 8.0
"""Mean difference of a pixel between near-copies."""
LEAST_LEVELS: Final = 8.0
"""Standard deviation of a picture's grey levels, below which there is too little in it to tell."""
_AT_ONCE: Final = 256


def near_copies(
    parts: Mapping[str, Sequence[tuple[str, NDArray[np.uint8] | None]]],
) -> list[tuple[str, str]]:
    """Paths of pictures outside of "train" with that of the training picture which each nearly is.

    By the difference hash of 64 bits (neighbours of a picture of 9 x 8 compared), and then by the pixels.

    Args:
        parts: path and pixels (H, W, 3) of each picture, all of one size.
    """
    train = [(path, pixels) for path, pixels in parts.get("train", ()) if pixels is not None]
    if not train:
        return []
    hashes = np.array([_hash(pixels) for _, pixels in train])
    found: list[tuple[str, str]] = []
    for name, part in parts.items():
        if name == "train":
            continue
        told = [(path, pixels) for path, pixels in part if pixels is not None and _grey(pixels).std() >= LEAST_LEVELS]
        for start in range(0, len(told), _AT_ONCE):
            some = told[start : start + _AT_ONCE]
            away = np.bitwise_count(np.array([_hash(pixels) for _, pixels in some])[:, None] ^ hashes)
            nearest = away.argmin(axis=1)
            for (path, pixels), row, near in zip(some, away, nearest.tolist(), strict=True):
                if row[near] <= MOST_BITS and _levels_apart(pixels, train[near][1]) <= MOST_LEVELS:
                    found.append((path, train[near][0]))
    return found


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(pixels).convert("L"))


def _hash(pixels: NDArray[np.uint8]) -> np.uint64:
    small = np.asarray(Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX))
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return np.uint64(int("".join("1" if bit else "0" for bit in bits), 2))


def _levels_apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())
