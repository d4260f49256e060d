"""Sound files to a graph's samples.

Pure functions; the only errors that leave are `UnsupportedMedia` (415), `Unprocessable` (422) and `TooLarge` (413),
whatever the bytes: limits hold for what a header announces, and again for what is decoded, block by block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.audio import containers, formats, pyav, sndfile
from app.codecs.audio.limits import Limits
from app.codecs.audio.resampling import Resampler
from app.core.errors import ClientError, UnsupportedMedia, invalid, shown
from app.core.manifest.sound import Sound

_TAKEN: Final = f"{', '.join(formats.TAKEN[:-1])} or {formats.TAKEN[-1]}"


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording as a graph takes it.

    Attributes:
        samples: float32 (N,) in [-1, 1], the mean of all channels.
        rate: of `samples`, a second.
        duration_s: of the sound, without what a codec puts before and after it.
        source_rate: the file's own.
        channels: of the file.
    """

    samples: NDArray[np.float32]
    rate: int
    duration_s: float
    source_rate: int
    channels: int


def decode(data: bytes, sound: Sound, *, subject: str, max_s: float) -> Clip:
    """The bytes of a sound file as one row for the graph.

    Args:
        data: WAV (PCM of 8 to 32 bit, float, mu-law, A-law), FLAC, Ogg Opus, Ogg Vorbis or MP3; with the extra `media`
            WebM, MP4, M4A, Ogg FLAC, AAC and AMR. Any rate from 1,000 to 384,000, up to 8 channels.
        sound: the rate that the manifest declares.
        subject: what to call the file in errors, e.g. "file[0]".
        max_s: greatest length in seconds.

    Returns:
        The clip; an event at t seconds of the file is at sample t * `sound.rate`. N samples of the file become
        round(N * sound.rate / its rate).

    Raises:
        UnsupportedMedia: not a recording, or of a format or coding that is not taken here.
        TooLarge: too long, too many channels, too high a rate, or more sound than the bytes can hold.
        Unprocessable: empty, cut off, damaged, too low a rate; NaN or infinity among the samples.
    """
    name = _format_of(data, subject)
    try:
        containers.check(data, name)
        return _decoded(data, name, sound, Limits(subject, len(data), max_s))
    except ClientError:
        raise
    except (containers.TooManyPieces, containers.CutOff) as error:
        raise invalid(
            subject, expected=error.expected, got=error.got, detail=f"{subject}: begins as {name} and {error}"
        ) from None
    except Exception as error:  # decoders raise nearly every type on hostile bytes; all of them mean the same here
        raise invalid(
            subject,
            expected=f"a whole {name} file",
            got=f"{len(data)} bytes, cut off or damaged",
            detail=f"{subject}: begins as {name} but cannot be decoded, it is cut off or damaged "
            f"({len(data)} bytes came; {type(error).__name__})",
        ) from error


def _decoded(data: bytes, name: str, sound: Sound, limits: Limits) -> Clip:
    resampler, source_rate, channels, at = None, 0, 0, 0
    library = sndfile if name in formats.TAKEN else pyav
    for source_rate, block in library.blocks(data, name, limits):
        if resampler is None:
            resampler, channels = Resampler(source_rate, sound.rate), block.shape[1]
        resampler.take(_one_channel(block, at, source_rate, limits.subject))
        at += len(block)
    if resampler is not None:
        limits.finish(at, rate=source_rate, channels=channels)
    samples = resampler.finish() if resampler else np.zeros(0, np.float32)
    if not len(samples):
        raise invalid(
            limits.subject,
            expected="at least one sample",
            got=f"{at} samples",
            detail=f"{limits.subject}: is {name} without sound: {at} samples came, "
            f"none of them is left at {sound.rate} a second",
        )
    return Clip(samples, sound.rate, len(samples) / sound.rate, source_rate, channels)


def _one_channel(block: NDArray[np.float32], at: int, rate: int, subject: str) -> NDArray[np.float32]:
    """The mean of the channels (n,) of samples (n, channels), each cut to [-1, 1]."""
    if not np.isfinite(block).all():
        index, channel = np.argwhere(~np.isfinite(block))[0]
        value = float(block[index, channel])
        raise invalid(
            subject,
            expected="finite samples",
            got=shown(value),
            detail=f"{subject}: sample {at + index} ({(at + index) / rate:.3f} s) of channel {channel} is {value}, "
            "samples are finite",
        )
    cut = np.clip(block, -1.0, 1.0)
    return cut[:, 0] if cut.shape[1] == 1 else cut.mean(axis=1, dtype=np.float32)


def _format_of(data: bytes, subject: str) -> str:
    if not data:
        raise invalid(
            subject, expected=_TAKEN, got="0 bytes", detail=f"{subject}: is empty, expected a recording ({_TAKEN})"
        )
    name = formats.sniff(data)
    if name is None:
        raise invalid(
            subject,
            expected=_TAKEN,
            got=formats.describe(data),
            where=f"{subject}:",
            rule="expected a recording as",
            error=UnsupportedMedia,
        )
    return name
