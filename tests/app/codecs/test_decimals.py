"""Decimals say all of a float32."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codecs.decimals import decimals, rounded


@settings(max_examples=40)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_what_is_written_is_read_as_the_same_float32(values: list[float]) -> None:
    array = np.array(values, np.float32)
    read = np.array(json.loads(json.dumps(decimals(array))), np.float32)
    np.testing.assert_array_equal(read, array)


def test_numbers_are_no_longer_than_they_must_be() -> None:
    assert json.dumps(decimals(np.float32([0.5, -3, 0.1, 0]))) == "[0.5, -3.0, 0.100000001, 0.0]"
    assert rounded([1 / 3, 2e-9], digits=3) == [0.333, 2e-9]
