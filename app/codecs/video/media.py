"""Frames of MP4 and WebM, where PyAV (the extra `media`) is installed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from PIL import Image

from app.codecs.images import formats
from app.codecs.video.animated import backwards, check_pixels, differs
from app.codecs.video.resampling import Shown
from app.core.errors import ClientError, UnsupportedMedia, invalid, over_limit, shown

_EBML: Final = b"\x1a\x45\xdf\xa3"
_TURNS: Final = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}


def is_media(data: bytes) -> bool:
    """Whether it begins as MP4 (or another ISO media file) or WebM, and not as AVIF."""
    return data.startswith(_EBML) or (data[4:8] == b"ftyp" and formats.picture_format(data) is None)


def frames(data: bytes, *, subject: str, max_frames: int, max_pixels: int) -> Iterator[Shown]:
    """The frames of the first video track in order, from the first one's time on."""
    name = "WebM" if data.startswith(_EBML) else "MP4"
    av = _library(name, subject)
    try:
        # Named, so that FFmpeg opens no other container: some of them lead to files and addresses.
        with av.open(io.BytesIO(data), format="webm" if name == "WebM" else "mp4") as container:
            yield from _of_track(container, len(data), subject, max_frames, max_pixels)
    except ClientError:
        raise
    except Exception as error:  # FFmpeg's errors are of many types, and all of them mean the same here
        raise invalid(
            subject,
            expected=f"a whole {name} file",
            got=f"{len(data)} bytes, cut off or damaged",
            detail=f"{subject}: begins as {name} but cannot be decoded, it is cut off or damaged "
            f"({len(data)} bytes came; {type(error).__name__}: {shown(str(error))})",
        ) from error


def _of_track(container: Any, size: int, subject: str, max_frames: int, max_pixels: int) -> Iterator[Shown]:
    if not container.streams.video:
        raise invalid(
            subject, expected="a track of pictures", got="none", detail=f"{subject}: has no track of pictures"
        )
    track = container.streams.video[0]
    track.codec_context.thread_count = 1  # as for AVIF
    first = (track.codec_context.width, track.codec_context.height)
    _check_count(track.frames, max_frames, subject)
    check_pixels(*first, max(1, track.frames), subject, max_pixels, size)
    begins, waiting, lasts = 0.0, None, 1 / float(track.average_rate or 25)
    for k, frame in enumerate(container.decode(track)):
        _check_count(k + 1, max_frames, subject)
        if (frame.width, frame.height) != first:
            raise differs((frame.width, frame.height), first, f"{subject}.frames[{k}]")
        check_pixels(*first, k + 1, subject, max_pixels, size)
        # The container's own duration counts frames that are shown out of order, or at a rate that varies, wrongly.
        at = begins + lasts * k if frame.time is None else float(frame.time)
        if waiting is None:
            begins = at
        elif at - begins < waiting[1]:
            raise backwards(at - begins, waiting[1], k, subject)
        else:
            yield Shown(waiting[0], at - begins)
        if frame.duration and frame.time_base:
            lasts = float(frame.duration * frame.time_base)
        turn = _TURNS.get(getattr(frame, "rotation", 0) % 360)
        image = frame.to_image()
        waiting = (image if turn is None else image.transpose(turn), at - begins)
    if waiting is not None:
        yield Shown(waiting[0], waiting[1] + lasts)


def _check_count(count: int, most: int, subject: str) -> None:
    if count > most:
        raise over_limit(subject, got=f"{count} frames or more", most=most, unit="frames")


def _library(name: str, subject: str) -> Any:
    try:
        return import_module("av")
    except ImportError:
        raise invalid(
            subject,
            expected="animated AVIF, WebP, GIF or PNG, or .npy",
            got=name,
            detail=f"{subject}: is {name}, which this server reads only where its extra 'media' (PyAV) is installed; "
            "send an animated AVIF, WebP, GIF or PNG, or .npy",
            error=UnsupportedMedia,
        ) from None
