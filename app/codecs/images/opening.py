"""Picture files, still and moving, opened once their header is known to be within the limits."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from app.codecs.images import avif, containers, formats, tiff
from app.codecs.images.pieces import MAX_FRAMES, OtherKind, TooManyPieces
from app.codecs.images.pixels import NotANumber
from app.core.errors import ClientError, UnsupportedMedia, invalid, over_limit, shown

MIN_SIDE: Final = 4  # px; below it there is nothing to read
MAX_EXIF_CHARACTERS: Final = 4 * 65536

_ADDRESS: Final = re.compile(r" <[^<>]* at 0x[0-9a-f]+>")  # an object as Python writes it: where it is in memory
_TILE_SIDES: Final = (322, 323)  # TIFF 6.0, section 15: TileWidth, TileLength
_ORIENTATION: Final = 0x0112
_TURNS: Final = {  # EXIF 2.32, 4.6.4: what makes a picture of each orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The limit is an argument here and checked from the header; Pillow's own, global one would only warn beside it.
Image.MAX_IMAGE_PIXELS = None
# Requests are decoded beside each other already; a second thread costs a clip of 75 frames half as much CPU again.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


@contextmanager
def opened(
    data: bytes, *, subject: str, max_pixels: int, max_frames: int = 1, taken: str = formats.TAKEN
) -> Iterator[tuple[Image.Image, int]]:
    """The picture, not decoded yet, and how many frames it has.

    What a decoder raises inside the `with` block becomes Unprocessable.

    Args:
        subject: what to call the picture in errors, e.g. "image[3]".
        max_pixels: greatest width x height.
        max_frames: 1 where it must be a still picture.
        taken: the formats in words, where they are not all that pictures may have.

    Raises:
        UnsupportedMedia: not a picture, or one of another format.
        TooLarge: more than max_pixels; in a moving picture, more than max_frames.
        Unprocessable: empty, cut off, damaged, smaller than 4x4, in too many pieces; animated where it must be still.
    """
    name = _format_of(data, subject, taken)
    frames, first, sizes = _look_inside(data, name, subject)
    _check_frames(frames, max_frames, subject)
    for size in sizes:
        _check_pixels(*size, "", subject, max_pixels)
    try:
        with Image.open(io.BytesIO(data), formats=[name]) as image:
            if first:
                image.seek(first)
            _check_header(image, subject, max_pixels)
            # A phone's JPEG may carry a depth or gain map as a second frame (MPO): the first one is the photo. Those
            # of GIF and TIFF are counted already.
            if image.format in ("PNG", "WEBP", "AVIF"):
                frames = getattr(image, "n_frames", 1)
                _check_frames(frames, max_frames, subject)
            yield image, frames
    except ClientError:
        raise
    except NotANumber as error:
        raise invalid(
            subject, expected="finite pixels", got="NaN", detail=f"{subject}: {error}, a picture's pixels are finite"
        ) from error
    except UnidentifiedImageError as error:
        if name == "TIFF" and (kind := tiff.kind(data)) is not None:
            raise _of_another_kind(kind, name, subject) from error
        raise damaged(data, name, subject, error) from error
    except Exception as error:  # decoders raise nearly every type on hostile bytes; all of them mean the same here
        raise damaged(data, name, subject, error) from error


def pixels_of(data: bytes, *, subject: str, max_pixels: int) -> int:
    """How many pixels a picture has by its header, of all its frames together.

    Raises:
        as `opened`, of what the header shows.
    """
    with opened(data, subject=subject, max_pixels=max_pixels, max_frames=MAX_FRAMES) as (image, frames):
        return image.width * image.height * frames


def damaged(data: bytes, name: str, subject: str, error: Exception) -> ClientError:
    """The error for a file that a decoder gave up."""
    return invalid(
        subject,
        expected=f"a whole {name} file",
        got=f"{len(data)} bytes, cut off or damaged",
        detail=f"{subject}: begins as {name} but cannot be decoded, it is cut off or damaged "
        f"({len(data)} bytes came; {type(error).__name__}: {shown(_ADDRESS.sub('', str(error)))})",
    )


def _of_another_kind(what: str, name: str, subject: str) -> ClientError:
    expected = formats.TAKEN + {
        "JPEG": ", JPEG with 8 bits a sample",
        "TIFF": ", TIFF with 8 or 16 bits a sample or grey of 32",
    }.get(name, "")
    return invalid(subject, expected=expected, got=what, where=f"{subject}:", rule="expected", error=UnsupportedMedia)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What makes a loaded picture upright, by its EXIF block; None where it is, or where the block is damaged."""
    for block in ("exif", "Raw profile type exif"):  # elsewhere than in JPEG it may be as long as the file
        if len(image.info.get(block, b"")) > MAX_EXIF_CHARACTERS:
            del image.info[block]
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # it does not make the pixels unreadable
        return None


def _format_of(data: bytes, subject: str, taken: str) -> str:
    if not data:
        raise invalid(
            subject, expected=taken, got="0 bytes", detail=f"{subject}: is empty, expected a picture ({taken})"
        )
    name = formats.picture_format(data)
    if name is None:
        got = formats.describe(data)
        raise invalid(
            subject, expected=taken, got=got, where=f"{subject}:", rule="expected a picture as", error=UnsupportedMedia
        )
    return name


def _look_inside(data: bytes, name: str, subject: str) -> tuple[int, int, Iterable[tuple[int, int]]]:
    """Frames, the number of the first, which thumbnails may precede, and sizes that its header need not tell, as far as
    they are known before a decoder opens it."""
    try:
        if name == "AVIF":
            found = avif.contents(data)
            return found.frames, 0, found.sizes
        if name == "TIFF":
            return *tiff.pictures(data), []
        # Pillow fills the rectangle of a GIF's frame while it opens the file.
        return containers.check(data, name), 0, [containers.gif_extent(data)] if name == "GIF" else []
    except OtherKind as error:
        raise _of_another_kind(str(error), name, subject) from None
    except TooManyPieces as error:
        raise invalid(
            subject,
            expected=error.expected,
            got=error.got,
            detail=f"{subject}: begins as {name} and {error}, no picture needs as many",
        ) from None


def _check_frames(frames: int, most: int, subject: str) -> None:
    if frames <= most and frames <= MAX_FRAMES:
        return
    many = str(frames) if frames <= MAX_FRAMES else f"more than {MAX_FRAMES}"
    if most > 1:
        raise over_limit(subject, got=f"{many} frames", most=min(most, MAX_FRAMES), unit="frames")
    raise invalid(
        subject,
        expected="one frame",
        got=f"{many} frames",
        detail=f"{subject}: has {many} frames, expected a still picture with one",
    )


def _check_header(image: Image.Image, subject: str, max_pixels: int) -> None:
    width, height = image.size
    across, down = (int(getattr(image, "tag_v2", {}).get(tag, 0)) for tag in _TILE_SIDES)
    _check_pixels(width, height, "", subject, max_pixels)
    _check_pixels(across, down, " in a tile", subject, max_pixels)
    if min(width, height) < MIN_SIDE:
        raise invalid(
            subject,
            expected=f"at least {MIN_SIDE}x{MIN_SIDE} pixels",
            got=f"{width}x{height}",
            detail=f"{subject}: is {width}x{height} pixels, smaller than {MIN_SIDE}x{MIN_SIDE}: nothing to read",
        )


def _check_pixels(width: int, height: int, where: str, subject: str, most: int) -> None:
    if width * height > most:
        got = f"{width}x{height} = {width * height} pixels{where}"
        raise over_limit(subject, got=got, most=most, unit="pixels", verb="is")
