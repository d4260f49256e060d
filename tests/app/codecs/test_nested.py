from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codecs.images.files import from_nested
from app.core.errors import Unprocessable
from app.core.manifest import PhotoPicture
from tests.app.codecs.files import about

GREY = PhotoPicture(kind="photo", height=2, width=3, channels=1)
COLOUR = PhotoPicture(kind="photo", height=2, width=3, channels=3)
ROWS = [[0, 1, 2], [253, 254, 255]]


def changed(value: Any) -> list[Any]:
    return [[0, 1, 2], [253, value, 255]]


@pytest.mark.parametrize(
    "pixels", [ROWS, [[[v] for v in row] for row in ROWS], [[float(v) for v in row] for row in ROWS]]
)
def test_grey_pixels_are_taken_with_or_without_the_axis_of_channels(pixels: list[Any]) -> None:
    assert np.array_equal(from_nested(pixels, GREY, subject="image")[:, :, 0], ROWS)


def test_colour_pixels_are_laid_out_as_the_graph_wants() -> None:
    pixels = np.arange(18).reshape(2, 3, 3)
    chw = PhotoPicture(kind="photo", height=2, width=3, channels=3, layout="chw")
    assert np.array_equal(from_nested(pixels.tolist(), COLOUR, subject="image"), pixels)
    assert np.array_equal(from_nested(pixels.tolist(), chw, subject="image"), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("value", [-1, 256, 0.5, "7", True, None, float("nan"), float("inf"), 10**400, {}, [], [[1]]])
def test_a_value_that_is_no_pixel_is_named_with_its_place(value: Any) -> None:
    with pytest.raises(Unprocessable) as caught:
        from_nested(changed(value), GREY, subject="image")
    assert caught.value.subject == "image[1][1]"
    assert "expected a whole number from 0 to 255" in caught.value.detail


@pytest.mark.parametrize(
    ("pixels", "place", "says"),
    [
        ([[0, 1, 2], [3, 4]], "image[1]", "is 2 pixels, expected 3 pixels"),
        ([[0, 1, 2]], "image", "is 1 rows, expected 2 rows"),
        ([0, 1, 2, 3, 4, 5], "image", "a flat list of 6"),
        ([], "image", "is 0 rows"),
        ([[0, 1, 2], 7], "image[1]", "is 7, expected 3 pixels"),
        ("text", "image", "is the text 'text'"),
        (None, "image", "is null"),
        (True, "image", "is true"),
        ([[[0, 0], [0], [0]], [[0]] * 3], "image[0][0]", "is 2 channels, expected 1 channels"),
    ],
)
def test_the_wrong_shape_is_named_with_its_place(pixels: Any, place: str, says: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        from_nested(pixels, GREY, subject="image")
    assert caught.value.subject == place
    assert says in caught.value.detail


def test_brackets_without_end_answer_422() -> None:
    deep: Any = 0
    for _ in range(500):
        deep = [deep]
    with pytest.raises(Unprocessable):
        from_nested(deep, GREY, subject="image")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=30,
)


@given(
    pixels=JSON
    | st.lists(
        st.lists(st.integers(-1, 256) | st.booleans() | st.floats(0, 2), min_size=3, max_size=3), min_size=2, max_size=2
    )
)
@settings(max_examples=200, deadline=None)
def test_any_json_gives_pixels_or_an_error_that_names_its_place(pixels: Any) -> None:
    try:
        row = from_nested(pixels, GREY, subject="image")
    except Unprocessable as error:
        about(error, "image")
    else:
        assert np.array_equal(row.reshape(-1), np.array(json.loads(json.dumps(pixels))).reshape(-1))
