"""A folder of pictures that a small net can learn in seconds: noisy patches, told apart by their colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (210, 50, 40)}


def write_pictures(root: Path, *, per_class: int = 20, side: int = 16, seed: int = 0) -> Path:
    """`root/<colour>/<number>.png`, `per_class` of each, all different."""
    rng = np.random.default_rng(seed)
    for label, colour in COLOURS.items():
        (root / label).mkdir(parents=True)
        for i in range(per_class):
            pixels = np.clip(rng.normal(colour, 40, (side, side, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{i}.png")
    return root
