"""What the frames around the sound announce, looked at before a decoder believes it.

A decoder walks through every chunk, box and table that a header announces: a few bytes can keep it busy for minutes,
or make it ask for gigabytes. Real recordings are far below the limits here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MAX_CHUNKS: Final = 1_000  # WAV
MAX_LINKS: Final = 1_000  # Ogg; internet radio begins a new one with each title
MAX_PAGES: Final = 250_000  # Ogg; ten minutes of Opus with a page for each of its shortest packets
MAX_BOXES: Final = 50_000  # MP4; a fragment a second for an hour takes 20,000
MAX_TABLE: Final = 1_000_000  # MP4, samples in all tables: six hours of AAC
MAX_EDITS: Final = 4  # MP4; each may repeat the whole table, recorders write one or two
UNKNOWN_SIZE: Final = 0x7FFF0000  # WAV: programs that write into a pipe announce this or more

_PARENTS: Final = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex"})
_COUNTS: Final = {b"stsz": 8, b"stz2": 8, b"trun": 4, b"elst": 4}
"""Where in a box its number of entries stands (ISO 14496-12), after version and flags at the latest."""


class TooManyPieces(Exception):
    """A file that no recorder makes: its pieces are more than anyone needs."""

    def __init__(self, pieces: str, limit: int) -> None:
        super().__init__(f"has more than {limit} {pieces}")
        self.expected = f"at most {limit} {pieces}"
        self.got = f"more than {limit}"


class CutOff(Exception):
    """A file that ends before what it announces."""

    def __init__(self, what: str, expected: int, got: int) -> None:
        super().__init__(f"is cut off: {what} announces {expected} bytes, {got} came")
        self.expected = f"{expected} bytes"
        self.got = f"{got} bytes"


def check(data: bytes, name: str) -> None:
    """Count the pieces of a file and see whether it is whole.

    Args:
        data: the file.
        name: its format, as `formats.sniff` calls it; those without such pieces are left to their decoders.

    Raises:
        TooManyPieces: reading it would take longer than its sound does.
        CutOff: a piece ends after the file.
    """
    match name:
        case "WAV":
            _wav(data)
        case "Ogg Opus" | "Ogg Vorbis" | "Ogg FLAC":
            _ogg(data)
        case "MP4":
            _mp4(data)


def ogg_links(data: bytes) -> list[bytes]:
    """The links of a chained Ogg file (RFC 3533, section 4: whole streams, one after the other); mostly one.

    Raises:
        TooManyPieces: more than `MAX_LINKS`, or `MAX_PAGES`.
    """
    starts, begun, at = [0], False, 0
    for _ in range(MAX_PAGES):
        at = data.find(b"OggS", at)
        if at < 0 or at + 27 > len(data):
            return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
        if not data[at + 5] & 2:
            begun = True
        elif begun:  # before that, it is a stream beside the first one
            starts.append(at)
            begun = False
            if len(starts) > MAX_LINKS:
                raise TooManyPieces("links", MAX_LINKS)
        segments = data[at + 26]
        at += 27 + segments + sum(data[at + 27 : at + 27 + segments])
    raise TooManyPieces("pages", MAX_PAGES)


def _wav(data: bytes) -> None:
    at, end = 12, len(data)
    for _ in range(MAX_CHUNKS):
        if at + 8 > end:
            return
        size, have = int.from_bytes(data[at + 4 : at + 8], "little"), end - at - 8
        if size >= UNKNOWN_SIZE or not data[at : at + 4].isascii() or 0 in data[at : at + 4]:
            return  # no chunk: some recorders fill their last block with zeros
        if data[at : at + 4] == b"data" and size > have:
            raise CutOff("its data chunk", size, have)
        at += 8 + size + (size & 1)
    raise TooManyPieces("chunks", MAX_CHUNKS)


def _ogg(data: bytes) -> None:
    at = data.rfind(b"OggS")
    segments = data[at + 26] if len(data) > at + 26 else 0
    table = data[at + 27 : at + 27 + segments]
    size, have = 27 + segments + sum(table), len(data) - at
    if size > have:
        raise CutOff("its last page", size, have)


def _mp4(data: bytes) -> None:
    boxes = entries = 0
    for kind, start, end in _boxes(data, 0, len(data)):
        boxes += 1
        if boxes > MAX_BOXES:
            raise TooManyPieces("boxes", MAX_BOXES)
        if kind not in _COUNTS:
            continue
        at = start + _COUNTS[kind]
        count = int.from_bytes(data[at : min(at + 4, end)], "big")
        if kind == b"elst" and count > MAX_EDITS:
            raise TooManyPieces("edits", MAX_EDITS)
        entries += count
        if entries > MAX_TABLE:
            raise TooManyPieces("samples in its tables", MAX_TABLE)


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of its contents, end) of the boxes from `at` to `end`, those inside others after these.

    Raises:
        CutOff: a box at the top ends after the file.
    """
    waiting = [(at, end)]
    while waiting:
        at, end = waiting.pop()
        while at + 8 <= end:
            size, kind, head = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
            if size == 1:
                size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
            if size == 0:  # to the end
                size = end - at
            if size < head:
                break  # damaged: the decoder reports it
            if at + size > end == len(data):
                raise CutOff(f"its box {kind.decode('latin-1')!r}", size, end - at)
            yield kind, at + head, min(end, at + size)
            if kind in _PARENTS:
                waiting.append((at + head, min(end, at + size)))
            at += size
