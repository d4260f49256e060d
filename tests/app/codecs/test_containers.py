"""Files of more pieces than anyone needs are refused before a decoder walks through them; real ones are not."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.codecs.images import avif, containers
from app.codecs.images.files import decode
from app.codecs.images.opening import opened
from app.codecs.images.tiff import pictures
from app.core.errors import TooLarge, Unprocessable
from tests.app.codecs.files import FORMATS, PHOTO, example, saved, scene

Entry = tuple[int, int, int, int]  # tag, type, count, value


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def inside(data: bytes, at: int, extra: bytes) -> bytes:
    return data[:at] + extra + data[at:]


def gif(extensions: bytes = b"", frames: int = 1) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b",\0\0\0\0" + struct.pack("<HHB", 8, 8, 0) + b"\x02\x08\x84\x8f\xa9\xcb\xed\x0f\xa3\x9c\0"
    return head + extensions + frame * frames + b";"


def tiff(extra: Sequence[Entry] = (), *, strips: int = 1, directories: int = 1, order: str = "<") -> bytes:
    """8 x 8 grey pixels, at 8; its first directory at 80."""
    entries = {259: (3, 1, 1), 262: (3, 1, 1), 273: (4, strips, 8), 277: (3, 1, 1), 279: (4, strips, 64)}
    entries |= {256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 1, 8), 278: (4, 1, 8)}
    entries |= {tag: (kind, count, value) for tag, kind, count, value in extra}
    packed = b"".join(
        struct.pack(order + "HHI", tag, kind, count)
        + (struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value))
        for tag, (kind, count, value) in sorted(entries.items())
    )
    size = 2 + len(packed) + 4
    out = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 80) + bytes(range(64)) + bytes(8)
    for i in range(directories):
        last = i == directories - 1
        out += struct.pack(order + "H", len(entries)) + packed
        out += struct.pack(order + "I", 0 if last else 80 + (i + 1) * size)
    return out


def scans(many: int) -> bytes:
    data = saved(scene(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * many + b"\xff\xd9"


def rle(width: int, height: int, codes: bytes) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(codes), 0, 0, 2, 0)
    return b"BM" + struct.pack("<IHHI", 62 + len(codes), 0, 0, 62) + head + bytes(4) + b"\xff\xff\xff\0" + codes


def box(kind: bytes, body: bytes) -> bytes:
    """ISO/IEC 14496-12."""
    return struct.pack(">I", 8 + len(body)) + kind + body


def picture(*inside: bytes) -> bytes:
    """What is inside of the box of items, with nothing that they show."""
    head = box(b"hdlr", bytes(8) + b"pict" + bytes(13)) + box(b"pitm", b"\0\0\0\0\0\1")
    return box(b"ftyp", b"avif\0\0\0\0avifmif1miaf") + box(b"meta", bytes(4) + head + b"".join(inside))


def places(items: int) -> bytes:
    """Of so many items, each without any bytes (8.11.3, version 2)."""
    listed = b"".join(struct.pack(">IHHH", i + 1, 0, 0, 0) for i in range(items))
    return box(b"iloc", b"\2\0\0\0\x44\0" + struct.pack(">I", items) + listed)


def extents(many: int) -> bytes:
    """Of two items, in so many extents each, of no bytes behind the end of the file."""
    item = struct.pack(">HHIH", 1, 0, 1 << 30, many)
    return box(b"iloc", struct.pack(">IBBH", 0, 0, 0x40, 2) + item * 2)


def track(kind: bytes, table: bytes) -> bytes:
    """With one table of frames."""
    inner = box(kind, bytes(4) + table)
    for outer in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        inner = box(outer, inner)
    return picture() + inner


PNG, JPEG = example("PNG"), saved(scene(), "JPEG")
HOSTILE = {
    "a PNG of empty chunks": (inside(PNG, 33, chunk(b"abCd") * 10_000), "10000 chunks"),
    "a PNG of empty data": (inside(PNG, PNG.index(b"IDAT") - 4, chunk(b"IDAT") * 10_000), "10000 chunks"),
    "a PNG of chunks at its end": (PNG[:-12] + chunk(b"abCd") * 10_000 + PNG[-12:], "10000 chunks"),
    "a JPEG of comments": (inside(JPEG, 2, b"\xff\xfe\0\x02" * 5_000), "4096 segments"),
    "a JPEG of fill bytes": (inside(JPEG, 2, b"\xff" * 5_000), "4096 segments"),
    "a JPEG of EXIF blocks": (inside(JPEG, 2, b"\xff\xe1\0\x0aExif\0\0ab" * 5), "4 EXIF segments"),
    "a JPEG of scans": (scans(70), "64 scans"),
    "a GIF of comments": (gif(b"!\xfe\x01a\0" * 100_000), "200000 blocks"),
    "a GIF of bytes that are no blocks": (gif(bytes(200_000)), "200000 blocks"),
    "a GIF of frames": (gif(frames=5_000), "more than 1000 frames"),
    "an AVIF of items": (picture(places(20_000)), "32768 bytes of lists of items"),
    "an AVIF of boxes": (picture(box(b"iprp", box(b"ipco", box(b"ispe", bytes(12)) * 5_000))), "4096 boxes"),
    "an AVIF of extents": (picture(extents(60_000)), "65536 frames, extents and units"),
    "an AVIF of frames": (track(b"stsz", struct.pack(">II", 1, 1 << 30)), "more than 1000 frames"),
    "an AVIF of durations": (track(b"stts", struct.pack(">I", 1 << 20)), "more than 1000 frames"),
    "a TIFF of tags": (tiff([(t, 4, 1, 0) for t in range(1000, 2000)]), "1000 tags"),
    "a TIFF of tags, big-endian": (tiff([(t, 4, 1, 0) for t in range(1000, 2000)], order=">"), "1000 tags"),
    "a TIFF of strips": (tiff(strips=20_001), "20000 strips"),
    "a TIFF of directories": (tiff(directories=2_000), "more than 1000 frames"),
    "a TIFF of scans": (tiff([(259, 3, 1, 7)]) + b"\xff\xda" * 66, "65 scans"),
    "a BMP of one-pixel runs": (rle(1000, 1000, b"\x01\x01" * 600_000), "1048576 bytes of run-length codes"),
    "a BMP whose code skips gigabytes": (rle(1 << 22, 4, b"\0\x02\xff\xff\0\x01"), "32768 run-length coded pixels"),
}


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_of_too_many_pieces_answers_422_with_the_limit(data: bytes, words: str) -> None:
    with pytest.raises(Unprocessable, match=words) as told:
        decode(data, PHOTO, subject="image", max_pixels=50_000_000)
    assert told.value.subject == "image"
    assert told.value.expected


@pytest.mark.parametrize("screen", [(8, 8), (40_000, 30_000)])
def test_a_gif_is_as_large_as_its_largest_frame_before_anything_is_filled(screen: tuple[int, int]) -> None:
    data = bytearray(gif(b"!\xf9\x04\x08\0\0\0\0"))  # what is behind the frame is restored, so Pillow makes it at once
    data[6:10] = struct.pack("<HH", *screen)
    at = data.rindex(b",") + 5
    data[at : at + 4] = struct.pack("<HH", 40_000, 30_000)
    with pytest.raises(TooLarge, match="40000x30000 = 1200000000 pixels"):
        decode(bytes(data), PHOTO, subject="image", max_pixels=50_000_000)


@pytest.mark.parametrize("options", [{}, {"save_all": True, "append_images": [scene(64, 64).rotate(90)]}])
def test_an_avif_is_as_large_as_its_pixels_whatever_its_boxes_say(options: dict[str, Any]) -> None:
    data = saved(scene(64, 64), "AVIF", **options)
    for said, small in (
        (struct.pack(">II", 64, 64), (8, 8)),
        (struct.pack(">II", 64 << 16, 64 << 16), (8 << 16, 8 << 16)),
    ):
        data = data.replace(said, struct.pack(">II", *small))
    with (
        pytest.raises(TooLarge, match="is 64x64 = 4096 pixels, the limit is 4000"),
        opened(data, subject="image", max_pixels=4_000, max_frames=2),
    ):
        pass


def test_an_avif_s_sizes_are_those_of_its_frames() -> None:
    assert avif.contents(example("AVIF")) == avif.Contents(1, {(48, 40)})
    assert avif.contents(saved(scene(33, 57), "AVIF", save_all=True, append_images=[scene(33, 57).rotate(90)])) == (
        avif.Contents(2, {(33, 57)}, {(33, 57)})
    )


def test_an_exif_directory_of_too_many_tags_answers_422() -> None:
    data = tiff([(34665, 4, 1, 0)])
    data = tiff([(34665, 4, 1, len(data))]) + struct.pack("<H", 1001) + bytes(12 * 1001)
    with pytest.raises(Unprocessable, match="1000 tags"):
        decode(data, PHOTO, subject="image", max_pixels=1000)


def frames(data: bytes, form: str) -> int:
    return pictures(data)[0] if form == "TIFF" else containers.check(data, form)


@pytest.mark.parametrize("form", FORMATS)
def test_real_files_of_every_format_are_within_the_limits(form: str) -> None:
    assert frames(example(form), form) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_ends_anywhere_is_counted_or_refused(form: str) -> None:
    data = example(form)
    for end in (*range(min(len(data), 1500)), len(data) - 1):
        # It may be any file's beginning; what is left is for the decoder to say.
        with suppress(Unprocessable, TooLarge):
            assert frames(data[:end], form) <= 1


def test_real_files_of_many_pieces_are_read() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8))
    for form, options in (("PNG", {}), ("JPEG", {"progressive": True, "quality": 95}), ("GIF", {}), ("TIFF", {})):
        data = saved(noise, form, **options)
        assert frames(data, form) == 1
        assert decode(data, PHOTO, subject="image", max_pixels=490_000).shape == (32, 32, 3)
    assert decode(tiff(), PHOTO, subject="image", max_pixels=64).shape == (32, 32, 3)
    assert decode(tiff(order=">"), PHOTO, subject="image", max_pixels=64).shape == (32, 32, 3)
    assert decode(gif(), PHOTO, subject="image", max_pixels=64).shape == (32, 32, 3)
    run = rle(8, 8, b"\x08\x01\0\0" * 8 + b"\0\x01")
    assert decode(run, PHOTO, subject="image", max_pixels=64).min() == 255


def test_directories_that_lead_in_a_circle_are_counted_once() -> None:
    data = bytearray(tiff(directories=2))
    data[-4:] = struct.pack("<I", 80)
    assert pictures(bytes(data)) == (2, 0)


def test_a_scan_s_marker_inside_of_another_segment_is_none() -> None:
    comment = b"\xff\xda" * 100
    head = JPEG[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment + JPEG[2:]
    assert decode(head, PHOTO, subject="image", max_pixels=50_000).shape == (32, 32, 3)


def test_an_exif_block_of_megabytes_is_not_looked_through() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # turned upside down
    plain = decode(PNG, PHOTO, subject="image", max_pixels=50_000)
    with Image.open(io.BytesIO(PNG)) as image:
        turned = saved(image, "PNG", exif=exif.tobytes())
        long = saved(image, "PNG", exif=exif.tobytes() + bytes(1 << 20))
    assert (decode(turned, PHOTO, subject="image", max_pixels=50_000) != plain).any()
    np.testing.assert_array_equal(decode(long, PHOTO, subject="image", max_pixels=50_000), plain)
