"""Small clips of every format whose frames are of one grey level each, shown for known times."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image

from app.core.manifest import PhotoPicture, Video

FORMATS = ("AVIF", "WEBP", "GIF", "PNG")
LOSSLESS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 100, "speed": 10},
    "WEBP": {"lossless": True},
    "GIF": {},
    "PNG": {},
}
VIDEO = Video(picture=PhotoPicture(kind="photo", height=8, width=8, channels=1), rate=25.0, max_frames=100)


def grey(level: int, width: int = 16, height: int = 12) -> Image.Image:
    return Image.new("L", (width, height), level)


def moving(
    form: str,
    levels: Sequence[int],
    durations_ms: Sequence[int] | int,
    size: tuple[int, int] = (16, 12),
    **options: Any,
) -> bytes:
    """A clip whose frame k has the level levels[k] and is shown for durations_ms[k]."""
    frames = [grey(level, *size) for level in levels]
    out = io.BytesIO()
    duration = list(durations_ms) if isinstance(durations_ms, Sequence) else durations_ms
    options = {**LOSSLESS[form], "duration": duration, **options}
    frames[0].save(out, form, save_all=True, append_images=frames[1:], **options)
    return out.getvalue()


def film(av: Any, form: str, levels: Sequence[int], times_ms: Sequence[int], size: tuple[int, int] = (64, 48)) -> bytes:
    """MP4 (H.264 with frames out of order) or WebM (VP9) by PyAV, whose frame k begins at times_ms[k]."""
    out = io.BytesIO()
    with av.open(out, "w", format=form) as container:
        track = container.add_stream("libx264" if form == "mp4" else "libvpx-vp9", rate=25)
        track.width, track.height, track.pix_fmt = *size, "yuv420p"
        track.codec_context.time_base = track.time_base = Fraction(1, 1000)
        if form == "mp4":
            track.options = {"bf": "2", "crf": "10"}
        for level, at in zip(levels, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), level, np.uint8), "rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(track.encode(frame))
        container.mux(track.encode())
    return out.getvalue()
