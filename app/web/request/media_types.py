"""The media types of bodies and of responses."""

from __future__ import annotations

from typing import Final

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
CSV: Final = "text/csv"
PNG: Final = "image/png"
FORM: Final = "multipart/form-data"
EVENT_STREAM: Final = "text/event-stream"
IMAGES: Final = (PNG, "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff")
