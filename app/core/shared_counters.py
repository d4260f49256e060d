"""Figures that other processes read while they change: named rows of doubles in one block of memory.

A process counts into its own block, with no locks and no system calls: `cells[0] += 1`. Where the block is a memory
map of a file, other processes see each figure at once, and what was counted survives a `kill -9`. Adding up the blocks
of all processes is left to the reader.

Layout: 8 bytes, the length of the directory; the directory, a line of JSON per row of cells, [name, labels, first,
size, gauge]; from DIRECTORY_BYTES on the cells, float64 of this machine. A line counts once the length includes it.
"""

from __future__ import annotations

import json
import logging
import mmap
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

BLOCK_BYTES: Final = 1 << 20
DIRECTORY_BYTES: Final = 1 << 18
_HEAD: Final = 8

SECONDS: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
HISTOGRAM_CELLS: Final = len(SECONDS) + 2
"""A histogram of seconds: a cell for each bound of SECONDS, one for more than the last, one for the sum."""

Labels = tuple[str, ...]
Memory = bytearray | mmap.mmap


class Row(NamedTuple):
    """One row of cells: a counter or gauge has one, a histogram one per bucket and more."""

    name: str
    labels: Labels
    cells: memoryview[float]
    gauge: bool


class SharedCounters:
    """The figures of one process.

    Args:
        memory: BLOCK_BYTES of zeros, or a block that another process left: its counters go on from where they were.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory: Memory = bytearray(BLOCK_BYTES) if memory is None else memory
        if len(self._memory) != BLOCK_BYTES:
            raise ValueError(f"the block has {len(self._memory)} bytes, expected {BLOCK_BYTES}")
        self._values = memoryview(self._memory)[DIRECTORY_BYTES:].cast("d")
        self._rows = {(row.name, row.labels): row.cells for row in read(self._memory)}
        self._used = sum(len(cells) for cells in self._rows.values())

    def cells(self, name: str, labels: Labels = (), *, size: int = 1, gauge: bool = False) -> memoryview[float]:
        """The row of that name and labels, zeros where it is new. One thread at a time may write to a cell.

        Args:
            gauge: a present value instead of a count: void once its process is gone.
        """
        key = (name, labels)
        found = self._rows.get(key)
        if found is None or len(found) != size:  # another size: a block left by another release
            found = self._rows[key] = self._new_row(name, labels, size, gauge)
        return found

    def rows(self) -> Iterator[Row]:
        """Every row that others can see."""
        return read(self._memory)

    def clear_gauges(self) -> None:
        """For a block whose process is gone."""
        for row in read(self._memory):
            if row.gauge:
                row.cells[:] = memoryview(bytes(8 * len(row.cells))).cast("d")

    def _new_row(self, name: str, labels: Labels, size: int, gauge: bool) -> memoryview[float]:
        end = int.from_bytes(self._memory[:_HEAD], "little")
        line = json.dumps([name, labels, self._used, size, gauge], separators=(",", ":")).encode() + b"\n"
        if _HEAD + end + len(line) > DIRECTORY_BYTES or self._used + size > len(self._values):
            log.warning("no room for the figure %s %s: it is counted where nobody sees it", name, labels)
            return memoryview(bytearray(8 * size)).cast("d")
        self._memory[_HEAD + end : _HEAD + end + len(line)] = line
        cells = self._values[self._used : self._used + size]
        self._used += size
        self._memory[:_HEAD] = (end + len(line)).to_bytes(_HEAD, "little")
        return cells


def read(memory: Memory) -> Iterator[Row]:
    """Every row of a block, its own process's or another's. Of two rows of one name and labels the later one counts."""
    values = memoryview(memory)[DIRECTORY_BYTES:].cast("d")
    end = int.from_bytes(memory[:_HEAD], "little")
    rows: dict[tuple[str, Labels], Row] = {}
    for line in bytes(memory[_HEAD : _HEAD + end]).splitlines():
        name, labels, first, size, gauge = json.loads(line)
        key = (name, tuple(labels))
        rows[key] = Row(*key, values[first : first + size], gauge)
    return iter(rows.values())


def observe(histogram: memoryview[float], seconds: float) -> None:
    """Count one duration."""
    histogram[bisect_left(SECONDS, seconds)] += 1
    histogram[-1] += seconds
