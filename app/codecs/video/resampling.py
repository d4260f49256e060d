"""Frames as they were shown, to frames at a fixed rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.codecs.images.files import row_of
from app.core.errors import invalid, over_limit
from app.core.manifest import Video


class Shown(NamedTuple):
    """A frame as it was decoded: upright, of mode L, LA, RGB or RGBA; shown until `end_s`, from the clip's start."""

    image: Image.Image
    end_s: float


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames at a fixed rate.

    Attributes:
        frames: uint8 (T, *picture.shape).
        times_s: where each begins, float64 (T,).
        duration_s: of what came.
        frames_in: how many came.
    """

    frames: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    duration_s: float
    frames_in: int


def of_rows(rows: NDArray[np.uint8], rate: float) -> Clip:
    """A clip of frames that are at the rate already: (T, *picture.shape)."""
    return Clip(rows, np.arange(len(rows)) / rate, len(rows) / rate, len(rows))


def resampled(shown: Iterable[Shown], video: Video, *, subject: str) -> Clip:
    """Frame k is the one that was shown at (k + 0.5) / rate: in its middle, so that a rounded end changes nothing.

    Where no frame says how long it is shown, as in a still picture, each is one frame of the result.

    Args:
        shown: in order, one or more; their ends never decrease.

    Raises:
        TooLarge: more frames than `video.max_frames`.
        Unprocessable: as the picture codec.
    """
    rows: list[NDArray[np.uint8]] = []
    without: list[NDArray[np.uint8]] = []  # frames in whose time no frame of the result has its middle
    came, end_s = 0, 0.0
    for image, end_s in shown:
        until = math.ceil(end_s * video.rate - 0.5)  # frames of the result whose middle is before the end
        _check_length(until, end_s, video, subject)
        if until > len(rows) or (not rows and not (end_s and without)):
            row = row_of(image, video.picture, subject=f"{subject}.frames[{came}]")
            if until > len(rows):
                rows += [row] * (until - len(rows))
            else:
                without.append(row)
                _check_length(len(without), end_s, video, subject)
        came += 1
    if not came:
        raise invalid(subject, expected="one frame or more", got="none", detail=f"{subject}: has no frames")
    rows = rows or (without[:1] if end_s else without)
    return Clip(np.stack(rows), np.arange(len(rows)) / video.rate, end_s or len(rows) / video.rate, came)


def _check_length(frames: int, end_s: float, video: Video, subject: str) -> None:
    if frames > video.max_frames:
        lasts = f"{end_s:.3f} s, which are {frames} frames at {video.rate:g} a second" if end_s else f"{frames} frames"
        raise over_limit(subject, got=lasts, most=video.max_frames, unit="frames", verb="lasts")
