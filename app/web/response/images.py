"""Pictures in an answer: from a graph's [0, 1] to 8 bits, to PNG, to base64."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.codecs.images.files import encode_png
from app.core.errors import InferenceFailed
from app.core.manifest import Picture, Tensors
from app.core.sampling.latents import Latents
from app.engine.model import Model

SMALL_PICTURES, SMALL_NUMBERS = 4096, 1 << 18
"""Values that are written on the event loop, as pictures and as numbers."""


def pixels_of(model: Model, rows: NDArray[np.uint8], picture: Picture | None = None) -> NDArray[np.uint8]:
    """The inputs of a picture model, as (N, H, W, C); `picture` where it is not the model's own."""
    return _upright(model, rows, picture)


def images_of(
    model: Model, decoded: Tensors, picture: Picture | None = None, *, name: str = "image"
) -> NDArray[np.float32]:
    """A graph's pictures: (N, H, W, C), from 0 to 1.

    Args:
        picture: what they are, where that is not the model's own.
        name: of the graph's output.

    Raises:
        InferenceFailed: there are values among them that are not numbers.
    """
    values: NDArray[np.float32] = _upright(model, _finite(model, name, decoded), picture)
    return np.clip(values, 0, 1)


def as_rows(pictures: NDArray[np.uint8], picture: Picture) -> NDArray[np.uint8]:
    """(N, H, W, C) as a graph takes them: (N, *picture.shape)."""
    return pictures if picture.layout == "hwc" else np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def codes_of(model: Model, coded: Tensors) -> Latents:
    """What a decoder takes of an encoder's outputs, the first of them, of a VAE the mean: (N, Z).

    Raises:
        InferenceFailed: as `images_of`.
    """
    first, *_ = [_finite(model, name, coded) for name in coded]
    return first


def _upright(model: Model, rows: NDArray[Any], picture: Picture | None = None) -> NDArray[Any]:
    picture = picture or model.manifest.picture
    assert picture is not None
    return rows if picture.layout == "hwc" else rows.transpose(0, 2, 3, 1)


def _finite(model: Model, name: str, outputs: Tensors) -> NDArray[np.float32]:
    values: NDArray[np.float32] = outputs[name]
    if not np.isfinite(values).all():
        raise InferenceFailed(f"model '{model.name}' gave values of '{name}' that are not numbers")
    return values


def in_8_bits(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """From 0 to 1 to the nearest grey level."""
    return np.rint(images * 255).astype(np.uint8)


def as_base64(pictures: NDArray[np.uint8], *, profile: bytes = b"") -> list[str]:
    """A PNG for each of (N, H, W, C), with the ICC profile of their colours."""
    return [base64.b64encode(encode_png(picture, profile=profile)).decode("ascii") for picture in pictures]


def size(decoded: Tensors) -> int:
    """How many values a decoder gave."""
    return sum(values.size for values in decoded.values())


def is_quick(values: int, *, numbers: bool = False) -> bool:
    """Whether so many values are written on the event loop, as pictures or as `numbers`; more go to a thread."""
    return values <= (SMALL_NUMBERS if numbers else SMALL_PICTURES)
