"""Rows of tensors as `.npy` (NumPy's NEP 1 format, versions 1 to 3), read without ever unpickling.

Pure functions; whatever the bytes, only `UnsupportedMedia` (415), `Unprocessable` (422) and `TooLarge` (413) leave,
and nothing is allocated for what a header merely claims.
"""

from __future__ import annotations

import ast
import io
import math
import re
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from app.core.errors import ClientError, UnsupportedMedia, invalid, over_limit, shown

MAX_HEADER_BYTES: Final = 4096
_MAGIC: Final = b"\x93NUMPY"


def decode_npy(
    data: bytes, *, dtype: np.dtype[Any], row_shape: tuple[int, ...], max_rows: int, subject: str, nan: bool = False
) -> NDArray[Any]:
    """Rows (N, *row_shape) of `dtype`, C-contiguous, in this machine's byte order.

    One row may come without the axis of rows, and a row with one channel last, (H, W, 1), as (H, W). Another type is
    taken where it loses nothing: integers of any width whose values fit, floats of any width for floats.

    Args:
        data: the bytes of one `.npy` file.
        dtype: the type that the graph takes.
        row_shape: one row's shape.
        max_rows: greatest number of rows.
        subject: what to call the file in errors.
        nan: whether NaN is a value among floats.

    Raises:
        UnsupportedMedia: not `.npy`, another version of it, or pickled objects.
        TooLarge: more than `max_rows` rows.
        Unprocessable: cut off, trailing bytes, another shape or type, no rows, values that do not fit, NaN, infinity.
    """
    shape, fortran, got, start = _header(data, subject)
    _check_type(got, dtype, subject)
    rows = _rows(shape, row_shape, subject)
    if rows > max_rows:
        raise over_limit(subject, got=f"{rows} rows", most=max_rows, unit="rows")
    claimed, have = math.prod(shape) * got.itemsize, len(data) - start
    if claimed != have:
        what = "is cut off" if have < claimed else "has trailing bytes"
        raise invalid(
            subject,
            expected=f"{claimed} bytes of values",
            got=f"{have} bytes of values",
            detail=f"{subject}: {what}: {have} bytes follow the header, shape {shape} of {got.name} takes {claimed}",
        )
    values = np.frombuffer(data, got, offset=start).reshape(shape, order="F" if fortran else "C")
    _check_values(values, dtype, subject, nan)
    # The copy also makes it writable and free of the request's body.
    return np.array(values, dtype=dtype.newbyteorder("="), order="C").reshape(rows, *row_shape)


