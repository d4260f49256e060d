"""TIFF (6.0, and BigTIFF): its directories, walked before a decoder does, and what it would misread of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from app.codecs.images.pieces import MAX_FRAMES, MAX_SCANS, OtherKind, TooManyPieces

MAX_TAGS: Final = 1_000  # in one directory
MAX_STRIPS: Final = 20_000  # strips or tiles

_SUBFILE: Final = 254  # bit 0: a smaller copy of another picture; bit 2: a mask of one
_SMALLER_OR_MASK: Final = 0b101
_BITS: Final = 258
_COMPRESSION: Final = 259
_SAMPLES: Final = 277
_PLANES: Final = 284
_FORMAT: Final = 339
_STRIPS: Final = (273, 279, 324, 325)  # StripOffsets, StripByteCounts, TileOffsets, TileByteCounts
_DIRECTORIES: Final = (34665, 34853, 40965)  # EXIF, GPS, interoperability
_SIZE: Final = (256, 257)
_SUB_DIRECTORIES: Final = 330
_DNG: Final = 50706
_JPEG: Final = (6, 7)
_LERC: Final = 34887
_FORMATS: Final = {1: "unsigned", 2: "signed", 3: "floating-point", 5: "complex whole", 6: "complex"}
_SIZES: Final = {1: ("B", 1), 3: ("H", 2), 4: ("L", 4), 16: ("Q", 8)}  # of a type: BYTE, SHORT, LONG, LONG8


@dataclass(frozen=True, slots=True)
class Directory:
    """One picture of a file: the first value of each tag that has a number, and how many strips or tiles there are."""

    values: dict[int, int]
    strips: int

    @property
    def is_misread(self) -> bool:
        """Whether the decoder takes it and makes something else of it, without a word."""
        bits, planes = self.values.get(_BITS, 1), self.values.get(_PLANES, 1)
        in_planes = self.values.get(_SAMPLES, 1) > 1 and planes == 2
        return (in_planes and bits > 8) or (bits == 8 and self.values.get(_FORMAT, 1) == 2)

    @property
    def kind(self) -> str:
        """What its samples are, in words."""
        bits, samples = self.values.get(_BITS, 1), self.values.get(_SAMPLES, 1)
        form = _FORMATS.get(self.values.get(_FORMAT, 1), "unknown")
        planes = " in separate planes" if samples > 1 and self.values.get(_PLANES, 1) == 2 else ""
        packed = " compressed by LERC" if self.values.get(_COMPRESSION) == _LERC else ""
        return f"a TIFF of {bits}-bit {form} samples, {samples} a pixel{planes}{packed}"


def pictures(data: bytes) -> tuple[int, int]:
    """How many pictures a file has, up to MAX_FRAMES + 1, and the number of the first, thumbnails counted.

    Raises:
        TooManyPieces: reading it would take longer than its pixels do.
        OtherKind: the decoder would misread its first picture.
    """
    file = _File(data)
    found = file.walk()
    places = [i for i, (_, subfile) in enumerate(found) if not subfile & _SMALLER_OR_MASK]
    alone = not places  # copies of pictures that are elsewhere
    places = places or list(range(len(found)))
    if not places:
        return 1, 0
    first = file.directory(found[places[0]][0])
    if _DNG in first.values or (alone and _SUB_DIRECTORIES in first.values):
        raise OtherKind("a camera's raw picture in TIFF")
    if first.strips > MAX_STRIPS:
        raise TooManyPieces("strips or tiles", MAX_STRIPS)
    if first.values.get(_COMPRESSION) in _JPEG and data.count(b"\xff\xda") > MAX_SCANS + first.strips:
        raise TooManyPieces("scans", MAX_SCANS + first.strips)
    if first.is_misread:
        raise OtherKind(first.kind)
    return len(places), places[0]


def kind(data: bytes) -> str | None:
    """What the samples of its first picture are, in words, of a file that the decoder does not take; None where the
    file is not whole."""
    file = _File(data)
    found = file.walk()
    first = file.directory(found[0][0]) if found else None
    if first is None or not all(tag in first.values for tag in (*_SIZE, _BITS)):
        return None
    place = next((first.values[tag] for tag in _STRIPS[::2] if tag in first.values), len(data))
    return first.kind if place < len(data) else None


class _File:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._order = order = "<" if data[:2] == b"II" else ">"
        self._big = data[2:4] in (b"+\0", b"\0+")
        self._count, self._offset = (order + "Q", order + "Q") if self._big else (order + "H", order + "L")
        self._entry = 20 if self._big else 12
        self._head, self._room = struct.calcsize(self._count), struct.calcsize(self._offset)

    def walk(self) -> list[tuple[int, int]]:
        """Where each directory is, of those that follow one another, and its tag 254, which stands first; as far as
        they are whole."""
        found: dict[int, int] = {}
        at = self._number(self._offset, 8 if self._big else 4) if len(self._data) >= 16 else 0
        try:
            while at and at not in found and len(found) <= MAX_FRAMES:
                found[at] = 0
                tags = self._tags(at)
                if tags and self._number(self._order + "H", at + self._head) == _SUBFILE:
                    found[at] = self._number(self._order + "L", at + self._head + self._entry - self._room)
                at = self._number(self._offset, at + self._head + self._entry * tags)
        except struct.error:  # it leads outside: the decoder reports it, or ignores it
            pass
        return list(found.items())

    def directory(self, at: int) -> Directory:
        values: dict[int, int] = {}
        strips = 1
        try:
            tags = self._tags(at)
        except struct.error:
            tags = 0
        for tag_at in range(at + self._head, at + self._head + self._entry * tags, self._entry):
            try:
                tag, kind = (self._number(self._order + "H", tag_at + i) for i in (0, 2))
                many = self._number(self._offset, tag_at + 4)
                strips = max(strips, many) if tag in _STRIPS else strips
                form, size = _SIZES.get(kind, ("", 0))
                value_at = tag_at + self._entry - self._room
                if size * many > self._room:
                    value_at = self._number(self._offset, value_at)
                if form and many:
                    values[tag] = self._number(self._order + form, value_at)
                if tag in _DIRECTORIES and tag in values:
                    self._tags(values[tag])
            except struct.error:
                continue
        return Directory(values, strips)

    def _tags(self, at: int) -> int:
        tags = self._number(self._count, at)
        if tags > MAX_TAGS:
            raise TooManyPieces("tags", MAX_TAGS)
        return tags

    def _number(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(kind, self._data, at)[0])
