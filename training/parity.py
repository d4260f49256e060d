"""Whether an exported graph says what torch says: on other numbers of rows and other lengths than its example's, too.

An exporter that freezes an axis at the example's size does so in silence, and a graph whose rows depend on each other
gives other answers in a server that batches than it gave here. So each is run as it will be run, and refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.core.manifest import ROWS

PARITY_ATOL: Final = 1e-4
LENGTH: Final = "length"
STEPS: Final = "steps"
"""The input that has how long each row is, and the output that has how many of a row's outputs belong to it."""
ALONE_ROWS: Final = 8
FIXED_ROWS: Final = 64
VARIABLE_ROWS: Final = 16
"""Rows in one run."""
SHARES: Final = ((1, 0.55), (3, 0.7), (2, 1.3))
"""Rows, and their length in parts of the longest that is given."""

Arrays = Mapping[str, NDArray[Any]]
Axes = Mapping[str, Mapping[int, str]]
Run = Callable[[Arrays], dict[str, NDArray[Any]]]


class PublishError(Exception):
    """A model that cannot be published; one line that says why and where."""


@dataclass(frozen=True)
class Compared:
    """What was seen of a graph that says what torch says.

    Attributes:
        difference: the largest between torch and the graph.
        outputs: of all given rows.
        lengths: of each variable axis of the inputs, by its name, the sizes that it had, run by run.
        sizes: the same of each axis of each output but the rows.
    """

    difference: float
    outputs: dict[str, NDArray[Any]]
    lengths: dict[str, list[int]]
    sizes: dict[str, list[list[int]]]


def compare(module: nn.Module, run: Run, inputs: Mapping[str, Tensor], axes: Axes, *, where: str) -> Compared:
    """Compare a module with its graph.

    Args:
        run: the graph.
        inputs: rows by name; of variable length they are filled up with zeros, and `length` says how long each is.
        axes: the names of variable axes, of inputs and outputs.
        where: the graph's file, for messages.

    Raises:
        PublishError: the graph answers otherwise than the module; the rows of its outputs are not on axis 0 or depend
            on each other or on what fills them up; its length is the example's; a named axis is not as long as it says.
    """
    pair = _Pair(module, run, axes, where)
    some = {name: given[:ALONE_ROWS] for name, given in inputs.items()}
    if axes:
        for rows, share in SHARES:
            pair.compare(_resized({name: given[:rows] for name, given in inputs.items()}, axes, share))
        some = _mixed(some, axes)
        pair.compare(some)
    pair.compare_alone(some)
    difference, outputs = pair.compare(inputs)
    return Compared(difference, outputs, pair.lengths, pair.sizes)


class _Pair:
    def __init__(self, module: nn.Module, run: Run, axes: Axes, where: str) -> None:
        self._module = module
        self._run = run
        self._axes = axes
        self._where = where
        self.lengths: dict[str, list[int]] = {}
        self.sizes: dict[str, list[list[int]]] = {}

    def compare(self, inputs: Mapping[str, Tensor]) -> tuple[float, dict[str, NDArray[Any]]]:
        """The largest difference between torch and the graph, and the graph's outputs."""
        rows_a_run = VARIABLE_ROWS if self._axes else FIXED_ROWS
        feed = {name: given.numpy() for name, given in inputs.items()}
        count = len(next(iter(feed.values())))
        parts = [
            self._outputs({name: rows[i : i + rows_a_run] for name, rows in feed.items()})
            for i in range(0, count, rows_a_run)
        ]
        got = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        difference = 0.0
        for (name, one), other in zip(got.items(), self._torch(inputs), strict=True):
            if one.shape != other.shape:
                raise self._frozen(name, one, other, feed)
            allowed = tolerance([other])
            if not (apart := _apart(one, other)) <= allowed:
                raise PublishError(
                    f"{self._where}: '{name}' of ONNX Runtime differs from torch's by {apart:.2e} on "
                    f"{self._in_words(feed)}, expected {allowed:.2g} at most"
                )
            difference = max(difference, apart)
        return difference, got

    def compare_alone(self, inputs: Mapping[str, Tensor]) -> None:
        """Each row alone, cut to its own length where it has one, and all together."""
        together = self._outputs({name: rows.numpy() for name, rows in inputs.items()})
        for i in range(len(next(iter(inputs.values())))):
            row = {name: rows[i : i + 1] for name, rows in inputs.items()}
            if LENGTH in inputs and self._axes:
                row = _cut(row, self._axes, int(row[LENGTH]))
            for name, alone in self._outputs({name: rows.numpy() for name, rows in row.items()}).items():
                shared = together[name][i : i + 1]
                sizes = [min(pair) for pair in zip(alone.shape, shared.shape, strict=True)]
                if STEPS in together and len(sizes) > 1:
                    sizes[1] = min(sizes[1], int(together[STEPS][i]))
                area = tuple(map(slice, sizes))
                allowed = tolerance([shared[area]])
                if not (apart := _apart(alone[area], shared[area])) <= allowed:
                    raise PublishError(
                        f"{self._where}: row {i} of '{name}' differs by {apart:.2e} from what that row gives alone, "
                        f"expected {allowed:.2g} at most: its rows (axis 0) depend on each other"
                        + (" or on the zeros that fill them up" if self._axes else "")
                    )

    def _outputs(self, feed: Arrays) -> dict[str, NDArray[Any]]:
        """The graph's, with their rows on axis 0."""
        count = len(next(iter(feed.values())))
        try:
            outputs = self._run(feed)
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            raise PublishError(f"{self._where}: cannot be run on {self._in_words(feed)}: {reason}") from error
        length_of = {axis: feed[name].shape[i] for name, i, axis in _named(self._axes, feed)}
        for name, array in outputs.items():
            if array.ndim == 0 or len(array) != count:
                raise PublishError(
                    f"{self._where}: '{name}' is {array.shape} for {self._in_words(feed)}, "
                    f"expected the {count} rows on axis 0"
                )
            for i, axis in self._axes.get(name, {}).items():
                if array.shape[i] != length_of.get(axis, array.shape[i]):
                    raise PublishError(
                        f"{self._where}: '{name}' is {array.shape} for {self._in_words(feed)}, its axis {i} is said to "
                        f"be '{axis}'"
                    )
            sizes = self.sizes.setdefault(name, [[] for _ in array.shape[1:]])
            for seen, size in zip(sizes, array.shape[1:], strict=True):
                seen.append(size)
        for axis, size in length_of.items():
            self.lengths.setdefault(axis, []).append(size)
        return outputs

    def _torch(self, inputs: Mapping[str, Tensor]) -> list[NDArray[Any]]:
        """All rows at once, but for those of variable length, which are large."""
        count = len(next(iter(inputs.values())))
        step = VARIABLE_ROWS if self._axes else count
        parts = []
        with torch.no_grad():
            for i in range(0, count, step):
                found = self._module(*(given[i : i + step] for given in inputs.values()))
                parts.append([found] if isinstance(found, Tensor) else list(found))
        return [torch.cat(part).numpy() for part in zip(*parts, strict=True)]

    def _frozen(self, name: str, one: NDArray[Any], other: NDArray[Any], feed: Arrays) -> PublishError:
        differing = [i for i, (a, b) in enumerate(zip(one.shape, other.shape, strict=False)) if a != b]
        axis = f"axis {differing[0]} of '{name}'" if differing else f"'{name}'"
        return PublishError(
            f"{self._where}: {axis} is of another size than torch's on {self._in_words(feed)}: "
            f"{one.shape}, expected {other.shape}; an axis that is frozen at the example's size?"
        )

    def _in_words(self, feed: Arrays) -> str:
        lengths = {axis: feed[name].shape[i] for name, i, axis in _named(self._axes, feed)}
        words = f"{len(next(iter(feed.values())))} {ROWS}"
        return words + "".join(f" of {size} {axis}" for axis, size in lengths.items())


