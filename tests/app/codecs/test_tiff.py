"""TIFF as cameras, scanners and microscopes write it: read right or refused by name, never misread."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.codecs.images import tiff
from app.codecs.images.files import decode_pixels
from app.core.errors import Unprocessable, UnsupportedMedia
from tests.app.codecs.files import saved

Tag = tuple[str, list[int]]
RAMP = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
COLOURS = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=-1)


def written(
    *frames: NDArray[Any],
    order: str = "<",
    planes: int = 1,
    tags: dict[int, int] | None = None,
    subfiles: tuple[int, ...] = (),
) -> bytes:
    """Uncompressed, one strip a plane, by TIFF 6.0; `tags` overrule those of the first sample of each kind."""
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))
    link = 4

    def put(data: bytes) -> int:
        out.extend(b"\0" * (len(out) % 2))
        at = len(out)
        out.extend(data)
        return at

    for i, frame in enumerate(frames):
        samples = 1 if frame.ndim == 2 else frame.shape[2]
        parts = [frame[..., j] for j in range(samples)] if planes == 2 else [frame]
        data = [part.astype(part.dtype.newbyteorder(order)).tobytes() for part in parts]
        size = 8 * frame.dtype.itemsize
        form = {"u": 1, "i": 2, "f": 3}[frame.dtype.kind]
        entries: dict[int, Tag] = {
            256: ("I", [frame.shape[1]]),
            257: ("I", [frame.shape[0]]),
            258: ("H", [size] * samples),
            259: ("H", [1]),
            262: ("H", [2 if samples == 3 else 1]),
            273: ("I", [put(part) for part in data]),
            277: ("H", [samples]),
            278: ("I", [frame.shape[0]]),
            279: ("I", [len(part) for part in data]),
            284: ("H", [planes]),
            339: ("H", [form] * samples),
        }
        if subfiles:
            entries[254] = ("I", [subfiles[i]])
        entries |= {tag: ("H", [value]) for tag, value in (tags or {}).items()}
        lines = []
        for tag, (kind, values) in sorted(entries.items()):
            packed = struct.pack(f"{order}{len(values)}{kind}", *values)
            held = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(order + "I", put(packed))
            lines.append(struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + held)
        at = put(struct.pack(order + "H", len(lines)) + b"".join(lines))
        out[link : link + 4] = struct.pack(order + "I", at)
        link = len(out)
        out.extend(bytes(4))
    return bytes(out)


def read(data: bytes) -> NDArray[np.uint8]:
    return decode_pixels(data, channels=None, subject="image", max_pixels=10_000)[0]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "values",
    [
        RAMP,
        RAMP.astype(np.uint16) * 257,
        RAMP.astype(np.int32),
        RAMP.astype(np.float32) / 255,
        RAMP.astype(np.float32),
        COLOURS,
        COLOURS.astype(np.uint16) * 257,
    ],
)
def test_samples_of_every_depth_are_scaled_to_8_bits(values: NDArray[Any], order: str) -> None:
    want = COLOURS if values.ndim == 3 else RAMP[..., None]
    assert np.array_equal(read(written(values, order=order)), want)


def test_32_bits_without_a_sign_reach_beyond_those_with_one() -> None:
    assert np.array_equal(read(written(RAMP.astype(np.uint32) * 0x01010101))[..., 0], RAMP)


@pytest.mark.parametrize(
    "values", [255 - RAMP, (255 - RAMP).astype(np.uint16) * 257, 1 - RAMP.astype(np.float32) / 255]
)
def test_white_may_be_zero(values: NDArray[Any]) -> None:
    assert np.array_equal(read(written(values, tags={262: 0}))[..., 0], RAMP)


def test_planes_of_8_bits_may_be_apart() -> None:
    assert np.array_equal(read(written(COLOURS, planes=2)), COLOURS)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (written(COLOURS.astype(np.uint16), planes=2), "16-bit unsigned samples, 3 a pixel in separate planes"),
        (written(RAMP.astype(np.int8)), "8-bit signed samples"),
        (written(RAMP.astype(np.float64)), "64-bit floating-point samples, 1 a pixel"),
        (written(RAMP.astype(np.float16)), "16-bit floating-point samples"),
        (written(COLOURS.astype(np.float32)), "32-bit floating-point samples, 3 a pixel"),
        (written(RAMP.astype(np.uint16), order=">", tags={262: 0}), "16-bit unsigned samples"),
        (written(RAMP, tags={259: 34887}), "compressed by LERC"),
        (written(RAMP, tags={50706: 1}), "a camera's raw picture"),
        (written(RAMP, subfiles=(1,), tags={330: 8}), "a camera's raw picture"),
    ],
)
def test_what_the_decoder_has_not_is_named(data: bytes, says: str) -> None:
    with pytest.raises(UnsupportedMedia) as caught:
        read(data)
    assert says in caught.value.detail
    assert "damaged" not in caught.value.detail


@pytest.mark.parametrize("subfiles", [(0, 1), (1, 0), (0, 4), (0, 1, 1, 5)])
def test_thumbnails_levels_and_masks_are_no_frames(subfiles: tuple[int, ...]) -> None:
    frames = [RAMP if one == 0 else RAMP[::2, ::2] for one in subfiles]
    assert np.array_equal(read(written(*frames, subfiles=subfiles))[..., 0], RAMP)


def test_pages_are_frames() -> None:
    with pytest.raises(Unprocessable, match="2 frames"):
        read(written(RAMP, RAMP, subfiles=(2, 2)))
    with pytest.raises(Unprocessable, match="3 frames"):
        read(written(RAMP, RAMP, RAMP))


def test_turned_pictures_keep_what_their_tags_say() -> None:
    deep = written(np.full((32, 48), 1000, np.uint16), tags={262: 0, 274: 6})
    assert read(deep).shape == (48, 32, 1)
    assert (read(deep) == 255 - round(1000 / 257)).all()


def test_a_file_cut_off_is_damaged_and_no_other_kind() -> None:
    whole = written(RAMP.astype(np.float64))
    for end in (20, 300, len(whole) - 150):
        with pytest.raises(Unprocessable, match="cut off or damaged"):
            read(whole[:end])


def test_directories_are_walked_and_not_read() -> None:
    """A thousand of a thousand tags each: only what comes first in each is looked at."""
    entries = struct.pack("<HHII", 254, 4, 1, 0) + struct.pack("<HHII", 305, 2, 1, 0) * 900
    size = 2 + len(entries) + 4
    data = bytearray(b"II*\0\x08\0\0\0")
    for i in range(1000):
        data += struct.pack("<H", 901) + entries + struct.pack("<I", 8 + (i + 1) * size if i < 999 else 0)
    assert tiff.pictures(bytes(data)) == (1000, 0)


def test_what_pillow_writes_is_one_picture() -> None:
    image = Image.fromarray(COLOURS)
    for options in ({}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}):
        assert tiff.pictures(saved(image, "TIFF", **options)) == (1, 0)
    assert tiff.pictures(saved(image, "TIFF", save_all=True, append_images=[image])) == (2, 0)
    assert tiff.kind(b"II*\0") is None
