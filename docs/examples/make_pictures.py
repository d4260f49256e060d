"""Write a folder of pictures to train on: scikit-learn's 1,797 handwritten digits, one sub-folder per class.

.venv/bin/python docs/examples/make_pictures.py runs/handwritten
"""

from __future__ import annotations

import sys
from pathlib import Path

try:
    from PIL import Image
    from sklearn.datasets import load_digits
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}; `make training` installs what training needs") from None

TRAIN = 1_500  # the rest are the test part; the pictures of both parts come from different people


def main(root: Path) -> None:
    digits = load_digits()
    for i, (ink, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = root / ("train" if i < TRAIN else "test") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((255 - ink * 255 / 16).round().astype("uint8"))  # dark ink on white paper
        picture.resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{i:04}.png")
    print(f"{root}: {len(digits.images):,} pictures in train/ and test/, one sub-folder for each of the digits 0 to 9")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/handwritten"))
