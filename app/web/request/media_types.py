"""The media types of bodies and of responses."""

from __future__ import annotations

from typing import Final

JSON: Final = "application/json"
NPY: Final = "application/x-npy"
CSV: Final = "text/csv"
PNG: Final = "image/png"
FORM: Final = "multipart/form-data"
TEXT: Final = "text/plain"
SRT: Final = "application/x-subrip"
VTT: Final = "text/vtt"
EVENT_STREAM: Final = "text/event-stream"
IMAGES: Final = (PNG, "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff")
SOUNDS: Final = (
    *("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/flac", "audio/x-flac", "audio/ogg"),
    *("audio/opus", "audio/mpeg", "audio/mp3", "audio/mp4", "audio/x-m4a", "audio/aac", "audio/webm"),
)
"""A browser's recording names its codec in a parameter; what a file really is is read from its bytes."""
