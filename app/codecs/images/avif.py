"""What is in an AVIF file, looked at before libavif reads it.

libavif looks for each item among all items, and for each frame through all tables: 20,000 items in 100 kB take it
0.6 s, 30 MB hours. And it believes what the boxes say of a picture's size: a kilobyte that says 64x64 around an AV1
picture of 12,000x12,000 takes 4 s, for every frame of a clip. So the boxes (ISO/IEC 14496-12) are counted, and the
sizes are those of the AV1 sequence headers (AV1 specification, 5.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from app.codecs.images.pieces import MAX_FRAMES, TooManyPieces

MAX_BOXES: Final = 4_096
MAX_ITEM_BYTES: Final = 1 << 15  # of the lists of items; a picture of 700 tiles has as many
MAX_PARTS: Final = 1 << 16  # frames, extents of items and units of AV1, of which a frame has about three

# Boxes with boxes inside, and how many bytes stand before these.
_INSIDE: Final = {
    **dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"iprp", b"ipco"), 0),
    **dict.fromkeys((b"meta", b"iref"), 4),
    b"iinf": 6,
}
_TABLES: Final = (b"stts", b"stsc", b"stco", b"co64", b"stss", b"ctts")
_SEQUENCE_HEADER: Final = 1


@dataclass(slots=True)
class Contents:
    """Of a file.

    Attributes:
        frames: of its longest track, up to MAX_FRAMES + 1; 1 where it has none.
        sizes: width and height in all sequence headers.
        frame_sizes: those of tracks alone.
    """

    frames: int = 1
    sizes: set[tuple[int, int]] = field(default_factory=set)
    frame_sizes: set[tuple[int, int]] = field(default_factory=set)


def contents(data: bytes) -> Contents:
    """What a file holds; of a damaged one, what can be found, for the decoder to complain of.

    Raises:
        TooManyPieces: more boxes, items, frames or units of AV1 than any encoder writes.
    """
    found = Contents()
    item_bytes, parts = 0, _Parts()
    items: list[tuple[int, int]] = []  # places of lists of items' places
    stores: dict[int, int] = {}  # beginning of a list's own data, by that of the box around both
    tables: dict[int, dict[bytes, int]] = {}
    for kind, outer, around, start, stop in _boxes(data):
        if (outer == b"meta" and kind not in (b"idat", b"iprp")) or (outer == b"iprp" and kind != b"ipco"):
            item_bytes += stop - start + 8
        if kind in (b"stsz", b"stz2"):
            found.frames = max(found.frames, _number(data, start + 8, 4))
        elif kind in _TABLES and _number(data, start + 4, 4) > MAX_FRAMES:
            found.frames = MAX_FRAMES + 1
        if outer == b"stbl":
            tables.setdefault(around, {})[kind] = start
        elif kind == b"iloc":
            items.append((start, around))
        elif kind == b"idat":
            stores[around] = start
    if item_bytes > MAX_ITEM_BYTES:
        raise TooManyPieces("bytes of lists of items", MAX_ITEM_BYTES)
    if found.frames > MAX_FRAMES:
        found.frames = MAX_FRAMES + 1
        return found
    for start, around in items:
        for payload in _items(data, start, stores.get(around, len(data)), parts):
            found.sizes |= _sizes(memoryview(payload), parts)
    view = memoryview(data)
    for one in tables.values():
        for at, size in _samples(data, one, parts):
            found.frame_sizes |= _sizes(view[at : at + size], parts)
    found.sizes |= found.frame_sizes
    return found


class _Parts:
    """Counts the parts that were looked at."""

    def __init__(self) -> None:
        self._left = MAX_PARTS

    def look(self) -> None:
        """Raises TooManyPieces where there were too many."""
        self._left -= 1
        if self._left < 0:
            raise TooManyPieces("frames, extents and units", MAX_PARTS)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes, int, int, int]]:
    """Kind, kind of the box around it, where that one's contents begin, and where its own begin and end."""
    left = [(0, len(data), b"")]
    boxes = 0
    while left:
        at, end, outer = left.pop()
        around = at
        while at + 8 <= end:
            boxes += 1
            if boxes > MAX_BOXES:
                raise TooManyPieces("boxes", MAX_BOXES)
            size, kind, head = _number(data, at, 4), data[at + 4 : at + 8], 8
            if size == 1:
                size, head = _number(data, at + 8, 8), 16
            stop = min(end, at + size) if size else end
            start = at + head
            if stop < start:  # damaged
                break
            yield kind, outer, around, start, stop
            if kind in _INSIDE:
                wide = 2 if kind == b"iinf" and data[start : start + 1] > b"\0" else 0
                left.append((start + _INSIDE[kind] + wide, stop, kind))
            at = stop


