"""Picture files, base64 and nested lists to a graph's pixels, and pixels to PNG.

Pure functions; the only errors that leave are `UnsupportedMedia` (415), `Unprocessable` (422) and `TooLarge` (413),
whatever the bytes: the sizes are checked from the header, before anything is decoded.
"""

from __future__ import annotations

import binascii
import io
import re
from collections.abc import Iterator
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.codecs.images import handwriting as digits
from app.codecs.images.nested import from_nested
from app.codecs.images.opening import opened, turn_of
from app.codecs.images.pixels import own_profile, to_8_bit
from app.core.errors import ClientError, invalid, shown
from app.core.manifest import PhotoPicture, Picture

__all__ = ["decode", "decode_base64", "decode_pixels", "encode_png", "from_base64", "from_nested", "row_of"]

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/]")
_LENGTHS: Final = (1,) * 12 + (2, 2, 3, 4)  # bytes of a character of UTF-8, by the first four bits
PIECE_BYTES: Final = 1 << 18  # of base64, a multiple of 4; a call on bytes holds the interpreter until it returns


def decode(data: bytes, picture: Picture, *, subject: str, max_pixels: int) -> NDArray[np.uint8]:
    """The bytes of a picture file as one row for the graph.

    Args:
        data: PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF with one frame; any bit depth and colour model.
        picture: the size, layout and kind that the manifest declares.
        subject: what to call the picture in errors, e.g. "image[3]".
        max_pixels: greatest width x height, decided from the header.

    Returns:
        `picture.shape`, uint8.

    Raises:
        UnsupportedMedia: not a picture, or one of another format.
        TooLarge: more than `max_pixels`.
        Unprocessable: empty, cut off, damaged, smaller than 4x4, animated, in too many pieces; no ink where a digit
            is to be read, or several pieces of writing.
    """
    with opened(data, subject=subject, max_pixels=max_pixels) as (image, _):
        return _read(image, picture, subject)


def decode_pixels(
    data: bytes, *, channels: Literal[1, 3] | None, subject: str, max_pixels: int
) -> tuple[NDArray[np.uint8], bytes]:
    """The bytes of a picture file as they are, of any size: upright, laid on white where it is transparent.

    Args:
        channels: what to make of its colours; None keeps grey grey and colours coloured.

    Returns:
        (H, W, 1) or (H, W, 3), uint8; and the ICC profile of their colours, empty where these are grey or sRGB.

    Raises:
        as `decode`.
    """
    with opened(data, subject=subject, max_pixels=max_pixels) as (image, _):
        pixels = _as_it_is(image, channels)
        return pixels, own_profile(image) if pixels.shape[2] == 3 else b""


def decode_base64(text: str, picture: Picture, *, subject: str, max_pixels: int) -> NDArray[np.uint8]:
    """As `decode`, for a file in base64: `from_base64`."""
    return decode(from_base64(text, subject=subject), picture, subject=subject, max_pixels=max_pixels)


def from_base64(text: str, *, subject: str, what: str = "picture") -> bytes:
    """The bytes of a file in standard base64 (RFC 4648, section 4), bare or as a `data:` URL.

    White space is skipped; any other character outside the alphabet is an error that names its index.

    Args:
        what: the kind of file, for the error.

    Raises:
        Unprocessable: no base64.
    """
    head, comma, body = text.partition(",") if text[:5].lower() == "data:" else ("", ",", text)
    if not comma or (head and not head.lower().endswith(";base64")):
        raise _not_base64(subject, what, f"a data: URL without ';base64,': {shown(text[:60])}")
    # Going through millions of characters one by one would delay all other requests, and so would all of them at once.
    packed = b"".join(piece.translate(None, b" \t\r\n") for piece in _pieces(body.encode("utf-8", "surrogatepass")))
    bare = packed.rstrip(b"=")
    for number, piece in enumerate(_pieces(bare)):
        if piece.translate(None, _BASE64):
            wrong = _NOT_BASE64.search(piece)
            assert wrong is not None
            at = number * PIECE_BYTES + wrong.start()
            character = packed[at : at + _LENGTHS[wrong[0][0] >> 4]].decode("utf-8", "surrogatepass")
            hint = ", which belongs to the URL-safe alphabet" if character in "-_" else ""
            raise _not_base64(subject, what, f"{character!r} as character {at} (white space not counted){hint}")
    try:
        return b"".join(binascii.a2b_base64(piece, strict_mode=True) for piece in _pieces(packed))
    except binascii.Error as error:
        raise _not_base64(subject, what, f"{len(packed)} characters, cut off or wrongly padded ({error})") from error


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))


