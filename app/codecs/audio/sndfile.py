"""WAV, FLAC, Ogg Opus, Ogg Vorbis and MP3 by libsndfile, which comes with soundfile's wheel."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.audio import containers, formats, mp3
from app.codecs.audio.limits import Limits
from app.core.errors import UnsupportedMedia, invalid

BLOCK_VALUES: Final = 1 << 16  # of all channels

_NAMES: Final = {"WAV": "WAV", "WAVEX": "WAV", "FLAC": "FLAC", "OGG": "Ogg", "MP3": "MP3"}
_TAKEN: Final = frozenset(
    {"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
    | {"OPUS", "VORBIS", "MPEG_LAYER_III"}
)


def blocks(data: bytes, name: str, limits: Limits) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The file's rate and its samples (n, channels), block after block.

    Args:
        data: the file.
        name: its format, as `formats.sniff` calls it.
        limits: asked before the first block, and after each.

    Raises:
        TooLarge, Unprocessable: by `limits`.
        UnsupportedMedia: a WAV file with a coding other than PCM, float, mu-law and A-law.
        Unprocessable: links of an Ogg file at different rates or with different numbers of channels.
        containers.TooManyPieces: too many links of an Ogg file.
        RuntimeError: what libsndfile says of a damaged file.
    """
    if name == "MP3":
        data = mp3.tidied(data, formats.after_id3(data))
    # libsndfile reads the first link of a chained Ogg file and stops, without an error.
    links = containers.ogg_links(data) if name in ("Ogg Opus", "Ogg Vorbis") else [data]
    first: tuple[int, int] | None = None
    for link in links:
        for rate, block in _whole(link, name, limits):
            first = first or (rate, block.shape[1])
            if first != (rate, block.shape[1]):
                raise invalid(
                    limits.subject,
                    expected=f"{first[0]} samples a second and {first[1]} channel(s) throughout",
                    got=f"a part with {rate} and {block.shape[1]}",
                    where=f"{limits.subject}:",
                )
            yield rate, block


def _whole(data: bytes, name: str, limits: Limits) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The blocks of what libsndfile takes for one file."""
    import soundfile  # here: what a server without sound need not load

    with soundfile.SoundFile(io.BytesIO(data)) as file:
        if file.subtype not in _TAKEN or file.format not in _NAMES:
            raise invalid(
                limits.subject,
                expected="PCM, float, mu-law or A-law samples",
                got=f"{file.format} with {file.subtype}",
                where=f"{limits.subject}:",
                error=UnsupportedMedia,
            )
        # That of a FLAC stream without a length is the greatest there is.
        announced = None if file.frames >= 1 << 62 else file.frames
        rate, channels = file.samplerate, file.channels
        limits.check_header(rate=rate, channels=channels, samples=announced)
        if name == "Ogg Opus":
            # Else libsndfile leaves the pre-skip in, and as much of the end out.
            file.seek(0)
        # Where a file can be sought, soundfile seeks before and after each read, and libsndfile decodes up to a second
        # of Opus to get there: a third of all the time.
        file.seekable = lambda: False
        for block in _read(file, channels):
            limits.count(len(block), rate=rate, channels=channels)
            yield rate, block
        if announced is not None and limits.samples < announced and name in ("WAV", "FLAC"):
            raise invalid(
                limits.subject,
                expected=f"{announced} samples",
                got=f"{limits.samples} samples",
                detail=f"{limits.subject}: is cut off: its header announces {announced} samples, {limits.samples} came",
            )


def _read(file: Any, channels: int) -> Iterator[NDArray[np.float32]]:
    while True:
        block = np.empty((BLOCK_VALUES // channels, channels), np.float32)
        read = file.buffer_read_into(block, dtype="float32")
        if read == 0:
            return
        yield block[:read]
