from __future__ import annotations

import base64
import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from app.codecs.images.files import decode, decode_base64, decode_pixels, encode_png
from app.core.errors import ClientError, TooLarge, Unprocessable, UnsupportedMedia
from app.core.manifest import PhotoPicture, Picture
from tests.app.codecs.files import DIGIT, FORMATS, GREY, LIMIT, PHOTO, about, example, saved, scene

EXAMPLES = {form: example(form) for form in FORMATS}


def read(data: bytes, picture: Picture = PHOTO) -> np.ndarray:
    return decode(data, picture, subject="image", max_pixels=LIMIT)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("form", FORMATS)
def test_a_picture_of_every_format_becomes_the_declared_shape(form: str) -> None:
    pixels = read(EXAMPLES[form])
    want = np.asarray(scene().resize((32, 32), Image.Resampling.BICUBIC, box=(4, 0, 44, 40)))
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - want).mean() < 12  # GIF has 256 colours, JPEG and WebP their losses


def test_a_picture_of_the_target_size_comes_through_unchanged() -> None:
    image = scene(32, 32)
    assert np.array_equal(read(saved(image)), np.asarray(image))


def test_cover_cuts_the_middle_and_stretch_keeps_it_all() -> None:
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, 16:48] = 200
    data = encode_png(wide)
    assert (read(data) == 200).all()
    stretched = read(data, PhotoPicture(kind="photo", height=32, width=32, channels=3, resize="stretch"))
    assert (stretched[:, :6] == 0).all()
    assert (stretched[:, 12:20] == 200).all()


def test_the_layout_chw_puts_the_channels_first() -> None:
    image = scene(32, 32)
    pixels = read(saved(image), PhotoPicture(kind="photo", height=32, width=32, channels=3, layout="chw"))
    assert np.array_equal(pixels.transpose(1, 2, 0), np.asarray(image))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, 1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, -1)),
    ],
)
def test_exif_turns_a_photo_upright(form: str, orientation: int, stored: Any) -> None:
    upright = np.asarray(scene(32, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(np.ascontiguousarray(stored(upright))), form, exif=exif)
    assert np.abs(read(data).astype(int) - upright).mean() < 6


def test_what_is_transparent_shows_the_background() -> None:
    image = scene(32, 32).convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat(np.array([[255], [0]], np.uint8), 16, axis=0).repeat(32, axis=1)))
    pixels = read(saved(image), PhotoPicture(kind="photo", height=32, width=32, channels=3, background=77))
    assert (pixels[16:] == 77).all()
    assert np.array_equal(pixels[:16], np.asarray(scene(32, 32))[:16])


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_palette_with_a_transparent_colour_shows_the_background(form: str) -> None:
    image = Image.new("P", (32, 32), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(0, (0, 0, 16, 32))
    pixels = read(saved(image, form, transparency=0))
    assert (pixels[:, :16] == 255).all()
    assert (pixels[:, 16:] == (40, 50, 60)).all()


def ramp() -> np.ndarray:
    return np.arange(32 * 32).reshape(32, 32) % 256


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ((ramp() * 257).astype(np.uint16), "PNG"),
        ((ramp() * 257).astype(np.uint16), "TIFF"),
        ((ramp() * 257).astype(">u2"), "TIFF"),
        ((ramp() * 257).astype(np.int32), "TIFF"),
        ((ramp() / 255).astype(np.float32), "TIFF"),
        (ramp().astype(np.float32), "TIFF"),
        ((ramp() * 1e5 - 7e6).astype(np.float32), "TIFF"),
    ],
)
def test_deep_grey_is_scaled_and_not_clipped(values: np.ndarray, form: str) -> None:
    pixels = read(saved(Image.fromarray(values), form), GREY)[:, :, 0]
    assert np.array_equal(pixels, ramp())


