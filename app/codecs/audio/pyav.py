"""WebM, MP4, Ogg FLAC, AAC and AMR by PyAV (FFmpeg), where the extra `media` is installed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.codecs.audio.formats import TAKEN
from app.codecs.audio.limits import Limits
from app.codecs.audio.mp3 import DECODER_DELAY, ENCODER_DELAY
from app.core.errors import ClientError, UnsupportedMedia, invalid

BLOCK_SAMPLES: Final = 1 << 14
MOST_PACKETS_A_SECOND: Final = 400  # Opus' shortest are of 2.5 ms
_MP3_DELAY: Final = DECODER_DELAY + ENCODER_DELAY
MAX_PADDING: Final = 4096  # samples of the longest frame; a header that cuts more does not mean padding

_DEMUXERS: Final = {"WebM": "matroska", "MP4": "mp4", "Ogg FLAC": "ogg", "AAC": "aac", "AMR": "amr"}
# FFmpeg's own decoder `opus` doubles a rising tone; libopus does not.
_DECODERS: Final = {
    "opus": "libopus",
    **{name: name for name in ("aac", "flac", "alac", "vorbis", "mp3", "mp3float", "pcm_s16le", "pcm_f32le")},
    **{name: name for name in ("pcm_mulaw", "pcm_alaw", "amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb")},
}


def blocks(data: bytes, name: str, limits: Limits) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The rate and the samples (n, channels) of a file's first audio stream, block after block.

    Priming before the sound and padding after it are cut as far as the file declares them. Where it does not, what
    every encoder adds is cut: the first frame of AAC, 1,105 samples of MP3.

    Args:
        data: the file.
        name: its format, as `formats.sniff` calls it.
        limits: asked before the first block, and after each.

    Raises:
        TooLarge, Unprocessable: by `limits`.
        UnsupportedMedia: PyAV is not installed; no sound in the file, or in a coding that is not taken.
        Exception: what FFmpeg says of a damaged file.
    """
    av = _library(name, limits.subject)
    with av.open(io.BytesIO(data), format=_DEMUXERS[name], metadata_errors="ignore", io_open=_no_other_file) as file:
        if not file.streams.audio:
            raise _not_taken(limits.subject, name, "no sound in it")
        stream = file.streams.audio[0]
        found = stream.codec_context
        if found is None or found.name not in _DECODERS:
            raise _not_taken(limits.subject, name, f"sound coded as {found.name if found else 'unknown'}")
        long = None if stream.duration is None else Fraction(stream.duration) * stream.time_base
        if found.sample_rate and found.channels:
            limits.check_header(
                rate=found.sample_rate,
                channels=found.channels,
                samples=None if long is None else max(0, int(long * found.sample_rate) - MAX_PADDING),
            )
        yield from _gathered(av, _Packets(av, file, stream, limits), limits, end_s=long if name == "MP4" else None)


class _Packets:
    """The decoded frames of one stream, with what is known of the time before its sound."""

    def __init__(self, av: ModuleType, file: Any, stream: Any, limits: Limits) -> None:
        self._file, self._stream = file, stream
        self._left = int(limits.max_s * MOST_PACKETS_A_SECOND) + 1000
        self._subject = limits.subject
        found = stream.codec_context
        self._decoder = found
        self.priming_s = Fraction(0)
        if found.name == "opus":
            self._decoder = av.CodecContext.create(_DECODERS["opus"], "r")
            self._decoder.extradata = found.extradata
            self._decoder.options = {"request_sample_fmt": "flt"}  # else it rounds to 16 bits
            self.priming_s = Fraction(int.from_bytes((found.extradata or b"")[10:12], "little"), 48_000)
        self.first_s = Fraction(0)

    def frames(self) -> Iterator[Any]:
        first = True
        for packet in self._file.demux(self._stream):
            self._left -= 1
            if self._left < 0:
                raise invalid(
                    self._subject,
                    expected=f"at most {MOST_PACKETS_A_SECOND} packets a second",
                    got="more packets",
                    detail=f"{self._subject}: has more than {MOST_PACKETS_A_SECOND} packets for each second that is "
                    "taken, no recording has as many",
                )
            if first and packet.pts is not None:
                self.first_s = packet.pts * packet.time_base
                self.priming_s = self.priming_s or max(Fraction(0), -self.first_s)
            first = False
            yield from self._decoder.decode(packet)

    def undeclared(self, frame: Any) -> int:
        """Samples of the first frame and after to cut, where the file does not say how many are none of its sound."""
        if self.priming_s:
            return 0
        return int(frame.samples) if self._decoder.name == "aac" else _MP3_DELAY if "mp3" in self._decoder.name else 0


