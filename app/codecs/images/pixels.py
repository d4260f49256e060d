"""From any Pillow mode to 8 bits a channel, full scale to full scale: nothing is clipped, nothing is lost but depth.

ICC profiles are ignored: what counts as red here is what the file calls red.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_BITS_PER_SAMPLE: Final = 258  # TIFF 6.0, section 8


class NotANumber(ValueError):
    """A pixel of a floating-point picture is NaN or infinite."""


def to_8_bit(image: Image.Image) -> Image.Image:
    """Mode `L`, `LA`, `RGB` or `RGBA` of a loaded picture of any mode.

    Grey of more than 8 bits is scaled by its own full scale (12-bit: 4095, 16-bit: 65535). Where the format does
    not define the full scale (32-bit integers, floats), it is the smallest of 1 (floats only), 255 and 65535 that
    holds every value. Where none does, the values are stretched from least to greatest.

    Raises:
        NotANumber: NaN or infinity among the pixels.
    """
    mode = image.mode
    if mode.startswith("I;16"):
        return _from_16_bit(image)
    if mode in ("I", "F"):
        return Image.fromarray(_from_unbounded(np.array(image, dtype=np.float32 if mode == "F" else np.float64)))
    if mode == "LAB":
        return _lab_to_rgb(image)
    grey = mode in ("1", "L", "LA", "La")
    if mode == "La":
        return image.convert("LA")
    if image.has_transparency_data:
        return image.convert("LA" if grey else "RGBA")
    return image.convert("L" if grey else "RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.uint16)  # native byte order
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
    full = 4095 if bits == 12 else 65535
    # A table of 64 KiB instead of wide intermediates of the picture's size.
    table = ((np.minimum(np.arange(65536), full) * 255 + full // 2) // full).astype(np.uint8)
    grey = Image.fromarray(table[values])
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _from_unbounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low) or not np.isfinite(high):  # min and max pass NaN on
        raise NotANumber("a pixel is NaN or infinite")
    scales = (1.0, 255.0, 65535.0) if values.dtype == np.float32 else (255.0, 65535.0)
    full = next((s for s in scales if low >= 0 and high <= s), None)
    if full is None:
        values = values.astype(np.float64) - low
        full = max(high - low, np.finfo(np.float64).tiny)
    return np.rint(values * (255.0 / full)).astype(np.uint8)


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("LAB picture was not converted")
    return converted
