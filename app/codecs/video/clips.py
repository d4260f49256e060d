"""Clips in every form to frames at the rate that a manifest declares.

Whatever the bytes, only `UnsupportedMedia` (415), `Unprocessable` (422) and `TooLarge` (413) leave.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.codecs.images.files import row_of
from app.codecs.npy import decode_npy, npy_form
from app.codecs.video import animated, media
from app.codecs.video.resampling import Clip, of_rows, resampled
from app.core.errors import ClientError, invalid, over_limit
from app.core.manifest import Picture, Video

__all__ = ["Clip", "decode", "of_rows"]


def decode(data: bytes, video: Video, *, subject: str, max_frames: int, max_pixels: int) -> Clip:
    """The bytes of a clip as frames at `video.rate`.

    Args:
        data: animated AVIF, WebP, GIF or PNG; MP4 or WebM where PyAV is installed; .npy of uint8, (T, H, W) or
            (T, H, W, C), whose frames are at `video.rate`.
        video: the frames that the manifest declares.
        subject: what to call the clip in errors, e.g. "body".
        max_frames: of the file; those of the result are limited by `video.max_frames`.
        max_pixels: greatest width x height of a frame; all frames together may have FRAMES_PIXELS times as many.

    Raises:
        UnsupportedMedia: no clip, or one of another format.
        TooLarge: more frames or pixels than the limits.
        Unprocessable: empty, cut off, damaged, frames that differ in size, times that run backwards.
    """
    if data.startswith(b"\x93NUMPY"):
        return _of_array(data, video, subject, max_frames, max_pixels)
    frames = media.frames if media.is_media(data) else animated.frames
    shown = frames(data, subject=subject, max_frames=max_frames, max_pixels=max_pixels)
    return resampled(shown, video, subject=subject)


def _of_array(data: bytes, video: Video, subject: str, max_frames: int, max_pixels: int) -> Clip:
    """Frames of the graph's own shape are its rows; those of another size are pictures."""
    shape, _ = npy_form(data, subject=subject)
    picture, most = video.picture, min(max_frames, video.max_frames)
    own = {picture.shape, picture.shape[:-1]} if picture.shape[-1] == 1 else {picture.shape}
    uint8 = np.dtype(np.uint8)
    if shape in own or shape[1:] in own:
        rows = decode_npy(data, dtype=uint8, row_shape=picture.shape, max_rows=most, subject=subject)
        return of_rows(rows, video.rate)
    if len(shape) not in (3, 4) or shape[0] == 0 or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise _of_another_shape(shape, subject)
    if shape[0] > most:
        raise over_limit(subject, got=f"{shape[0]} frames", most=most, unit="frames")
    animated.check_pixels(shape[2], shape[1], shape[0], subject, max_pixels)
    frames = decode_npy(data, dtype=uint8, row_shape=shape[1:], max_rows=most, subject=subject)
    return of_rows(np.stack([_row(frame, picture, f"{subject}[{i}]") for i, frame in enumerate(frames)]), video.rate)


def _row(frame: NDArray[np.uint8], picture: Picture, subject: str) -> NDArray[np.uint8]:
    pixels = frame[:, :, 0] if frame.ndim == 3 and frame.shape[2] == 1 else frame
    return row_of(Image.fromarray(pixels), picture, subject=subject)


def _of_another_shape(shape: tuple[Any, ...], subject: str) -> ClientError:
    expected = "(frames, height, width), or (frames, height, width, 1 or 3)"
    return invalid(subject, expected=expected, got=f"shape {shape}", where=f"{subject}:", verb="has", rule="expected")
