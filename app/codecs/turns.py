"""Turns at the interpreter, which the event loop shares with every thread that wants it.

An answer to whoever asks for little needs the interpreter a few times. Threads that hold it together, or one that takes
it again at once, would each time make that answer wait for them.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import Final

LARGE_BYTES: Final = 64 << 10
"""Of JSON. What is more is never read on the event loop, which therefore never waits for a turn itself."""

_converting = threading.Lock()
_parsing = threading.Lock()
_next_parse = 0.0


@contextmanager
def turn_to_parse(json_bytes: int) -> Iterator[None]:
    """Around a parser, which holds the interpreter from its first byte to its last: one large body at a time, and after
    each the same time for all others.

    And without the collector, which takes four times as long as the parser to look again and again at what it makes.
    """
    global _next_parse
    if json_bytes <= LARGE_BYTES:
        yield
        return
    with _parsing:
        sleep(max(0.0, _next_parse - perf_counter()))
        began = perf_counter()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            ended = perf_counter()
            _next_parse = ended + (ended - began)


@contextmanager
def turn_to_convert(json_bytes: int) -> Iterator[None]:
    """Around what makes arrays of parsed lists: one large body at a time; it gives way every few milliseconds."""
    if json_bytes <= LARGE_BYTES:
        yield
        return
    with _converting:
        yield
