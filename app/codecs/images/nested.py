"""Pixels as JSON nested lists."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from app.codecs.turns import turn_to_convert
from app.core.errors import invalid, shown
from app.core.manifest import Picture

MIN_JSON_BYTES: Final = 2  # of a value: a digit and a comma


def from_nested(pixels: object, picture: Picture, *, subject: str) -> NDArray[np.uint8]:
    """Nested lists of whole numbers 0 to 255 as one row for the graph: no resizing, no inversion.

    Args:
        pixels: H lists of W numbers (grey) or of W lists of C numbers, whatever the graph's own layout.
        picture: the size that the manifest declares.
        subject: what to call the picture in errors, e.g. "images[3]".

    Returns:
        `picture.shape`, uint8.

    Raises:
        Unprocessable: another shape, ragged, or a value that is no whole number in 0..255; names the first index.
    """
    with turn_to_convert(MIN_JSON_BYTES * _values(pixels)):
        return _row(pixels, picture, subject)


def _values(pixels: object) -> int:
    """As many as there are where all lists are as long as the first ones."""
    values = 1
    while isinstance(pixels, list) and pixels:
        values, pixels = values * len(pixels), pixels[0]
    return values


def _row(pixels: object, picture: Picture, subject: str) -> NDArray[np.uint8]:
    height, width, channels = picture.height, picture.width, picture.channels
    array = _as_array(pixels)
    if array is None or array.shape not in _shapes(picture):
        _refuse(pixels, picture, subject)
    # Python booleans among integers turn into integers in the array, so they are looked for in the lists themselves.
    if not (((array >= 0) & (array <= 255)).all() and (array == np.floor(array)).all()) or _has_bool(pixels):
        _refuse(pixels, picture, subject)
    row = array.astype(np.uint8).reshape(height, width, channels)
    return row if picture.layout == "hwc" else np.ascontiguousarray(row.transpose(2, 0, 1))


def _shapes(picture: Picture) -> tuple[tuple[int, ...], ...]:
    full = (picture.height, picture.width, picture.channels)
    return (full, full[:2]) if picture.channels == 1 else (full,)


def _as_array(pixels: object) -> NDArray[Any] | None:
    if not isinstance(pixels, list):
        return None
    # Depth first, and only along the first elements: NumPy would build something out of any depth.
    depth, inner = 1, pixels[0] if pixels else None
    while isinstance(inner, list) and depth < 4:
        depth, inner = depth + 1, inner[0] if inner else None
    if depth not in (2, 3):
        return None
    try:
        array = np.array(pixels)
    except (ValueError, TypeError, OverflowError, RecursionError):  # ragged, or a number beyond any type
        return None
    return array if array.dtype.kind in "iuf" else None


def _has_bool(pixels: Any) -> bool:
    """Of lists that made an array. Its loops are the interpreter's own: a picture has a hundred thousand values."""
    numbers = chain.from_iterable(pixels)
    return bool in set(map(type, chain.from_iterable(numbers) if isinstance(pixels[0][0], list) else numbers))


def _refuse(pixels: object, picture: Picture, subject: str) -> NoReturn:
    """Walk the lists in order and raise at the first thing that is wrong."""
    grey = picture.channels == 1
    want = f"{picture.height} lists of {picture.width} numbers" + ("" if grey else f" of {picture.channels} channels")
    rows = _list_of(pixels, picture.height, "rows", subject, subject, want)
    nested = grey and bool(rows) and isinstance(rows[0], list) and bool(rows[0]) and isinstance(rows[0][0], list)
    for y, row in enumerate(rows):
        at = f"{subject}[{y}]"
        for x, value in enumerate(_list_of(row, picture.width, "pixels", at, subject, want)):
            spot = f"{at}[{x}]"
            if grey and not nested:
                _check_number(value, spot)
                continue
            for c, number in enumerate(_list_of(value, picture.channels, "channels", spot, subject, want)):
                _check_number(number, f"{spot}[{c}]")
    raise AssertionError(f"{subject}: refused, yet nothing is wrong with it")


def _list_of(value: object, length: int, unit: str, at: str, subject: str, want: str) -> list[object]:
    if isinstance(value, list) and len(value) == length:
        return value
    got = f"{len(value)} {unit}" if isinstance(value, list) else _named(value)
    hint = ""
    if at == subject and isinstance(value, list) and value and not isinstance(value[0], list):
        got, hint = f"a flat list of {len(value)}", " (one list a row, not all pixels in one)"
    raise invalid(
        at,
        expected=f"a list of {length} {unit}",
        got=got,
        detail=f"{at}: is {got}, expected {length} {unit}: the picture is {want}{hint}",
    )


def _check_number(value: object, at: str) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 255 and value == int(value):
        return
    raise invalid(at, expected="a whole number from 0 to 255", got=_named(value), where=f"{at}:", rule="expected")


def _named(value: object) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"the text {shown(value)}" if isinstance(value, str) else shown(value)
