"""base64 that is longer than what is decoded at a time."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from app.codecs.images.files import PIECE_BYTES, decode, decode_base64, encode_png
from app.core.errors import Unprocessable
from tests.made_models import PHOTO

PICTURE = encode_png(np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8))
TEXT = base64.b64encode(PICTURE).decode()
assert len(TEXT) > 3 * PIECE_BYTES


@pytest.mark.parametrize("width", [76, 2**30])
def test_a_long_picture_is_the_same_as_its_bytes(width: int) -> None:
    broken = "\n".join(TEXT[at : at + width] for at in range(0, len(TEXT), width))
    expected = decode(PICTURE, PHOTO, subject="a", max_pixels=10**6)
    np.testing.assert_array_equal(decode_base64(broken, PHOTO, subject="a", max_pixels=10**6), expected)


@pytest.mark.parametrize("at", [0, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 5])
@pytest.mark.parametrize("wrong", ["!", "é", "€", "\U0001f600", "\ud800", "="])
def test_a_wrong_character_is_named_with_its_place_wherever_it_stands(at: int, wrong: str) -> None:
    with pytest.raises(Unprocessable, match=f"as character {at} ") as told:
        decode_base64(TEXT[:at] + wrong + TEXT[at + 1 :], PHOTO, subject="a", max_pixels=10**6)
    assert f"{wrong!r} as" in told.value.detail


@pytest.mark.parametrize("spoilt", [TEXT[:-1], TEXT[: PIECE_BYTES + 1], TEXT[:-1] + "=="])
def test_long_base64_that_is_cut_off_or_wrongly_padded_is_told(spoilt: str) -> None:
    with pytest.raises(Unprocessable, match="cut off"):
        decode_base64(spoilt, PHOTO, subject="a", max_pixels=10**6)
