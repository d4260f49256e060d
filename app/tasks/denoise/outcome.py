"""What a request has brought, as JSON values, as rows and as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codecs.decimals import rounded
from app.codecs.images import grids
from app.core.errors import TooLarge, Unprocessable
from app.engine.model import Model
from app.tasks.denoise.fixed_size import Draw
from app.tasks.denoise.noise_level import Sigmas
from app.tasks.denoise.schema import WHITE
from app.web.request.model_choice import MADE_PIXELS
from app.web.request.pixels import Pixels
from app.web.response import images as painted

DIGITS = 6  # of a standard deviation


@dataclass(frozen=True, slots=True)
class Made:
    """Pictures without noise.

    Attributes:
        inputs, images: (H, W, C) each.
        sigmas: (N,), pixels from 0 to 1; estimated or told.
        drawn: float32 (N, samples, H, W, C), of what `draw` says.
    """

    model: Model
    inputs: Sequence[Pixels]
    images: Sequence[Pixels]
    sigmas: Sigmas
    estimated: bool
    draw: Draw | None = None
    drawn: NDArray[np.float32] | None = None

    @property
    def sigmas_255(self) -> list[float]:
        """In grey levels."""
        return rounded((255 * self.sigmas.astype(np.float64)).tolist(), DIGITS)

    @property
    def spread(self) -> NDArray[np.float32]:
        """The standard deviation of what was drawn, (N, H, W, C), at most 0.5."""
        assert self.drawn is not None
        deviation: NDArray[np.float32] = self.drawn.std(axis=1)
        return deviation

    @property
    def size(self) -> int:
        """How many values there are to be written."""
        return sum(image.size for image in self.images) + (0 if self.drawn is None else self.drawn.size)


def rows(made: Made) -> NDArray[np.float32]:
    """As numbers: float32 (N, H, W, C), or of what was drawn (N, samples, H, W, C)."""
    return np.stack(made.images).astype(np.float32, copy=False) if made.drawn is None else made.drawn


def page(made: Made, layout: str, columns: int | None) -> NDArray[np.uint8]:
    """All pictures as one; of what was drawn a row for each picture: the noisy one, what is to be expected, what was
    drawn, and its spread."""
    images = grids.framed([_in_8_bits(image) for image in made.images])
    inputs = grids.framed([_in_8_bits(pixels) for pixels in made.inputs])
    if made.drawn is not None:
        samples = [painted.in_8_bits(made.drawn[:, k]) for k in range(made.drawn.shape[1])]
        return grids.grid(grids.beside(inputs, images, *samples, _shown(made.spread)), 1)
    if layout == "pairs":
        return grids.pairs(inputs, images, columns)
    return grids.grid(images, columns or grids.near_square(*images.shape[:3]))


def as_json(made: Made) -> dict[str, Any]:
    """DenoiseAnswer, as JSON values."""
    model = made.model
    results: list[dict[str, Any]] = [
        {"image": painted.as_base64(_in_8_bits(image)[None])[0], "sigma_255": sigma, "estimated": made.estimated}
        for image, sigma in zip(made.images, made.sigmas_255, strict=True)
    ]
    told: dict[str, Any] = {"model": model.name, "version": model.version, "device": model.device}
    if made.drawn is not None and made.draw is not None:
        told |= {"seed": made.draw.seed, "steps": made.draw.steps}
        spread = made.spread
        shown = painted.as_base64(_shown(spread))
        for i, result in enumerate(results):
            mean_255, max_255 = rounded([255 * float(spread[i].mean()), 255 * float(spread[i].max())], DIGITS)
            result["samples"] = painted.as_base64(painted.in_8_bits(made.drawn[i]))
            result["spread"] = {"mean_255": mean_255, "max_255": max_255, "image": shown[i]}
    return told | {"results": results}


def check_page(inputs: Sequence[Pixels]) -> None:
    """Raises TooLarge where several pictures on one page, each in a frame of the largest, are too many pixels."""
    shapes = [pixels.shape for pixels in inputs]
    pixels = len(shapes) * max(shape[0] for shape in shapes) * max(shape[1] for shape in shapes)
    if len(shapes) > 1 and pixels > MADE_PIXELS:
        raise _too_many(pixels, f"on one {painted.PNG}")


def check_rows(inputs: Sequence[Pixels]) -> None:
    """Raises Unprocessable where pictures of several sizes do not make one array, TooLarge where it is too large."""
    shapes = list(dict.fromkeys(pixels.shape for pixels in inputs))
    if len(shapes) > 1:
        got = " and ".join(str(shape) for shape in shapes[:2])
        raise Unprocessable(
            f"the pictures are of the shapes {got}: rows of one array are of one shape",
            subject="images",
            expected="pictures of one size, or another form of answer",
            got=got,
        )
    pixels = len(inputs) * shapes[0][0] * shapes[0][1]
    if pixels > MADE_PIXELS:
        raise _too_many(pixels, "as numbers")


def _too_many(pixels: int, how: str) -> TooLarge:
    return TooLarge(
        f"the answer would have {pixels} pixels, {how} it has at most {MADE_PIXELS}",
        subject="images",
        expected=f"at most {MADE_PIXELS} pixels, or another form of answer",
        got=f"{pixels} pixels",
    )


def _in_8_bits(pixels: Pixels) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return painted.in_8_bits(np.clip(pixels, 0, 1).astype(np.float32, copy=False))


def _shown(spread: NDArray[np.float32]) -> NDArray[np.uint8]:
    return painted.in_8_bits(np.clip(spread / np.float32(WHITE), 0, 1))
