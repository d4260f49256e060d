"""How much there is in a JSON body, found before it is parsed.

The parser holds the interpreter from its first byte to its last, and whoever waits for the event loop waits for it:
30 MB of `[],` take it many seconds and gigabytes. Counting signs takes milliseconds.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.core.errors import TooLarge

MAX_VALUES: Final = 1 << 20
MAX_LISTS: Final = 1 << 19
MAX_FIELDS: Final = 1_000
SMALL_BYTES: Final = 16 << 10  # too few for any of it to matter
PIECE_BYTES: Final = 1 << 20  # looked through before another thread may have its turn

_one_at_a_time = threading.Lock()


def check_json(body: bytes, *, values: int = MAX_VALUES, fields: int = MAX_FIELDS, hint: str = "") -> None:
    """Count what a body can hold at most.

    Signs inside texts count as well: base64 has none of them.

    Args:
        body: JSON, or something that claims to be.
        values: numbers, texts and all else that commas part.
        fields: of all objects together.
        hint: what to do instead, e.g. "; send pictures as base64".

    Raises:
        TooLarge: more than that.
    """
    if len(body) <= SMALL_BYTES:
        return
    values = min(values, MAX_VALUES)
    commas = _count(body, b",")
    # Only commas make many lists: brackets alone make deep ones, which the parser refuses at once.
    lists = min(commas, _count(body, b"["))
    counted = ((commas, values, "values"), (lists, MAX_LISTS, "lists"), (_count(body, b":"), fields, "fields"))
    for got, most, what in counted:
        if got > most:
            raise TooLarge(
                f"the body has {got} JSON {what}, at most {most} are taken{hint}",
                subject="body",
                expected=f"at most {most} {what}",
                got=f"{got} {what}",
            )


@contextmanager
def parsing(body: bytes) -> Iterator[None]:
    """Around parsing: one large body at a time, so that others have their turn after each.

    And without the collector, which takes four times as long as the parser to look again and again at what it makes.
    """
    if len(body) <= SMALL_BYTES:
        yield
        return
    with _one_at_a_time:
        gc.disable()
        try:
            yield
        finally:
            gc.enable()


def _count(body: bytes, sign: bytes) -> int:
    return sum(body.count(sign, at, at + PIECE_BYTES) for at in range(0, len(body), PIECE_BYTES))
