from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codecs.npy import decode_npy, encode_npy
from app.core.errors import ClientError, TooLarge, Unprocessable, UnsupportedMedia
from tests.app.codecs.files import about

U8 = np.dtype("uint8")
F32 = np.dtype("float32")
ROWS = (np.arange(24) * 10).reshape(2, 3, 4, 1).astype(np.uint8)


def npy(array: np.ndarray, version: tuple[int, int] | None = None, *, allow_pickle: bool = False) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version, allow_pickle=allow_pickle)
    return out.getvalue()


def read(data: bytes, dtype: np.dtype[Any] = U8, row_shape: tuple[int, ...] = (3, 4, 1)) -> np.ndarray:
    return decode_npy(data, dtype=dtype, row_shape=row_shape, max_rows=4, subject="body")


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "array",
    [
        ROWS,
        ROWS[:, :, :, 0],
        np.asfortranarray(ROWS),
        ROWS.astype(np.int64),
        ROWS.astype(">u2"),
        ROWS.astype("<i4"),
    ],
)
def test_rows_come_through_whatever_their_order_and_width(array: np.ndarray) -> None:
    rows = read(npy(array))
    assert np.array_equal(rows, ROWS)
    assert (rows.dtype, rows.flags.c_contiguous, rows.flags.writeable) == (U8, True, True)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(version: tuple[int, int]) -> None:
    assert np.array_equal(read(npy(ROWS, version)), ROWS)


@pytest.mark.parametrize("array", [ROWS[0], ROWS[0, :, :, 0]])
def test_a_single_row_needs_no_axis_of_rows(array: np.ndarray) -> None:
    assert np.array_equal(read(npy(array)), ROWS[:1])


def test_numpy_reads_what_is_encoded() -> None:
    assert np.array_equal(np.load(io.BytesIO(encode_npy(ROWS.transpose(1, 0, 2, 3)))), ROWS.transpose(1, 0, 2, 3))


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (ROWS.astype(np.float32), "has dtype float32, expected uint8"),
        (ROWS.astype(bool), "has dtype bool, expected uint8"),
        (ROWS.astype(np.int16) - 1, r"body\[0\]\[0\]\[0\]\[0\]: is -1, expected 0 to 255"),
        (ROWS.astype(np.int16) + 100, r"body\[1\]\[1\]\[0\]\[0\]: is 260, expected 0 to 255"),
        (ROWS[:, :, :3], r"has shape \(2, 3, 3, 1\), expected \(rows, 3, 4, 1\)"),
        (ROWS[:0], "has no rows"),
        (np.array(["a"]), "expected plain numbers"),
        (np.array(1, np.uint8), r"has shape \(\)"),
        (np.zeros(2, np.dtype([("x", "u1")])), "expected plain numbers"),
    ],
)
def test_the_wrong_rows_are_refused_by_name(array: np.ndarray, says: str) -> None:
    with pytest.raises(Unprocessable, match=says):
        read(npy(array))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_floats_that_are_not_finite_are_refused_at_their_place(value: float) -> None:
    array = np.zeros((2, 3))
    array[1, 2] = value
    with pytest.raises(Unprocessable, match=r"body\[1\]\[2\]: is .*expected finite float32"):
        read(npy(array), F32, (3,))


def test_wider_floats_are_taken_for_floats() -> None:
    rows = read(npy(np.array([[0.5, 1.5, 2.5]], ">f8")), F32, (3,))
    assert (rows.dtype, rows.tolist()) == (F32, [[0.5, 1.5, 2.5]])


def test_more_rows_than_the_limit_answer_413() -> None:
    with pytest.raises(TooLarge, match="has 5 rows, the limit is 4"):
        read(npy(np.zeros((5, 3, 4, 1), np.uint8)))


def test_a_claim_of_terabytes_answers_413_or_422_without_allocating() -> None:
    claim = "{'descr': '|u1', 'fortran_order': False, 'shape': %s}"
    with pytest.raises(TooLarge):
        read(header(claim % "(1099511627776, 3, 4, 1)"))
    with pytest.raises(Unprocessable, match="cut off: 0 bytes follow the header"):
        read(header(claim % "(2, 3, 4, 1)"))


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(Unprocessable, match="trailing bytes: 25 bytes follow the header"):
        read(npy(ROWS) + b"x")


def test_pickled_objects_are_never_read() -> None:
    with pytest.raises(UnsupportedMedia, match="pickled"):
        read(npy(np.array([{}], object), allow_pickle=True))


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"[[1, 2]]", b"\x93NUMPY\x04\x00    "])
def test_what_is_no_npy_answers_415(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        read(data)


@pytest.mark.parametrize(
    "text",
    ["", "1", "(" * 4000, "-" * 4000 + "1", "{'descr': '|u1'}", "{'descr': '<f3', 'fortran_order': True, 'shape': ()}"],
)
def test_a_hostile_header_answers_422(text: str) -> None:
    with pytest.raises(Unprocessable):
        read(header(text))


@given(cut=st.integers(0, len(npy(ROWS)) - 1))
@settings(max_examples=60, deadline=None)
def test_a_cut_off_file_answers_an_error_of_the_tree(cut: int) -> None:
    with pytest.raises(ClientError):
        read(npy(ROWS)[:cut])


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_gives_rows_or_an_error_of_the_tree(data: st.DataObject) -> None:
    damaged = bytearray(npy(ROWS))
    for at, value in data.draw(st.lists(st.tuples(st.integers(0, 140), st.integers(0, 255)), min_size=1, max_size=6)):
        damaged[at] = value
    try:
        assert read(bytes(damaged)).shape[1:] == (3, 4, 1)
    except ClientError as error:
        about(error, "body")
