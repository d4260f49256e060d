"""The media types of bodies and of responses."""

from __future__ import annotations

from typing import Final

from app.codecs.audio.formats import MEDIA_TYPES

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
CSV: Final = "text/csv"
PNG: Final = "image/png"
FORM: Final = "multipart/form-data"
URL_ENCODED: Final = "application/x-www-form-urlencoded"
TEXT: Final = "text/plain"
SRT: Final = "application/x-subrip"
VTT: Final = "text/vtt"
EVENT_STREAM: Final = "text/event-stream"
IMAGES: Final = (PNG, "image/jpeg", "image/webp", "image/avif", "image/bmp", "image/gif", "image/tiff")
VIDEOS: Final = ("image/avif", "image/webp", "image/gif", PNG, "video/mp4", "video/webm")
SOUNDS: Final = MEDIA_TYPES
ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": PNG,
    "image/tif": "image/tiff",
    "image/x-tiff": "image/tiff",
    "image/x-bmp": "image/bmp",
    "image/x-ms-bmp": "image/bmp",
    "application/csv": CSV,
    "text/x-csv": CSV,
    "text/comma-separated-values": CSV,
    "text/json": JSON,
    "application/x-json": JSON,
}
"""Other names of the same types, as clients write them; none is in the document."""