def _gathered(
    av: ModuleType, packets: _Packets, limits: Limits, *, end_s: Fraction | None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Frames as blocks of some size; the last one without what lies after `end_s`.

    The frames wait in FFmpeg's own queue: as arrays, those of Opus took a third as long as decoding them.
    """
    rate = channels = skip = declared = 0
    limits.slack = MAX_PADDING
    queue = av.AudioFifo()
    for frame in packets.frames():
        if not rate:
            rate, channels = frame.sample_rate, frame.layout.nb_channels
            limits.check_header(rate=rate, channels=channels, samples=None)
            skip = packets.undeclared(frame)
            declared = round(packets.priming_s * rate)
        limits.count(frame.samples, rate=rate, channels=channels)
        frame.pts = None  # else the queue demands that there be no gaps
        try:
            queue.write(frame)
        except ValueError:
            raise invalid(
                limits.subject,
                expected="one rate, one number of channels and one sample format throughout",
                got=f"others after {limits.samples / rate:.3f} s",
                detail=f"{limits.subject}: changes its rate, its channels or its sample format after "
                f"{limits.samples / rate:.3f} s",
            ) from None
        if queue.samples >= 2 * BLOCK_SAMPLES:  # what stays is longer than any padding
            yield rate, _block(queue.read(BLOCK_SAMPLES))[skip:]
            skip = 0
    if rate and (rest := queue.read()) is not None:
        last, end = _block(rest), rest.samples
        if end_s is not None:
            padding = limits.samples + declared - round((end_s - min(packets.first_s, Fraction(0))) * rate)
            if 0 < padding <= min(MAX_PADDING, end):
                end -= padding
        yield rate, last[skip:end]


def _block(frame: Any) -> NDArray[np.float32]:
    """(n, channels) in [-1, 1] of a frame in any of FFmpeg's sample formats."""
    values: NDArray[Any] = frame.to_ndarray()  # (channels, n), or (1, n * channels) where the format is packed
    rows = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    if rows.dtype.kind == "f":
        return rows.astype(np.float32, copy=False)
    half = 1 << 8 * rows.dtype.itemsize - 1
    return ((rows.astype(np.float64) - (half if rows.dtype.kind == "u" else 0)) / half).astype(np.float32)


def _library(name: str, subject: str) -> ModuleType:
    try:
        import av
    except ImportError:
        raise invalid(
            subject,
            expected=", ".join(TAKEN[:-1]) + f" or {TAKEN[-1]}",
            got=f"{name}",
            detail=f"{subject}: is {name}, which needs the extra media, and av is not installed on this server: "
            f"pip install av, or send {', '.join(TAKEN[:-1])} or {TAKEN[-1]}",
            error=UnsupportedMedia,
        ) from None
    module: ModuleType = av
    return module


def _no_other_file(url: str, flags: int, options: object) -> io.BytesIO:
    """FFmpeg asks here for whatever a file refers to."""
    raise OSError("a recording is one file")


def _not_taken(subject: str, name: str, got: str) -> ClientError:
    return invalid(
        subject,
        expected="Opus, AAC, MP3, Vorbis, FLAC, ALAC, AMR or PCM",
        got=f"{name} with {got}",
        where=f"{subject}:",
        error=UnsupportedMedia,
    )
