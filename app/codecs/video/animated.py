"""Frames of animated pictures: AVIF, WebP, GIF and PNG.

Decoded once and in order: Pillow knows a frame's duration only when it is loaded, forgets it when another is sought,
and fails on an APNG that is read again.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.codecs.images import avif
from app.codecs.images.opening import MIN_SIDE, opened, turn_of
from app.codecs.images.pixels import to_8_bit
from app.codecs.video.resampling import Shown
from app.core.errors import ClientError, UnsupportedMedia, invalid, over_limit

TAKEN: Final = "animated AVIF, WebP, GIF or PNG, MP4, WebM or .npy"
FRAMES_PIXELS: Final = 4  # times as many pixels in all frames as in one picture
MAX_PIXELS_PER_BYTE: Final = 50_000  # 1080p that stands still comes to 40,000
_FORMATS: Final = ("AVIF", "WEBP", "GIF", "PNG")


def frames(data: bytes, *, subject: str, max_frames: int, max_pixels: int) -> Iterator[Shown]:
    """The frames in order; `app.codecs.video.decode` says what is raised."""
    with opened(data, subject=subject, max_pixels=max_pixels, max_frames=max_frames, taken=TAKEN) as (image, count):
        if image.format not in _FORMATS:
            raise _still(f"a {image.format} picture", subject)
        size = image.size
        check_pixels(*size, count, subject, max_pixels, len(data))
        if image.format == "AVIF" and (others := avif.contents(data).frame_sizes - {size}):
            raise differs(others.pop(), size, subject)  # libavif would stretch them
        end_ms, turn = 0.0, None
        first = 1 if count > 1 and getattr(image, "default_image", False) else 0  # of an APNG, for those who show none
        for k in range(first, count):
            image.seek(k)
            if image.size != size:
                raise differs(image.size, size, f"{subject}.frames[{k}]")
            image.load()
            if k == first:
                turn = turn_of(image)
            before = end_ms
            if count > 1 or image.format != "AVIF":  # a still AVIF is said to last for a second
                # AVIF's durations are rounded one by one, so that their sum goes wrong, and its times are not.
                end_ms = float(image.info.get("timestamp", end_ms)) + float(image.info.get("duration", 0))
            if end_ms < before:
                raise backwards(end_ms / 1e3, before / 1e3, k, subject)
            # Whoever takes a frame is done with it before the next one is decoded, so that a copy can be saved.
            ready = image.mode in ("L", "RGB") and not image.has_transparency_data
            frame = image if ready else to_8_bit(image)
            yield Shown(frame if turn is None else frame.transpose(turn), end_ms / 1e3)


def encode_png(frames: NDArray[np.uint8], rate: float) -> bytes:
    """An animated PNG of frames (T, H, W, 1 or 3); its times are thousandths of a second."""
    pictures = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
    out = io.BytesIO()
    pictures[0].save(out, "PNG", save_all=True, append_images=pictures[1:], duration=1000 / rate)
    return out.getvalue()


def check_pixels(width: int, height: int, count: int, subject: str, max_pixels: int, size: int | None = None) -> None:
    """Raises TooLarge for too many pixels in a frame, in all of them, or for the file's size in bytes, if given;
    Unprocessable for frames in which there is nothing to see."""
    if min(width, height) < MIN_SIDE:
        expected = f"frames of at least {MIN_SIDE}x{MIN_SIDE} pixels"
        raise invalid(subject, expected=expected, got=f"{width}x{height}", verb="has")
    for pixels, got, most, unit in (
        (width * height, f"frames of {width}x{height} = {width * height} pixels", max_pixels, "pixels in a frame"),
        (
            count * width * height,
            f"{count} frames of {width}x{height} = {count * width * height} pixels",
            FRAMES_PIXELS * max_pixels,
            "pixels in all frames",
        ),
    ):
        if pixels > most:
            raise over_limit(subject, got=got, most=most, unit=unit)
    if size is not None and count * width * height > MAX_PIXELS_PER_BYTE * size:
        got = f"{count} frames of {width}x{height} in {size} bytes"
        raise over_limit(subject, got=got, most=MAX_PIXELS_PER_BYTE, unit="pixels per byte")


def differs(got: tuple[int, int], want: tuple[int, int], subject: str) -> ClientError:
    """The error for frames of another size than the first, or than the header says."""
    expected, came = ("{}x{} pixels in each frame".format(*want)), "{}x{}".format(*got)
    return invalid(subject, expected=expected, got=came)


def backwards(got: float, least: float, frame: int, subject: str) -> ClientError:
    """The error for a frame that ends before it begins."""
    subject = f"{subject}.frames[{frame}]"
    expected, came = f"an end at {least:.3f} s or later", f"one at {got:.3f} s"
    return invalid(subject, expected=expected, got=came, verb="has", rule="expected")


def _still(got: str, subject: str) -> ClientError:
    return invalid(subject, expected=TAKEN, got=got, where=f"{subject}:", rule="expected", error=UnsupportedMedia)
