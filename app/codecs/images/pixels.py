"""From any Pillow mode to 8 bits a channel, full scale to full scale: nothing is clipped, nothing is lost but depth.

Colours are sRGB behind this: those of a file with an ICC profile of another space are converted, unless they are asked
for as they are. Grey stays as it is.
"""

from __future__ import annotations

import io
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

MAX_PROFILE_BYTES: Final = 4 << 20  # the largest that printers come with
_BITS_PER_SAMPLE: Final = 258  # TIFF 6.0, section 8
_PHOTOMETRIC: Final = 262  # 0: white is zero
_SAMPLE_FORMAT: Final = 339  # 1: without a sign


class NotANumber(ValueError):
    """A pixel of a floating-point picture is NaN or infinite."""


def to_8_bit(image: Image.Image, *, own_colours: bool = False) -> Image.Image:
    """Mode `L`, `LA`, `RGB` or `RGBA` of a loaded picture of any mode.

    Grey of more than 8 bits is scaled by its own full scale (12-bit: 4095, 16-bit: 65535). Where the format does
    not define the full scale (32-bit integers, floats), it is the smallest of 1 (floats only), 255, 65535 and 2^32 - 1
    (integers only) that holds every value. Where none does, the values are stretched from least to greatest.

    Args:
        own_colours: red, green and blue stay those of the file's own space.

    Raises:
        NotANumber: NaN or infinity among the pixels.
    """
    mode = image.mode
    coloured = ("CMYK",) if own_colours else ("RGB", "RGBA", "RGBX", "CMYK")
    if mode in coloured and (profile := _other_profile(image)) is not None:
        return _to_srgb(image, profile)
    if mode.startswith("I;16"):
        return _from_16_bit(image)
    if mode in ("I", "F"):
        shade = Image.fromarray(_from_unbounded(_deep(image)))
        return ImageOps.invert(shade) if _white_is_zero(image) else shade
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
    table = 255 - table if _white_is_zero(image) else table
    grey = Image.fromarray(table[values])
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _deep(image: Image.Image) -> NDArray[Any]:
    """The values of 32-bit integers, with a sign or without, or floats."""
    if image.mode == "F":
        return np.array(image, dtype=np.float32)
    values = np.array(image, dtype=np.int32)
    tags = getattr(image, "tag_v2", {})
    if tags.get(_BITS_PER_SAMPLE, (0,))[0] == 32 and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1:
        return values.view(np.uint32).astype(np.float64)
    return values.astype(np.float64)


def _white_is_zero(image: Image.Image) -> bool:
    """The decoder turns 8 bits and fewer round itself."""
    return bool(getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0)


def _from_unbounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low) or not np.isfinite(high):  # min and max pass NaN on
        raise NotANumber("a pixel is NaN or infinite")
    scales = (1.0, 255.0, 65535.0) if values.dtype == np.float32 else (255.0, 65535.0, 4294967295.0)
    full = next((s for s in scales if low >= 0 and high <= s), None)
    if full is None:
        values = values.astype(np.float64) - low
        full = max(high - low, np.finfo(np.float64).tiny)
    return np.rint(values * (255.0 / full)).astype(np.uint8)


def own_profile(image: Image.Image) -> bytes:
    """The ICC profile of a file's red, green and blue, where `to_8_bit` keeps them; else nothing."""
    of_colours = image.mode not in ("CMYK", "LAB") and _other_profile(image) is not None
    return bytes(image.info["icc_profile"]) if of_colours else b""


def _other_profile(image: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """A file's profile; None where there is none, where it is that of sRGB, or where it cannot be read."""
    data = image.info.get("icc_profile", b"")
    if not data or len(data) > MAX_PROFILE_BYTES:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        space, name = profile.profile.xcolor_space.strip(), profile.profile.profile_description or ""
    except Exception:  # whatever is wrong with it, the pixels are readable
        return None
    wanted = "CMYK" if image.mode == "CMYK" else "RGB"
    return None if space != wanted or "sRGB" in name else profile


def _to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    """Colours by perception, transparency as it is."""
    clear = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    opaque = image if image.mode == "CMYK" else image.convert("RGB")
    try:
        found = ImageCms.profileToProfile(opaque, profile, _srgb(), outputMode="RGB")
    except ImageCms.PyCMSError:  # a profile without what a conversion needs
        found = None
    found = opaque.convert("RGB") if found is None else found
    if clear is not None:
        found.putalpha(clear)
    return found


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("LAB picture was not converted")
    return converted
