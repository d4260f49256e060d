"""Which recordings are taken, and what a file is by its first bytes."""

from __future__ import annotations

from typing import Final

from app.codecs.audio import mp3
from app.codecs.images import formats as pictures

# What the server reads as installed, and what PyAV adds (the extra `media`).
TAKEN: Final = ("WAV", "FLAC", "Ogg Opus", "Ogg Vorbis", "MP3")
WITH_PYAV: Final = ("WebM", "MP4", "Ogg FLAC", "AAC", "AMR")

MEDIA_TYPES: Final = (
    "audio/wav",
    "audio/x-wav",
    "audio/wave",
    "audio/vnd.wave",
    "audio/flac",
    "audio/x-flac",
    "audio/ogg",
    "audio/opus",
    "application/ogg",
    "audio/mpeg",
    "audio/mp3",
    "audio/webm",
    "video/webm",
    "audio/mp4",
    "video/mp4",
    "audio/m4a",
    "audio/x-m4a",
    "audio/aac",
    "audio/amr",
    "audio/3gpp",
)
"""Of request bodies; what a file is, its first bytes say."""

_OGG: Final = (
    (b"OpusHead", "Ogg Opus"),
    (b"\x01vorbis", "Ogg Vorbis"),
    (b"\x7fFLAC", "Ogg FLAC"),
)
_OTHERS: Final = (
    (b"RF64", "an RF64 recording"),
    (b"RIFX", "a big-endian WAV recording"),
    (b"FORM", "an AIFF recording or another IFF file"),
    (b"caff", "a Core Audio recording"),
    (b".snd", "a Sun AU recording"),
    (b"MThd", "a MIDI file: notes, not sound"),
    (b"0&\xb2u\x8ef\xcf\x11", "a Windows Media recording"),
    (b"#!SILK", "a SILK recording"),
    (b"ID3", "an ID3 tag without MP3 or AAC sound behind it"),
)
_PICTURE_BRANDS: Final = frozenset({b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1"})


def sniff(data: bytes) -> str | None:
    """The name of the format that `data` begins as, one of `TAKEN` or `WITH_PYAV`; None where it is none of them."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "WAV"
    if data.startswith(b"fLaC"):
        return "FLAC"
    if data.startswith(b"OggS"):
        start = 27 + data[26] if len(data) > 26 else len(data)
        packet = data[start : start + 8]
        return next((name for magic, name in _OGG if packet.startswith(magic)), None)
    if data.startswith(b"\x1aE\xdf\xa3"):
        return "WebM"
    if data[4:8] == b"ftyp":
        return None if data[8:12] in _PICTURE_BRANDS else "MP4"
    if data.startswith(b"#!AMR"):
        return "AMR"
    start = after_id3(data)
    if _is_adts(data, start):
        return "AAC"
    return "MP3" if mp3.begins(data, start) else None


def describe(data: bytes) -> str:
    """What a file that is no recording of ours seems to be, in words for its sender."""
    for magic, what in _OTHERS:
        if data.startswith(magic):
            return what
    if data.startswith(b"RIFF") and data[8:12] != b"WEBP":
        return f"a RIFF file of type {data[8:12]!r}, not WAVE"
    if data.startswith(b"OggS"):
        return "an Ogg file whose first stream is neither Opus, Vorbis nor FLAC"
    picture = pictures.picture_format(data)
    return f"{'an' if picture[0] == 'A' else 'a'} {picture} picture" if picture else pictures.describe(data)


def after_id3(data: bytes) -> int:
    """Where the sound begins, after a tag of ID3 version 2 if there is one."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + 10 * (data[5] >> 4 & 1)  # a footer repeats the header


def _is_adts(data: bytes, at: int) -> bool:
    """Whether two frames of AAC begin at `at` (ISO 13818-7, 6.2), or one where the file ends with it."""
    for _ in range(2):
        head = data[at : at + 7]
        if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
            return False
        at += (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if at >= len(data):
            break
    return True