def encode_png(pixels: NDArray[np.uint8], *, profile: bytes = b"") -> bytes:
    """PNG of uint8 pixels (H, W), (H, W, 1) or (H, W, 3), with the ICC profile of their colours; equal pixels give
    equal bytes."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG", compress_level=3, icc_profile=profile or None)
    return out.getvalue()


def _read(image: Image.Image, picture: Picture, subject: str) -> NDArray[np.uint8]:
    longer_side = max(image.size)
    if isinstance(picture, PhotoPicture):
        # A JPEG much larger than needed is scaled while it is decoded (by the DCT), with detail to spare for resizing.
        side = 2 * max(picture.height, picture.width)
        image.draft(None, (max(side, _cover(image.size, side)[0]), max(side, _cover(image.size, side)[1])))
    else:
        image.draft("L", (2 * digits.WORK_SIDE, 2 * digits.WORK_SIDE))
    return row_of(_upright(image), picture, subject=subject, longer_side=longer_side)


def row_of(image: Image.Image, picture: Picture, *, subject: str, longer_side: int | None = None) -> NDArray[np.uint8]:
    """An upright picture of mode L, LA, RGB or RGBA as one row for the graph: `picture.shape`, uint8.

    Args:
        longer_side: px, of the picture as it came, where it was scaled while it was decoded.

    Raises:
        Unprocessable: no ink where a digit is to be read, or several pieces of writing.
    """
    if isinstance(picture, PhotoPicture):
        pixels = _photo(image, picture)
    else:
        pixels = digits.read(image, picture, subject=subject, longer_side=longer_side)[:, :, None]
    return pixels if picture.layout == "hwc" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _cover(size: tuple[int, int], side: int) -> tuple[int, int]:
    """`size` scaled so that its shorter side is `side`."""
    short = min(size)
    return -(-size[0] * side // short), -(-size[1] * side // short)


def _upright(image: Image.Image, *, own_colours: bool = False) -> Image.Image:
    image.load()
    turn = turn_of(image)
    seen = to_8_bit(image, own_colours=own_colours)  # while it still has the file's tags
    return seen if turn is None else seen.transpose(turn)


def _photo(image: Image.Image, picture: PhotoPicture) -> NDArray[np.uint8]:
    image = _opaque(image, picture.background)
    mode = "L" if picture.channels == 1 else "RGB"
    if image.mode != mode:  # else it would be copied
        image = image.convert(mode)
    size = (picture.width, picture.height)
    if image.size != size:
        box = _middle(image.size, size) if picture.resize == "cover" else None
        image = image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    return np.array(image).reshape(picture.height, picture.width, picture.channels)


def _as_it_is(image: Image.Image, channels: Literal[1, 3] | None) -> NDArray[np.uint8]:
    upright = _opaque(_upright(image, own_colours=True))
    wanted = {None: upright.mode, 1: "L", 3: "RGB"}[channels]
    pixels = np.array(upright if upright.mode == wanted else upright.convert(wanted))
    return pixels.reshape(*pixels.shape[:2], -1)


def _opaque(image: Image.Image, level: int = 255) -> Image.Image:
    """Mode L or RGB of L, LA, RGB or RGBA, laid on a grey level."""
    if image.mode in ("L", "RGB"):
        return image
    ground = Image.new("RGBA", image.size, (level, level, level, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert(image.mode.removesuffix("A"))


def _middle(have: tuple[int, int], want: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box in the middle of `have` (width, height) with the aspect of `want`: left, top, right, bottom."""
    scale = min(have[0] / want[0], have[1] / want[1])
    w, h = want[0] * scale, want[1] * scale
    left, top = (have[0] - w) / 2, (have[1] - h) / 2
    if scale == 1:  # whole pixels, so that a mere crop copies them
        left, top = left // 1, top // 1
    return left, top, left + w, top + h


def _not_base64(subject: str, what: str, got: str) -> ClientError:
    expected = f"a {what} file in standard base64"
    return invalid(subject, expected=expected, got=got, detail=f"{subject}: is not base64: {got}")
