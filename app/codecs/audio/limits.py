"""How much sound a file may hold: asked of its header first, and again of what is really decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.core.errors import ClientError, TooLarge, Unprocessable, invalid, over_limit

MAX_CHANNELS: Final = 8
MIN_RATE: Final = 1_000
MAX_RATE: Final = 384_000
FREE_SAMPLES: Final = 1 << 24
"""Samples of all channels, about 17 million, that any file may hold: a tenth of a second of decoding."""
SAMPLES_PER_BYTE: Final = 4_000
"""Beyond those. Encoded silence has at most some 1,000 (FLAC, Opus with gaps) in blocks of usual sizes."""


@dataclass(slots=True)
class Limits:
    """What one file may hold, and how much of it has been decoded.

    Attributes:
        subject: what to call the file in errors.
        size: its bytes.
        max_s: greatest length in seconds.
        samples: decoded so far, of each channel.
        slack: samples that may be cut off again, so that they do not count yet.
    """

    subject: str
    size: int
    max_s: float
    samples: int = 0
    slack: int = 0

    def check_header(self, *, rate: int, channels: int, samples: int | None) -> None:
        """Refuse what a header announces; `samples` of each channel are None where it does not say.

        Raises:
            TooLarge: too long, too many channels, too high a rate, too much for its bytes.
            Unprocessable: too low a rate, no channels.
        """
        if channels > MAX_CHANNELS:
            raise over_limit(self.subject, got=f"{channels} channels", most=MAX_CHANNELS, unit="channels")
        if channels < 1:
            raise invalid(self.subject, expected="at least one channel", got="no channels", verb="has")
        if not MIN_RATE <= rate <= MAX_RATE:
            raise invalid(
                self.subject,
                expected=f"{MIN_RATE} to {MAX_RATE} samples a second",
                got=f"{rate} samples a second",
                verb="has",
                error=TooLarge if rate > MAX_RATE else Unprocessable,
            )
        if samples is not None:
            self._check(samples, rate, channels, "holds")

    def count(self, samples: int, *, rate: int, channels: int) -> None:
        """Add what was decoded.

        Raises:
            TooLarge: it is now too long, or too much for the file's bytes.
        """
        self.samples += samples
        self._check(self.samples, rate, channels, "holds more than")

    def finish(self, samples: int, *, rate: int, channels: int) -> None:
        """Check what is left of it.

        Raises:
            TooLarge: as `count`.
        """
        self.slack = 0
        self._check(samples, rate, channels, "holds")

    def _check(self, samples: int, rate: int, channels: int, verb: str) -> None:
        if samples > self.max_s * rate + self.slack:
            # A longer file is not decoded to its end, so that only the limit is known then.
            got = f"{samples / rate:.1f} s" if verb == "holds" else f"{self.max_s:g} s"
            raise invalid(
                self.subject,
                expected=f"at most {self.max_s:g} s of sound",
                got=got if verb == "holds" else f"more than {got}",
                detail=f"{self.subject}: {verb} {got} of sound, the limit is {self.max_s:g} s",
                error=TooLarge,
            )
        most = FREE_SAMPLES + SAMPLES_PER_BYTE * self.size
        if samples * channels > most:
            raise self._too_compressed(samples * channels, most)

    def _too_compressed(self, samples: int, most: int) -> ClientError:
        return invalid(
            self.subject,
            expected=f"at most {most} samples in {self.size} bytes",
            got=f"at least {samples} samples",
            detail=f"{self.subject}: its {self.size} bytes become at least {samples} samples, the limit is {most}: "
            "no recording is compressed as much",
            error=TooLarge,
        )
