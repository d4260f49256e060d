"""The clip of a request as the model's frames."""

from __future__ import annotations

from typing import Final

import numpy as np

from app.codecs.images.files import from_base64
from app.codecs.video import Clip, decode, of_rows
from app.core.errors import ClientError, invalid, over_limit
from app.core.manifest import Video
from app.core.text import described
from app.web.request.images import decode_one
from app.web.request.limits import Limits
from app.web.request.payload import Payload

MAX_FRAMES: Final = 1_000
"""Of a file, before they are brought to the model's rate."""


def clip_of(payload: Payload, video: Video, limits: Limits) -> Clip:
    """The one clip of a body: a file, an array, or pictures that are its frames.

    Raises:
        UnsupportedMedia, Unprocessable, TooLarge: as the codecs; or several files of clips.
    """
    max_pixels = limits.max_pixels
    if payload.rows is not None:
        return decode(payload.rows, video, subject="body", max_frames=MAX_FRAMES, max_pixels=max_pixels)
    if payload.of == "image":
        return _of_pictures(payload, video, max_pixels)
    if len(payload.items) > 1:
        raise _several(len(payload.items))
    ((subject, item),) = payload.items
    file = from_base64(item, subject=subject, what="clip") if isinstance(item, str) else item
    if not isinstance(file, bytes):
        raise invalid(subject, expected="base64 of a clip", got=described(item))
    return decode(file, video, subject=subject, max_frames=MAX_FRAMES, max_pixels=max_pixels)


def _of_pictures(payload: Payload, video: Video, max_pixels: int) -> Clip:
    if (came := len(payload.items)) > video.max_frames:
        raise over_limit("images", got=f"{came} frames", most=video.max_frames, unit="frames")
    rows = [decode_one(item, video.picture, subject, max_pixels) for subject, item in payload.items]
    return of_rows(np.stack(rows), video.rate)


def _several(got: int) -> ClientError:
    detail = f"the request has {got} clips, expected one, or its frames as files named 'image'"
    return invalid("video", expected="one clip", got=f"{got} clips", detail=detail)