def test_a_float_picture_with_nan_is_refused() -> None:
    values = np.zeros((32, 32), np.float32)
    values[3, 4] = np.nan
    with pytest.raises(Unprocessable, match="NaN"):
        read(saved(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("1", "PNG"),
        ("L", "JPEG"),
        ("LA", "PNG"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
        ("LAB", "TIFF"),
    ],
)
def test_every_colour_model_shows_the_same_grey(mode: str, form: str) -> None:
    grey = Image.new("L", (32, 32), 255)
    grey.paste(0, (0, 0, 16, 32))
    if mode == "LAB":  # L* of 0 and 100, a* and b* of 0 (128 in Pillow's bytes)
        image = Image.merge("LAB", (grey, Image.new("L", (32, 32), 128), Image.new("L", (32, 32), 128)))
    else:
        image = grey.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else grey.convert(mode)
    pixels = read(saved(image, form))
    assert (pixels[:, :14] < 8).all()
    assert (pixels[:, 18:] > 247).all()


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def in_space(image: Image.Image, form: str, profile: bytes) -> bytes:
    out = io.BytesIO()
    image.save(out, form, icc_profile=profile, **({"quality": 100} if form in ("JPEG", "WEBP") else {}))
    return out.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_colours_are_those_of_the_file_s_own_space(form: str) -> None:
    """In a space whose red and green primaries have changed places, what is called red is seen as green."""
    swapped = SRGB.replace(b"rXYZ", b"#XYZ").replace(b"gXYZ", b"rXYZ").replace(b"#XYZ", b"gXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    image = Image.new("RGB", (32, 32), (250, 10, 10))

    def seen(data: bytes) -> tuple[int, ...]:
        return tuple(read(data)[16, 16].tolist())

    red, green = pytest.approx((250, 10, 10), abs=6), pytest.approx((10, 250, 10), abs=6)
    assert seen(in_space(image, form, swapped)) == green
    assert seen(in_space(image, form, SRGB)) == red
    assert seen(in_space(image, form, b"no profile")) == red
    as_it_is, profile = decode_pixels(in_space(image, form, swapped), channels=3, subject="a", max_pixels=9999)
    assert tuple(as_it_is[16, 16].tolist()) == red
    assert profile == swapped
    assert seen(encode_png(as_it_is, profile=profile)) == green
    for other in (SRGB, b"no profile"):
        _, profile = decode_pixels(in_space(image, form, other), channels=3, subject="a", max_pixels=9999)
        assert profile == b""


@pytest.mark.parametrize(
    ("marker", "bits", "says"),
    [
        (0xC0, 12, "a JPEG of 12 bits a sample"),
        (0xC1, 16, "a JPEG of 16 bits a sample"),
        (0xC3, 8, "a lossless JPEG"),
        (0xC6, 8, "a hierarchical JPEG"),
        (0xF7, 8, "a JPEG-LS picture"),
    ],
)
def test_a_jpeg_of_another_kind_is_named_and_not_called_damaged(marker: int, bits: int, says: str) -> None:
    data = bytearray(saved(Image.new("L", (32, 32)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    with pytest.raises(UnsupportedMedia) as caught:
        read(bytes(data))
    assert says in caught.value.detail
    assert "damaged" not in caught.value.detail


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b'{"image": 1}', "JSON"),
        (b"BMW is a make of car", "text"),
        ("Grüße".encode(), "text"),
        (b"PK\x03\x04....", "ZIP"),
        (b"\x00\x00\x00\x18ftypheic....", "HEIC"),
        (b"\x00\x01\x02\x03\x04\x05\x06\x07\xff\xfe", "unknown data"),
    ],
)
def test_what_is_no_picture_answers_415_and_says_what_it_was(data: bytes, what: str) -> None:
    with pytest.raises(UnsupportedMedia, match=what) as caught:
        read(data)
    assert "PNG, JPEG, WebP, AVIF, BMP, GIF or TIFF" in caught.value.detail
    assert caught.value.subject == "image"


def test_no_bytes_answer_422() -> None:
    with pytest.raises(Unprocessable, match="empty"):
        read(b"")


def test_a_huge_picture_answers_413_from_its_header_alone() -> None:
    with pytest.raises(TooLarge, match=r"30000x30000 = 900000000 pixels, the limit is 1000000"):
        read(png_claiming(30_000, 30_000))


def test_a_picture_of_exactly_the_limit_is_taken() -> None:
    assert decode(EXAMPLES["PNG"], PHOTO, subject="image", max_pixels=48 * 40).shape == PHOTO.shape
    with pytest.raises(TooLarge):
        decode(EXAMPLES["PNG"], PHOTO, subject="image", max_pixels=48 * 40 - 1)


@pytest.mark.parametrize("picture", [PHOTO, DIGIT])
def test_a_picture_of_one_pixel_answers_422(picture: Picture) -> None:
    with pytest.raises(Unprocessable, match="1x1 pixels, smaller than 4x4"):
        read(saved(Image.new("L", (1, 1))), picture)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "AVIF", "PNG", "TIFF"])
