"""Pictures as the pixels that they are: sizes, colours, noise beyond black and white, and what is refused."""

from __future__ import annotations

import base64
import io
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.errors import TooLarge, Unprocessable
from app.web.request import pixels as raw
from app.web.request.payload import Payload

LIMITS: dict[str, int] = {"max_rows": 5, "max_pixels": 1000}


def picture(item: object, size: raw.Size | None = None, channels: raw.Channels = None) -> NDArray[np.uint8]:
    return raw.picture(item, size=size, channels=channels, subject="it", max_pixels=1000)[0]


def rows(array: NDArray[Any], size: raw.Size | None = None, channels: raw.Channels = None, span: float = 0.0) -> Any:
    return raw.pictures(Payload({}, [], encode_npy(array)), size=size, channels=channels, span=span, **LIMITS)[0]


def some(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_a_file_base64_and_nested_pixels_are_the_same_picture(shape: tuple[int, ...]) -> None:
    sent = some(*shape)
    file = encode_png(sent)
    for item in (file, base64.b64encode(file).decode(), sent.tolist()):
        np.testing.assert_array_equal(picture(item), sent.reshape(9, 7, -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_brought_to_what_is_asked_for(channels: Literal[1, 3]) -> None:
    grey, coloured = some(6, 5), some(6, 5, 3)
    decoded = [picture(encode_png(sent), channels=channels) for sent in (grey, coloured)]
    decoded.append(picture(grey.tolist(), channels=channels))
    assert [one.shape for one in decoded] == [(6, 5, channels)] * 3
    np.testing.assert_array_equal(decoded[0], grey[..., None].repeat(channels, axis=2))
    np.testing.assert_array_equal(decoded[2], decoded[0])
    if channels == 3:
        np.testing.assert_array_equal(decoded[1], coloured)
    else:
        luma = coloured @ [0.299, 0.587, 0.114]  # ITU-R 601-2
        assert np.abs(decoded[1][..., 0] - luma).max() <= 1


def test_deep_and_clear_pictures_become_8_bits_on_white() -> None:
    deep = Image.fromarray(np.full((5, 5), 32896, np.uint16))  # half of 65535
    clear = Image.fromarray(np.zeros((5, 5, 4), np.uint8))
    for image, level, channels in ((deep, 128, 1), (clear, 255, 3)):
        file = io.BytesIO()
        image.save(file, "PNG")
        np.testing.assert_array_equal(picture(file.getvalue()), np.full((5, 5, channels), level))


def test_nothing_is_resized() -> None:
    with pytest.raises(Unprocessable, match="it: is 9 rows, expected 7 rows"):
        picture(some(9, 7).tolist(), size=(7, 9))
    with pytest.raises(Unprocessable, match="it: is 7x9 pixels, expected 9x7: it is taken as it is"):
        picture(encode_png(some(9, 7)), size=(7, 9))


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((9, 7), [(9, 7, 1)]),
        ((9, 7, 1), [(9, 7, 1)]),
        ((9, 7, 3), [(9, 7, 3)]),
        ((2, 9, 7), [(9, 7, 1)] * 2),
        ((2, 9, 7, 1), [(9, 7, 1)] * 2),
        ((2, 9, 7, 3), [(9, 7, 3)] * 2),
    ],
)
def test_the_shape_of_rows_says_what_they_are(shape: tuple[int, ...], wanted: list[tuple[int, ...]]) -> None:
    sent = some(*shape)
    found = rows(sent)
    assert [(one.shape, one.dtype) for one in found] == [(one, np.uint8) for one in wanted]
    np.testing.assert_array_equal(np.stack(found).reshape(shape), sent)
    assert [one.shape for one in rows(sent, (9, 7), 3 if shape[-1] == 3 else 1)] == wanted


def test_rows_of_another_number_of_colours_are_refused() -> None:
    with pytest.raises(Unprocessable, match=r"expected \(rows, height, width, 1\)"):
        rows(some(2, 9, 7, 3), channels=1)


def test_floats_may_lie_beyond_black_and_white_as_far_as_noise_goes() -> None:
    sent = np.linspace(-1, 2, 36).reshape(1, 6, 6)
    (found,) = rows(sent, span=1.0)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., 0], sent[0].astype(np.float32))
    sent[0, 2, 3] = 5.0
    with pytest.raises(
        Unprocessable, match=r"body\[0\]\[2\]\[3\]\[0\] is 5.0, expected pixels from 0 to 1, with noise"
    ):
        rows(sent, span=1.0)


def test_whole_numbers_of_any_width_are_grey_levels() -> None:
    (found,) = rows(np.full((4, 4), 200, np.int64))
    assert found.dtype == np.uint8
    with pytest.raises(Unprocessable, match="256"):
        rows(np.full((4, 4), 256, np.int64))


def test_pixels_count_together() -> None:
    files = [(f"images[{i}]", encode_png(some(20, 20))) for i in range(3)]
    assert len(raw.pictures(Payload({}, list(files[:2])), size=None, channels=None, **LIMITS)[0]) == 2
    with pytest.raises(TooLarge) as caught:
        raw.pictures(Payload({}, list(files)), size=None, channels=None, **LIMITS)
    assert (caught.value.subject, caught.value.expected) == ("images", "at most 1000 pixels")
    with pytest.raises(TooLarge, match="1200 pixels, the limit is 1000"):
        rows(some(3, 20, 20))
    with pytest.raises(TooLarge, match="6 rows"):
        rows(some(6, 4, 4))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_as_floats_they_are_from_0_to_1(dtype: Any) -> None:
    levels = np.arange(256).reshape(16, 16, 1)
    pixels = levels.astype(np.uint8) if dtype is np.uint8 else (levels / 255).astype(np.float32)
    found = raw.floats(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, levels / 255, atol=1e-7)
