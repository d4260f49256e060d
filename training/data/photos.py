"""Grey photos of the published denoising protocol: Train400 to learn from, BSD68 and Set12 to be measured on.

Train400 and BSD68 are of the Berkeley segmentation data (Martin et al. 2001), as chosen by Chen and Pock 2017 (TNRD)
and Roth and Black 2009; Set12 is the dozen of DnCNN (Zhang et al. 2017). For research.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from app.core.manifest import DataSource
from training.data.base import DataError, cache_folder, data_folder, shuffled

FOLDER: Final = "denoise"
HOME: Final = "https://github.com/cszn/DnCNN"
PICTURES: Final = {"train400": 400, "bsd68": 68, "set12": 12}
HELD_OUT: Final = 20
SPLIT_SEED: Final = 400

Photo = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Photos:
    """Grey, uint8. `train` is trained on, `held` selects; `bsd68` and `set12` are looked at once, at the end."""

    train: torch.Tensor  # (380, 180, 180)
    held: torch.Tensor  # (20, 180, 180)
    bsd68: tuple[Photo, ...]  # (321, 481) or (481, 321) each
    set12: tuple[Photo, ...]  # (256, 256) or (512, 512) each

    @property
    def data_source(self) -> DataSource:
        """The manifest's field `data`."""
        return DataSource(
            name="Train400, tested on BSD68",
            source="Berkeley segmentation data (Martin et al. 2001), grey, as in DnCNN (Zhang et al. 2017), " + HOME,
            licence="for research and teaching",
            rows_train=len(self.train),
            rows_held_out=len(self.held),
            rows_test=len(self.bsd68),
            note=f"rows are photos; {len(self.held)} of the 400 training photos are held out for selection",
        )


def load() -> Photos:
    """All three sets.

    Raises:
        DataError: a set is missing or not whole, or a file is no grey picture.
    """
    train, bsd68, set12 = (_read(name) for name in PICTURES)
    if len(shapes := {photo.shape for photo in train}) != 1:
        raise DataError(f"train400: photos of several sizes, {sorted(shapes)}, expected one")
    pictures = np.stack(train)
    order = shuffled(len(pictures), seed=SPLIT_SEED)
    return Photos(
        train=torch.from_numpy(pictures[np.sort(order[HELD_OUT:])]),
        held=torch.from_numpy(pictures[np.sort(order[:HELD_OUT])]),
        bsd68=tuple(bsd68),
        set12=tuple(set12),
    )


def _read(name: str) -> list[Photo]:
    """The photos of one set, in the order of their names."""
    folder = next((p for root in (data_folder(), cache_folder()) if (p := root / FOLDER / name).is_dir()), None)
    wanted = data_folder() / FOLDER / name
    if folder is None:
        raise DataError(f"{wanted}: no such folder; put the {PICTURES[name]} PNG files of {name} there ({HOME})")
    paths = sorted(folder.glob("*.png"))
    if len(paths) != PICTURES[name]:
        raise DataError(f"{folder}: {len(paths)} PNG files, {name} has {PICTURES[name]}")
    return [_photo(path) for path in paths]


def _photo(path: Path) -> Photo:
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.array(image)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: cannot be read as a picture ({error})") from error
    if mode != "L":
        raise DataError(f"{path}: expected a grey picture of 8 bits, its mode is {mode}")
    return pixels