def _items(data: bytes, at: int, store: int, parts: _Parts) -> Iterator[bytes]:
    """The bytes of each item, whose places the box `iloc` at `at` lists; `store` is where `idat` begins (8.11.3)."""
    version, sizes = _number(data, at, 1), _number(data, at + 4, 2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2
    count = _number(data, at + 6, wide)
    at += 6 + wide
    left = 2 * len(data)
    for _ in range(count):
        parts.look()
        at += wide
        method = _number(data, at, 2) & 15 if version else 0
        at += 4 if version else 2
        base = _number(data, at, base_size) + (store if method == 1 else 0)
        extents = _number(data, at + base_size, 2)
        at += base_size + 2
        payload = []
        for _ in range(extents):
            parts.look()
            at += index_size if version else 0
            begin, length = base + _number(data, at, offset_size), _number(data, at + offset_size, length_size)
            at += offset_size + length_size
            part = data[begin : begin + length] if length else data[begin:]
            left -= len(part)
            if left < 0:
                raise TooManyPieces("times its own bytes in its items", 2)
            payload.append(part)
        yield b"".join(payload)


def _samples(data: bytes, tables: dict[bytes, int], parts: _Parts) -> Iterator[tuple[int, int]]:
    """Place and size of each frame of a track (8.6 and 8.7)."""
    sizes, runs = tables.get(b"stsz"), tables.get(b"stsc")
    chunks = tables.get(b"stco", tables.get(b"co64"))
    if sizes is None or runs is None or chunks is None:
        return
    width = 4 if b"stco" in tables else 8
    same, count = _number(data, sizes + 4, 4), min(_number(data, sizes + 8, 4), MAX_FRAMES)
    starts = [_number(data, runs + 8 + 12 * i, 4) for i in range(_number(data, runs + 4, 4))]
    sample = run = 0
    for chunk in range(_number(data, chunks + 4, 4)):
        parts.look()
        at = _number(data, chunks + 8 + width * chunk, width)
        while run + 1 < len(starts) and starts[run + 1] <= chunk + 1:
            run += 1
        for _ in range(_number(data, runs + 12 + 12 * run, 4)):
            if sample >= count:
                return
            parts.look()
            size = same or _number(data, sizes + 12 + 4 * sample, 4)
            yield at, size
            at, sample = at + size, sample + 1


def _sizes(payload: memoryview, parts: _Parts) -> set[tuple[int, int]]:
    """Sizes in the sequence headers among the units (5.3) of one picture; metadata has none, by its
    first byte."""
    found: set[tuple[int, int]] = set()
    at = 0
    while at < len(payload):
        parts.look()
        head = payload[at]
        at += 2 if head & 4 else 1
        size = len(payload) - at
        if head & 2:
            size = 0
            for i in range(8):
                byte = _number(payload, at, 1)
                size |= (byte & 127) << 7 * i
                at += 1
                if byte < 128:
                    break
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            found.add(_sequence_size(payload[at : at + min(size, 1_000)]))
        at += size
    return found


def _sequence_size(header: memoryview) -> tuple[int, int]:
    """Greatest width and height of a sequence's frames (5.5.1)."""
    bits = _Bits(header)
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced header of a still picture
        bits.take(5)
    else:
        delay_bits = 0
        if bits.take(1):  # timing
            bits.take(64)
            if bits.take(1):
                zeros = 0
                while zeros < 32 and not bits.take(1):
                    zeros += 1
                bits.take(zeros)
            if bits.take(1):  # decoder model
                delay_bits = bits.take(5) + 1
                bits.take(42)
        display_delay = bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if delay_bits and bits.take(1):
                bits.take(2 * delay_bits + 1)
            if display_delay and bits.take(1):
                bits.take(4)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


class _Bits:
    """Bits of bytes, the highest first; zeros behind their end."""

    def __init__(self, data: memoryview) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return shifted & ((1 << count) - 1)


def _number(data: bytes | memoryview, at: int, size: int) -> int:
    """Big-endian; zero behind the end."""
    return int.from_bytes(data[at : at + size], "big")
