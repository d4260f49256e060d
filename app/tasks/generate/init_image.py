"""The initial picture of a request, and what of it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.errors import invalid
from app.core.manifest import Picture
from app.web.request import pixels
from app.web.request.images import decode_one

WHITE = 128  # grey levels from which a mask says: generate it anew


@dataclass(frozen=True, slots=True)
class InitImage:
    """Both in the graph's layout, without the axis of rows.

    Attributes:
        image: float32, from 0 to 1.
        known: 1 where it is kept, else 0; None where all may change.
    """

    image: NDArray[np.float32]
    known: NDArray[np.float32] | None


def read(image: object, mask: object, picture: Picture, max_pixels: int) -> InitImage:
    """Both as they are where the picture has the model's size; else the picture as the model reads any.

    Raises:
        UnsupportedMedia, Unprocessable, TooLarge: as the codecs; with a mask also where one of them has another size.
    """
    size, channels = (picture.height, picture.width), picture.channels
    if mask is None:
        image_pixels, _ = pixels.picture(
            image, size=None, channels=channels, subject="init_image", max_pixels=max_pixels
        )
        if image_pixels.shape[:2] != size:
            row = decode_one(image, picture, "init_image", max_pixels)
            return InitImage(pixels.floats(row), None)
        return InitImage(pixels.floats(_in_layout(image_pixels, picture)), None)
    image_pixels, _ = pixels.picture(image, size=size, channels=channels, subject="init_image", max_pixels=max_pixels)
    mask_pixels, _ = pixels.picture(mask, size=size, channels=1, subject="mask", max_pixels=max_pixels)
    changed = mask_pixels >= WHITE
    if not changed.any():
        raise invalid(
            "mask",
            expected=f"a pixel of {WHITE} or more",
            got=f"{int(np.max(changed))} of them",
            detail=f"mask is black everywhere, nothing would be drawn: white ({WHITE} or more) says where",
        )
    return InitImage(
        pixels.floats(_in_layout(image_pixels, picture)), _in_layout((~changed).astype(np.float32), picture)
    )


def _in_layout(pixels: NDArray[Any], picture: Picture) -> NDArray[Any]:
    return pixels if picture.layout == "hwc" else np.ascontiguousarray(pixels.transpose(2, 0, 1))