def test_an_animation_answers_422_with_its_number_of_frames(form: str) -> None:
    frames = [Image.new("RGB", (20, 20), (i * 80, 0, 0)) for i in range(3)]
    data = saved(frames[0], form, save_all=True, append_images=frames[1:])
    with pytest.raises(Unprocessable, match="3 frames"):
        read(data)


@pytest.mark.parametrize("form", FORMATS)
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=25, deadline=None)
def test_a_cut_off_picture_is_refused_unless_only_its_tail_is_missing(form: str, share: float) -> None:
    whole = EXAMPLES[form]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = read(whole[: int(share * len(whole))])
        except (Unprocessable, UnsupportedMedia):
            return
    assert np.array_equal(pixels, read(whole))


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_damaged_picture_gives_pixels_or_an_error_of_the_tree(form: str, data: st.DataObject) -> None:
    damaged = bytearray(EXAMPLES[form])
    spots = st.tuples(
        st.integers(0, min(len(damaged), 400) - 1) | st.integers(0, len(damaged) - 1), st.integers(0, 255)
    )
    for at, value in data.draw(st.lists(spots, min_size=1, max_size=8)):
        damaged[at] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for picture in (PHOTO, DIGIT):
            try:
                assert read(bytes(damaged), picture).shape == picture.shape
            except ClientError as error:
                about(error, "image")


@given(
    start=st.sampled_from(
        [
            b"",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff",
            b"GIF89a",
            b"II*\x00",
            b"RIFF\0\0\0\0WEBP",
            b"\0\0\0\x20ftypavif",
            b"BM",
        ]
    ),
    rest=st.binary(max_size=200),
)
@settings(max_examples=150, deadline=None)
def test_random_bytes_give_an_error_of_the_tree(start: bytes, rest: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(start + rest)
        except ClientError as error:
            about(error, "image")


def test_base64_bare_wrapped_and_as_a_data_url_give_the_same_pixels() -> None:
    data = EXAMPLES["PNG"]
    for text in (
        base64.b64encode(data).decode(),
        base64.encodebytes(data).decode(),
        "data:image/png;base64," + base64.b64encode(data).decode(),
    ):
        assert np.array_equal(decode_base64(text, PHOTO, subject="image", max_pixels=LIMIT), read(data))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("AAA*", "as character 3"),
        ("AA A-", "URL-safe"),
        ("A=AA", "as character 1"),
        ("AAAAA", "cut off or wrongly padded"),
        ("data:image/png,AAAA", "data: URL"),
        ("Ä", "as character 0"),
    ],
)
def test_what_is_no_base64_answers_422_and_names_the_place(text: str, says: str) -> None:
    with pytest.raises(Unprocessable, match="is not base64") as caught:
        decode_base64(text, PHOTO, subject="image", max_pixels=LIMIT)
    assert says in caught.value.detail


@given(text=st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_as_base64_gives_an_error_of_the_tree(text: str) -> None:
    with pytest.raises(ClientError):
        decode_base64(text, PHOTO, subject="image", max_pixels=LIMIT)


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3)])
def test_encoded_pixels_come_back_the_same(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    data = encode_png(pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))).reshape(shape), pixels)
    assert encode_png(pixels) == data
