"""How many pieces a picture file has, counted before a decoder walks through them one by one.

Decoders bound the pixels and not the pieces: a few megabytes of empty chunks, of scans or of strips keep them busy
for minutes. Real files are far below the limits here.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from app.codecs.images.pieces import MAX_FRAMES, MAX_SCANS, OtherKind, TooManyPieces

MAX_CHUNKS: Final = 10_000  # PNG; writers cut 32 MiB into 8 KiB or more
MAX_SEGMENTS: Final = 4_096  # JPEG, before the first scan; fill bytes count as well
MAX_EXIF_SEGMENTS: Final = 4
MAX_BLOCKS: Final = 200_000  # GIF; 32 MiB in full blocks of 255 bytes is less
MAX_RLE_BYTES: Final = 1 << 20  # BMP: its run-length codes are read by Python
MAX_RLE_WIDTH: Final = 1 << 15

_AFTER_SCAN: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_NO_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS: Final = frozenset({0xC3, 0xCB})
_HIERARCHICAL: Final = frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF})
_JPEG_LS: Final = 0xF7


def check(data: bytes, name: str) -> int:
    """The number of frames of a GIF, up to MAX_FRAMES + 1; 1 for other formats, whose decoders count fast. AVIF and
    TIFF have modules of their own.

    Args:
        data: the file; a damaged one is left to the decoder.
        name: its format, as Pillow calls it.

    Raises:
        TooManyPieces: reading it would take longer than its pixels do.
        OtherKind: it is whole, perhaps, and there is no decoder for it.
    """
    match name:
        case "PNG":
            _png(data)
        case "JPEG":
            _jpeg(data)
        case "GIF":
            return _gif(data)[0]
        case "BMP":
            _bmp(data)
    return 1


def _png(data: bytes) -> None:
    at, end = 8, len(data)
    for _ in range(MAX_CHUNKS):
        if at + 8 > end or data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    raise TooManyPieces("chunks", MAX_CHUNKS)


def _jpeg(data: bytes) -> None:
    at, end, exif = 2, len(data), 0
    for _ in range(MAX_SEGMENTS):
        if at + 5 > end:  # a marker, a length, and a first byte behind it
            return
        if data[at] != 0xFF or data[at + 1] == 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xDA:
            _scans(data, at)
            return
        if marker in _NO_LENGTH:
            at += 2
            continue
        if marker in _FRAMES or marker == _JPEG_LS:
            _check_kind(marker, data[at + 4])
        exif += data[at + 4 : at + 10] == b"Exif\0\0"
        if exif > MAX_EXIF_SEGMENTS:
            raise TooManyPieces("EXIF segments", MAX_EXIF_SEGMENTS)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise TooManyPieces("segments", MAX_SEGMENTS)


def _check_kind(marker: int, bits: int) -> None:
    """ITU-T T.81, table B.1: what the marker before a frame says of it; its first byte are the bits of a sample."""
    if marker == _JPEG_LS:
        raise OtherKind("a JPEG-LS picture")
    if marker in _LOSSLESS:
        raise OtherKind("a lossless JPEG")
    if marker in _HIERARCHICAL:
        raise OtherKind("a hierarchical JPEG")
    if bits != 8:
        raise OtherKind(f"a JPEG of {bits} bits a sample")


def _scans(data: bytes, at: int) -> None:
    if data.count(b"\xff\xda", at) <= MAX_SCANS:  # nearly always; the bytes may also stand inside of other segments
        return
    scans = 0
    while found := _AFTER_SCAN.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            return
        scans += marker == 0xDA
        if scans > MAX_SCANS:
            raise TooManyPieces("scans", MAX_SCANS)
        if marker not in _NO_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")


def gif_extent(data: bytes) -> tuple[int, int]:
    """Width and height of what holds a GIF's screen and all of its frames, which may reach beyond the screen."""
    return _gif(data)[1]


def _gif(data: bytes) -> tuple[int, tuple[int, int]]:
    """Frames, and the extent of all of them."""
    at, end = 13, len(data)
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if end > 10 and data[10] & 0x80:
        at += 3 << ((data[10] & 7) + 1)
    frames, in_blocks = 0, False
    for _ in range(MAX_BLOCKS):
        if at >= end:
            break
        byte = data[at]
        if in_blocks:
            in_blocks = byte != 0
            at += 1 + byte
        elif byte == 0x3B:
            break
        elif byte == 0x21:
            in_blocks, at = True, at + 2
        elif byte == 0x2C:
            frames += 1
            if frames > MAX_FRAMES:
                break
            left, top, across, down = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (1, 3, 5, 7))
            width, height = max(width, left + across), max(height, top + down)
            flags = data[at + 9] if at + 9 < end else 0
            at += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
            in_blocks = True
        else:
            at += 1
    else:
        raise TooManyPieces("blocks", MAX_BLOCKS)
    return frames, (width, height)


def _bmp(data: bytes) -> None:
    if len(data) < 34 or data[14] == 12:
        return
    width, _, _, _, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in (1, 2):
        return
    if len(data) > MAX_RLE_BYTES:
        raise TooManyPieces("bytes of run-length codes", MAX_RLE_BYTES)
    if abs(width) > MAX_RLE_WIDTH:  # one code may skip 255 rows at once, without a look at the height
        raise TooManyPieces("run-length coded pixels in a row", MAX_RLE_WIDTH)
