"""Pictures without noise, as JSON values, as rows and as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codecs.decimals import rounded
from app.codecs.images import grids
from app.core.errors import ClientError, TooLarge, invalid
from app.engine.model import Model
from app.tasks.denoise.fixed_size import PosteriorSamples
from app.tasks.denoise.noise_level import Sigmas
from app.tasks.denoise.schema import WHITE
from app.web.request.media_types import PNG
from app.web.request.model_choice import MAX_OUTPUT_PIXELS
from app.web.request.pixels import Pixels
from app.web.response.images import as_base64, in_8_bits

DIGITS = 6  # of a standard deviation


@dataclass(frozen=True, slots=True)
class Outcome:
    """Pictures without noise.

    Attributes:
        inputs, images: (H, W, C) each.
        profiles: ICC, of each one's colours; empty where these are sRGB, or grey.
        sigmas: (N,), pixels from 0 to 1; estimated or given.
        sampled: float32 (N, samples, H, W, C), as `samples` says.
    """

    model: Model
    inputs: Sequence[Pixels]
    profiles: Sequence[bytes]
    images: Sequence[Pixels]
    sigmas: Sigmas
    estimated: bool
    samples: PosteriorSamples | None = None
    sampled: NDArray[np.float32] | None = None

    @property
    def sigmas_255(self) -> list[float]:
        """In grey levels."""
        return rounded((255 * self.sigmas.astype(np.float64)).tolist(), DIGITS)

    @property
    def spread(self) -> NDArray[np.float32]:
        """The standard deviation of the samples, (N, H, W, C), at most 0.5."""
        assert self.sampled is not None
        deviation: NDArray[np.float32] = self.sampled.std(axis=1)
        return deviation

    @property
    def size(self) -> int:
        """How many values there are to be written."""
        return sum(image.size for image in self.images) + (0 if self.sampled is None else self.sampled.size)


def rows(outcome: Outcome) -> NDArray[np.float32]:
    """As numbers: float32 (N, H, W, C), or of samples (N, samples, H, W, C)."""
    return np.stack(outcome.images).astype(np.float32, copy=False) if outcome.sampled is None else outcome.sampled


def profile(outcome: Outcome) -> bytes:
    """That of a page with all pictures, where they have one in common."""
    return outcome.profiles[0] if len(set(outcome.profiles)) == 1 else b""


def page(outcome: Outcome, layout: str, columns: int | None) -> NDArray[np.uint8]:
    """All pictures as one; of samples a row for each picture: the noisy one, the posterior mean, the
    samples, and its spread."""
    images = grids.framed([_in_8_bits(image) for image in outcome.images])
    inputs = grids.framed([_in_8_bits(pixels) for pixels in outcome.inputs])
    if outcome.sampled is not None:
        sampled = [in_8_bits(outcome.sampled[:, k]) for k in range(outcome.sampled.shape[1])]
        return grids.grid(grids.beside(inputs, images, *sampled, _shown(outcome.spread)), 1)
    if layout == "pairs":
        return grids.pairs(inputs, images, columns)
    return grids.grid(images, columns or grids.near_square(*images.shape[:3]))


def as_json(outcome: Outcome) -> dict[str, Any]:
    """DenoiseAnswer, as JSON values."""
    model = outcome.model
    results: list[dict[str, Any]] = [
        {
            "image": as_base64(_in_8_bits(image)[None], profile=own)[0],
            "sigma_255": sigma,
            "estimated": outcome.estimated,
        }
        for image, own, sigma in zip(outcome.images, outcome.profiles, outcome.sigmas_255, strict=True)
    ]
    details: dict[str, Any] = {"model": model.name, "version": model.version, "device": model.device}
    if outcome.sampled is not None and outcome.samples is not None:
        details |= {"seed": outcome.samples.seed, "steps": outcome.samples.steps}
        spread = outcome.spread
        shown = as_base64(_shown(spread))
        for i, result in enumerate(results):
            mean_255, max_255 = rounded([255 * float(spread[i].mean()), 255 * float(spread[i].max())], DIGITS)
            result["samples"] = as_base64(in_8_bits(outcome.sampled[i]), profile=outcome.profiles[i])
            result["spread"] = {"mean_255": mean_255, "max_255": max_255, "image": shown[i]}
    return details | {"results": results}


def check_page(inputs: Sequence[Pixels]) -> None:
    """Raises TooLarge where several pictures on one page, each in a frame of the largest, are too many pixels."""
    shapes = [pixels.shape for pixels in inputs]
    pixels = len(shapes) * max(shape[0] for shape in shapes) * max(shape[1] for shape in shapes)
    if len(shapes) > 1 and pixels > MAX_OUTPUT_PIXELS:
        raise _too_many(pixels, f"on one {PNG}")


def check_rows(inputs: Sequence[Pixels]) -> None:
    """Raises Unprocessable where pictures of several sizes do not make one array, TooLarge where it is too large."""
    shapes = list(dict.fromkeys(pixels.shape for pixels in inputs))
    if len(shapes) > 1:
        got = " and ".join(str(shape) for shape in shapes[:2])
        raise invalid(
            "images",
            expected="pictures of one size, or another form of answer",
            got=got,
            detail=f"the pictures are of the shapes {got}: rows of one array are of one shape",
        )
    pixels = len(inputs) * shapes[0][0] * shapes[0][1]
    if pixels > MAX_OUTPUT_PIXELS:
        raise _too_many(pixels, "as numbers")


def _too_many(pixels: int, how: str) -> ClientError:
    return invalid(
        "images",
        expected=f"at most {MAX_OUTPUT_PIXELS} pixels, or another form of answer",
        got=f"{pixels} pixels",
        detail=f"the answer would have {pixels} pixels, {how} it has at most {MAX_OUTPUT_PIXELS}",
        error=TooLarge,
    )


def _in_8_bits(pixels: Pixels) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return in_8_bits(np.clip(pixels, 0, 1).astype(np.float32, copy=False))


def _shown(spread: NDArray[np.float32]) -> NDArray[np.uint8]:
    return in_8_bits(np.clip(spread / np.float32(WHITE), 0, 1))
