"""Small picture files of every format and mode, made by Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from app.core.errors import LecternError
from app.core.manifest import DigitPicture, PhotoPicture

LIMIT = 1_000_000
DIGIT = DigitPicture(kind="digit", height=28, width=28, box=20)
PHOTO = PhotoPicture(kind="photo", height=32, width=32, channels=3)
GREY = PhotoPicture(kind="photo", height=32, width=32, channels=1)
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def scene(width: int = 48, height: int = 40) -> Image.Image:
    """Smooth colours, no two corners alike."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def about(error: LecternError, subject: str) -> None:
    """An error that a client can act on: it names where it is."""
    assert (error.subject or "").startswith(subject), repr(error.subject)


def example(form: str) -> bytes:
    return saved(scene(), form)