def tolerance(answers: Sequence[NDArray[Any]]) -> float:
    """How far two runtimes may be apart: 1e-4, and in proportion where answers are greater than one (euros, grams)."""
    return PARITY_ATOL * max([1.0, *(float(np.abs(one).max(initial=0)) for one in answers)])


def cut_to_longest(inputs: Mapping[str, Tensor], axes: Axes) -> dict[str, Tensor]:
    """Without the zeros that are behind the end of the longest row."""
    if LENGTH not in inputs or not axes:
        return dict(inputs)
    return _cut(inputs, axes, int(inputs[LENGTH].max()))


def _apart(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0))


def _named(axes: Axes, tensors: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    for name in tensors:
        for i, axis in axes.get(name, {}).items():
            yield name, i, axis


def _cut(inputs: Mapping[str, Tensor], axes: Axes, size: int) -> dict[str, Tensor]:
    """The first steps of the axis that `length` counts."""
    (_, _, counted), *_ = _named(axes, inputs)
    found = dict(inputs)
    for name, i, axis in _named(axes, inputs):
        if axis == counted:
            found[name] = found[name].narrow(i, 0, min(size, found[name].shape[i]))
    return found


def _resized(inputs: Mapping[str, Tensor], axes: Axes, share: float) -> dict[str, Tensor]:
    """All variable axes cut off, or filled up, to a share of their size."""
    found = dict(inputs)
    for name, i, _ in _named(axes, inputs):
        size = max(1, round(share * inputs[name].shape[i]))
        whole = found[name]
        more = size - whole.shape[i]
        if more > 0:
            zeros = whole.new_zeros([*whole.shape[:i], more, *whole.shape[i + 1 :]])
            found[name] = torch.cat([whole, zeros], dim=i)
        else:
            found[name] = whole.narrow(i, 0, size)
        if LENGTH in found:
            found[LENGTH] = found[LENGTH].clamp(max=size)
    return found


def _mixed(inputs: Mapping[str, Tensor], axes: Axes) -> dict[str, Tensor]:
    """Rows that differ in length: of the rows given, the first whole and the others cut off, the rest zeros."""
    if LENGTH not in inputs:
        return dict(inputs)
    count = len(inputs[LENGTH])
    share = torch.linspace(1, 0.6, count, dtype=torch.float64)
    length = (inputs[LENGTH] * share).ceil().to(torch.int64)
    found = dict(inputs) | {LENGTH: length}
    (_, _, counted), *_ = _named(axes, inputs)
    for name, i, axis in _named(axes, inputs):
        if axis == counted:
            rows = found[name]
            steps = torch.arange(rows.shape[i]).reshape([-1 if d == i else 1 for d in range(rows.ndim)])
            real = steps < length.reshape([-1, *[1] * (rows.ndim - 1)])
            found[name] = rows * real.to(rows.dtype)
    return cut_to_longest(found, axes)
