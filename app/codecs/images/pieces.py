"""What a look at the pieces of a picture file may find before a decoder opens it."""

from __future__ import annotations

from typing import Final

MAX_FRAMES: Final = 1_000  # counted; more are not distinguished
MAX_SCANS: Final = 64  # JPEG; encoders make about ten


class OtherKind(Exception):
    """A whole file of a kind of its format that the decoder has not, or misreads; the words say which."""


class TooManyPieces(Exception):
    """A file that no encoder makes: its pieces are more than anyone needs."""

    def __init__(self, pieces: str, limit: int) -> None:
        super().__init__(f"has more than {limit} {pieces}")
        self.expected = f"at most {limit} {pieces}"
        self.got = f"more than {limit}"
