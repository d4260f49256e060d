"""Rows of different length in one run: filled up with zeros to the longest, and cut again where that can be told.

Which axes vary stands in the manifest: those that have a name instead of a size. A graph without them pays nothing for
this file. A row joins a run only where each row of it is then real for at least half: so padding never doubles a run's
work, and a short row never waits for a row of more than twice its length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import ROWS, Graph, Tensors, TensorSpec

Kind = list[tuple[str, np.dtype[Any], tuple[int, ...]]]
"""Of each input its name, its type, and its shape without the rows."""


class Lengths:
    """The variable axes of one graph.

    Args:
        inputs: of each input that has any its axes of variable size, 1 or more.
        outputs: of each output that has an axis as long as one of an input: (axis, that input, its axis).
    """

    def __init__(
        self, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[tuple[int, str, int]]] | None = None
    ) -> None:
        self.inputs = {name: tuple(axes) for name, axes in inputs.items()}
        self.outputs = outputs or {}

    @classmethod
    def of(cls, graph: Graph) -> Self | None:
        """None where all inputs are of a fixed size. Axes of one name have one length."""
        inputs = {spec.name: [axis for axis, _ in _named(spec)] for spec in graph.inputs if _named(spec)}
        if not inputs:
            return None
        length_of = {name: (spec.name, axis) for spec in graph.inputs for axis, name in _named(spec)}
        outputs = {
            spec.name: [(axis, *length_of[name]) for axis, name in _named(spec) if name in length_of]
            for spec in graph.outputs
        }
        return cls(inputs, {name: axes for name, axes in outputs.items() if axes})

    def cut(self, outputs: dict[str, NDArray[Any]], inputs: Tensors) -> dict[str, NDArray[Any]]:
        """One job's outputs, without what the longer rows of its run added; views. An axis that is as long as none of
        the inputs' keeps the length that it had in the run: the graph tells by another output how much belongs to a
        row."""
        for name, axes in self.outputs.items():
            for axis, source, source_axis in axes:
                size = inputs[source].shape[source_axis]
                if outputs[name].shape[axis] > size:
                    outputs[name] = outputs[name][(slice(None),) * axis + (slice(size),)]
        return outputs


class Longest:
    """The rows of one run so far: the longest in each axis, and the smallest."""

    def __init__(self, lengths: Lengths, kind: Kind) -> None:
        self._axes = lengths.inputs
        self._kind = kind
        self._least = self._cells(kind)

    def admit(self, kind: Kind) -> bool:
        """Whether rows of this kind join, and count from now on; rows as long as the first of the run always may."""
        if len(kind) != len(self._kind):
            return False
        longest: Kind = []
        for (name, dtype, shape), (other_name, other_dtype, other) in zip(kind, self._kind, strict=True):
            if (name, dtype, len(shape)) != (other_name, other_dtype, len(other)):
                return False
            if shape != other:
                free = self._axes.get(name, ())
                if any(a != b and axis not in free for axis, (a, b) in enumerate(zip(shape, other, strict=True), 1)):
                    return False
                shape = tuple(map(max, shape, other))
            longest.append((name, dtype, shape))
        least = min(self._least, self._cells(kind))
        if self._cells(longest) > 2 * least:
            return False
        self._kind, self._least = longest, least
        return True

    def _cells(self, kind: Kind) -> int:
        """Numbers in the variable inputs of one row."""
        return sum(math.prod(shape) for name, _, shape in kind if name in self._axes)


def padded(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Concatenated along the rows, each filled up with zeros to the longest in every other axis."""
    shapes = [part.shape[1:] for part in parts]
    if all(shape == shapes[0] for shape in shapes):
        return np.concatenate(parts)
    rows = sum(len(part) for part in parts)
    whole = np.zeros((rows, *map(max, *shapes)), parts[0].dtype)
    begin = 0
    for part in parts:
        end = begin + len(part)
        whole[(slice(begin, end), *map(slice, part.shape[1:]))] = part
        begin = end
    return whole


def _named(spec: TensorSpec) -> list[tuple[int, str]]:
    return [(axis, name) for axis, name in enumerate(spec.shape) if isinstance(name, str) and name != ROWS]
