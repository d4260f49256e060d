"""Numbers of a tensor in JSON as an array, checked against its shape and its type."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.errors import ClientError, invalid, shown


def wrong(subject: str, expected: str, got: object) -> ClientError:
    text = got if isinstance(got, str) else shown(got)
    return invalid(subject, expected=expected, got=text, rule="expected")


def numbers(
    data: object, dtype: np.dtype[Any], datatype: str, shape: tuple[int, ...], subject: str, words: frozenset[bytes]
) -> NDArray[Any]:
    """Row-major numbers, nested or flat, as an array; null is NaN, and so is NaN.

    Args:
        datatype: what the protocol calls `dtype`.
        subject: what to call the tensor in errors.
        words: which of true, false and null may be among them.

    Raises:
        Unprocessable: no list, another shape, values that are no numbers or that the type cannot hold.
    """
    missing: list[int] = []
    if not isinstance(data, list):
        raise wrong(f"{subject}.data", "a list of numbers, flat or nested as its shape", data)
    if dtype.kind == "f" and b"null" in words:
        data, missing = _without_nulls(data)
    if words <= {b"null"} and dtype == np.uint8 and len(data) == math.prod(shape):
        with suppress(ValueError, TypeError):  # the checks below report it better
            return np.frombuffer(bytes(data), np.uint8).reshape(shape)
    try:
        array = np.array(data)
    except (ValueError, OverflowError):
        raise wrong(f"{subject}.data", f"numbers in the shape {list(shape)} or flat", "a ragged list") from None
    kinds = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}[dtype.kind]
    if array.dtype.kind not in kinds:
        raise wrong(f"{subject}.data", f"values of {datatype}", f"a list with {_odd(data, dtype.kind)}")
    if array.shape != shape and array.shape != (math.prod(shape),):
        raise wrong(
            f"{subject}.data", f"{math.prod(shape)} values, flat or as {list(shape)}", f"shape {list(array.shape)}"
        )
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        if array.min() < info.min or array.max() > info.max:
            raise wrong(f"{subject}.data", f"values from {info.min} to {info.max}", f"{array.min()} to {array.max()}")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype).reshape(shape)
    if dtype.kind == "f" and np.isinf(cast).any():
        raise wrong(f"{subject}.data", f"values that {datatype} can hold", f"up to {np.nanmax(np.abs(array)):g}")
    if missing:
        cast.reshape(-1)[missing] = np.nan
    return cast


def _without_nulls(data: list[Any]) -> tuple[list[Any], list[int]]:
    """The same with 0 in place of each null, by which JSON writes NaN, and where they were in row-major order."""
    missing: list[int] = []
    count = 0

    def filled(values: list[Any]) -> list[Any]:
        nonlocal count
        if not any(value is None or type(value) is list for value in values):
            count += len(values)
            return values
        found: list[Any] = []
        for value in values:
            if type(value) is list:
                found.append(filled(value))
                continue
            if value is None:
                missing.append(count)
            count += 1
            found.append(0.0 if value is None else value)
        return found

    return filled(data), missing


def _odd(data: object, kind: str) -> str:
    """The first value that is not a number of the kind, for the message."""
    good: tuple[type, ...] = {"b": (bool,), "u": (int,), "i": (int,), "f": (int, float)}[kind]
    todo = [data]
    while todo:
        value = todo.pop()
        if isinstance(value, list):
            todo.extend(reversed(value))
        elif type(value) not in good:
            return shown(value)
    return "values of several kinds"
