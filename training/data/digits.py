"""scikit-learn's 1,797 handwritten digits, 8x8, read as if they were pictures sent to the server.

They are the test part of the UCI set Optical Recognition of Handwritten Digits (Alpaydin, Kaynak 1998): 43 people
who are not in MNIST. They are enlarged tenfold, put on a black ground and read by the codec like any handwriting,
so an MNIST model's accuracy on them tells how it does on strangers' digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from app.codecs.images import files as images
from training.data.base import DataError, ImageDataset, stratified, tensor
from training.data.mnist import PICTURE

DESCRIPTION = "scikit-learn's digits: 1,797 handwritten digits, 8x8 enlarged, grey, 10 classes"
ENLARGED_PX = 80
MARGIN_PX = 15  # the page is too small for the codec to look for several pieces: each has one digit
PER_CLASS = 18
SPLIT_SEED = 1998


def where() -> str | None:
    return "scikit-learn"


def load() -> ImageDataset:
    """1,437 train, 180 held out, 180 test rows; `everything()` gives them all.

    Raises:
        DataError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(f"digits: come with scikit-learn, which cannot be imported ({error})") from error
    found = load_digits()
    y = np.asarray(found.target, dtype=np.int64)
    bar = tqdm(found.images, desc="digits: reading", unit="picture", delay=1.0, leave=False)
    x = np.stack([_as_handwriting(image) for image in bar])
    rest, test = stratified(y, [PER_CLASS] * 10, seed=SPLIT_SEED)
    kept, held = stratified(y[rest], [PER_CLASS] * 10, seed=SPLIT_SEED)
    return ImageDataset(
        name="digits",
        title="UCI digits (8x8)",
        labels=tuple("0123456789"),
        picture=PICTURE,
        train_x=tensor(x[rest][kept]),
        train_y=tensor(y[rest][kept]),
        held_x=tensor(x[rest][held]),
        held_y=tensor(y[rest][held]),
        test_x=tensor(x[test]),
        test_y=tensor(y[test]),
        source="Alpaydin, Kaynak: Optical Recognition of Handwritten Digits, UCI (1998), from scikit-learn",
        licence="CC BY 4.0",
        note=f"8x8 pixels enlarged to {ENLARGED_PX}x{ENLARGED_PX}, then read as handwriting",
    )


def _as_handwriting(ink: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(8, 8), 0 to 16 -> (28, 28, 1), uint8."""
    small = Image.fromarray(np.rint(ink * (255 / 16)).astype(np.uint8))
    side = ENLARGED_PX + 2 * MARGIN_PX
    page = Image.new("L", (side, side))
    page.paste(small.resize((ENLARGED_PX, ENLARGED_PX), Image.Resampling.BICUBIC), (MARGIN_PX, MARGIN_PX))
    return images.decode(images.encode_png(np.asarray(page)), PICTURE, subject="digit", max_pixels=side * side)