def npy_form(data: bytes, *, subject: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """What the header of a `.npy` file claims: shape and type.

    Raises:
        UnsupportedMedia, Unprocessable: as `decode_npy`.
    """
    shape, _, dtype, _ = _header(data, subject)
    return shape, dtype


def encode_npy(array: NDArray[Any]) -> bytes:
    """The bytes of a `.npy` file, C order; object arrays are a programming error."""
    out = io.BytesIO()
    npy.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
    return out.getvalue()


def _header(data: bytes, subject: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, type, and where the values begin."""
    if not data:
        raise invalid(
            subject, expected="a .npy file", got="0 bytes", detail=f"{subject}: is empty, expected rows as .npy"
        )
    if not data.startswith(_MAGIC):
        got = f"data beginning with bytes {data[: len(_MAGIC)].hex(' ')}"
        raise invalid(
            subject,
            expected="a .npy file",
            got=got,
            detail=f"{subject}: is {got}, a .npy file begins with {_MAGIC.hex(' ')}",
            error=UnsupportedMedia,
        )
    version = (data[6], data[7]) if len(data) >= 8 else None
    if version not in (None, (1, 0), (2, 0), (3, 0)):
        got = f"version {data[6]}.{data[7]}"
        raise invalid(
            subject,
            expected=".npy version 1.0, 2.0 or 3.0",
            got=got,
            detail=f"{subject}: is .npy {got}, expected version 1.0, 2.0 or 3.0",
            error=UnsupportedMedia,
        )
    start = 10 if version == (1, 0) else 12
    length = int.from_bytes(data[8:start], "little")
    if length > MAX_HEADER_BYTES:
        raise _damaged(subject, f"its header claims {length} bytes, at most {MAX_HEADER_BYTES} are read")
    if len(data) < start + length:
        raise _damaged(subject, f"it is cut off inside its header, after {len(data)} bytes")
    header = data[start : start + length].decode("utf-8" if version == (3, 0) else "latin-1", errors="replace")
    return *_parse(header, subject), start + length


@lru_cache(maxsize=256)  # a client sends the same header each time
def _parse(header: str, subject: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        # Escapes have no place in a header, and odd ones would make Python warn.
        fields = ast.literal_eval(header.strip()) if "\\" not in header else None
    except Exception:  # a hostile literal raises nearly anything, memory and recursion errors included
        fields = None
    if not isinstance(fields, dict) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise _damaged(subject, f"its header is no dictionary of descr, fortran_order and shape: {shown(header)}")
    descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if not isinstance(fortran, bool):
        raise _damaged(subject, f"fortran_order is {shown(fortran)}, expected True or False")
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise _damaged(subject, f"shape is {shown(shape)}, expected a tuple of sizes")
    if descr == "|O":
        raise invalid(
            subject,
            expected="numbers",
            got="pickled objects (dtype object)",
            detail=f"{subject}: holds pickled Python objects, which are never read; expected numbers",
            error=UnsupportedMedia,
        )
    if not isinstance(descr, str) or not re.fullmatch(r"[<>|=][biuf][1-8]", descr):
        raise invalid(
            subject,
            expected="integers or floats of 1 to 8 bytes",
            got=shown(descr),
            detail=f"{subject}: has dtype {shown(descr)}, expected plain numbers",
        )
    try:
        return shape, fortran, np.dtype(descr)
    except TypeError as error:  # "<f3"
        raise _damaged(subject, f"NumPy has no dtype {shown(descr)}") from error


def _rows(shape: tuple[int, ...], row_shape: tuple[int, ...], subject: str) -> int:
    """How many rows an array of this shape is, with or without its axis of channels."""
    rows = {row_shape, row_shape[:-1]} if len(row_shape) == 3 and row_shape[-1] == 1 else {row_shape}
    if shape in rows:
        return 1
    if shape[1:] in rows and shape[0] > 0:
        return shape[0]
    want = "(rows" + "".join(f", {n}" for n in row_shape) + ")"
    got = "no rows" if shape[1:] in rows else f"shape {shape}"
    raise invalid(
        subject, expected=want, got=got, where=f"{subject}:", verb="has", rule="expected", why=" with one row or more"
    )


def _check_type(got: np.dtype[Any], want: np.dtype[Any], subject: str) -> None:
    same = {"i": "iu", "u": "iu", "f": "f", "b": "b"}
    if got.kind not in same[want.kind]:
        raise invalid(subject, expected=want.name, got=got.name, where=f"{subject}:", verb="has dtype", rule="expected")


def _check_values(values: NDArray[Any], want: np.dtype[Any], subject: str, nan: bool) -> None:
    if want.kind == "f":
        limit = np.finfo(want).max
        good = np.abs(values) <= limit  # false for NaN and infinity
        if nan:
            good |= np.isnan(values)
        span = f"finite {want.name}"
    elif want.kind in "iu":
        info = np.iinfo(want)
        if info.min <= np.iinfo(values.dtype).min and np.iinfo(values.dtype).max <= info.max:
            return
        good = (values >= info.min) & (values <= info.max)
        span = f"{info.min} to {info.max} ({want.name})"
    else:
        return
    if good.all():
        return
    at = tuple(int(i) for i in np.unravel_index(int(np.argmin(good)), values.shape))
    spot = subject + "".join(f"[{i}]" for i in at)
    value = values[at]
    raise invalid(spot, expected=span, got=str(value), where=f"{spot}:", rule="expected")


def _damaged(subject: str, what: str) -> ClientError:
    return invalid(subject, expected="a whole .npy file", got=what, detail=f"{subject}: is no whole .npy file: {what}")
