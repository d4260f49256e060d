"""The frames of an MP3 file, put in order before they are decoded.

libsndfile estimates the length of a file without a Xing tag from its first frame and reads no further, so that quiet
beginnings cut the rest off; and its decoder writes a line to standard error for whatever it does not know (other
people's tags, a part of a longer file). So it is given the frames of sound alone, behind a tag that is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_JUNK_BYTES: Final = 1 << 16  # between frames, in all
DECODER_DELAY: Final = 529  # samples before the first that any decoder of layer III adds (LAME's technical FAQ)
ENCODER_DELAY: Final = 576  # where the file does not say: LAME's, and the least that there is

# Kilobits a second of MPEG-1 and of MPEG-2 and 2.5, layer III; samples a second by version (ISO 11172-3, 13818-3).
_BIT_RATES: Final = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_TAGS: Final = (b"Xing", b"Info", b"VBRI")
_TAG_WITHIN: Final = 44  # bytes of a frame; at most 36 stand before it
_TAG_BYTES: Final = 192  # with all that a decoder may look for


@dataclass(frozen=True, slots=True)
class Header:
    """Of one frame.

    Attributes:
        size: bytes of the frame, with this header.
        samples: of each channel that it becomes.
        kind: version, rate and number of channels; the same for all frames of a file.
    """

    size: int
    samples: int
    kind: tuple[int, int, int]


def header(data: bytes | bytearray, at: int) -> Header | None:
    """What the four bytes at `at` say of a frame of layer III; None where they are no header of one."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, rate, bits = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or rate == 3 or bits in (0, 15):
        return None
    first = version == 3
    hertz, samples = _RATES[version][rate], 1152 if first else 576
    size = samples * 125 * _BIT_RATES[0 if first else 1][bits] // hertz + (head[2] >> 1 & 1)
    return Header(size, samples, (version, hertz, 1 if head[3] >> 6 == 3 else 2))


def begins(data: bytes, at: int) -> bool:
    """Whether frames begin at `at`: two alike in a row, or one where the file ends with it."""
    first = header(data, at)
    if first is None:
        return False
    second = header(data, at + first.size)
    return len(data) < at + first.size + 4 if second is None else second.kind == first.kind


def tidied(data: bytes, at: int) -> bytes:
    """The whole frames from `at` on, behind a new tag; a frame that the file ends in is left out.

    Raises:
        ValueError: there are none, or there is more between them than any tag.
    """
    frames: list[bytes] = []
    first, old, junk = header(data, at), b"", 0
    while at < len(data):
        here = header(data, at)
        if first is None or here is None or here.kind != first.kind:
            step = _to_next(data, at)
            junk, at = junk + step, at + step
            if junk > MAX_JUNK_BYTES and at < len(data):
                raise ValueError(f"more than {MAX_JUNK_BYTES} bytes between frames")
            continue
        frame = data[at : at + here.size]
        if not frames and not old and any(name in frame[:_TAG_WITHIN] for name in _TAGS):
            old = frame
        elif len(frame) == here.size:
            frames.append(frame)
        at += here.size
    if not frames:
        raise ValueError("no whole frame")
    delay, padding, tagged = _around(old)
    if tagged and tagged != len(frames):  # a part: the end, with its padding, is elsewhere
        padding = 0
    return _tag(frames[0], len(frames), delay, padding) + b"".join(frames)


def _tag(first: bytes, frames: int, delay: int, padding: int) -> bytes:
    """A frame without sound like `first`, which says what the decoder has to know (LAME's MP3 info tag)."""
    for bits in range(1, 15):
        head = bytes((first[0], first[1] | 1, bits << 4 | first[2] & 0x0C, first[3]))
        found = header(head, 0)
        if found and found.size >= _TAG_BYTES:
            break
    assert found, "a rate of bits that is defined"
    side = {(1152, 1): 17, (1152, 2): 32, (576, 1): 9, (576, 2): 17}[found.samples, found.kind[2]]
    tag = b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big") + b"LAME3.100".ljust(21, b"\0")
    return (head + bytes(side) + tag + (delay << 12 | padding).to_bytes(3, "big")).ljust(found.size, b"\0")


def _to_next(data: bytes, at: int) -> int:
    """How far it is to the next byte that may begin a frame."""
    found = data.find(b"\xff", at + 1)
    while found >= 0 and not begins(data, found):
        found = data.find(b"\xff", found + 1, at + MAX_JUNK_BYTES + 2)
    return (found if found >= 0 else len(data)) - at


def _around(tag: bytes) -> tuple[int, int, int]:
    """What LAME's tag says: the encoder's samples before the sound and after it, and the number of frames or 0."""
    at = max(tag.find(b"Xing"), tag.find(b"Info"))
    if at < 0:
        return ENCODER_DELAY, 0, 0
    flags = tag[at + 7] if len(tag) > at + 7 else 0
    frames = int.from_bytes(tag[at + 8 : at + 12], "big") if flags & 1 else 0
    lame = at + 8 + 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    numbers = int.from_bytes(tag[lame + 21 : lame + 24].ljust(3, b"\0"), "big")
    delay, padding = numbers >> 12, numbers & 0xFFF
    return (delay, padding, frames) if numbers else (ENCODER_DELAY, 0, frames)
