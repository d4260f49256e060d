"""What is made anew for whoever asks, and takes a fifth of the event loop's time at most, however often that is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final, Generic, TypeVar

T = TypeVar("T")

REST: Final = 4  # times as long as it took
LONGEST_S: Final = 1.0


class Paced(Generic[T]):
    """One document. Whoever asks while others wait for it is given the same.

    Args:
        make: makes it, in slices: it gives way to the event loop every few milliseconds.
    """

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._turn = asyncio.Lock()
        self._next_at = 0.0
        self._waiting: asyncio.Task[T] | None = None
        self._tasks: set[asyncio.Task[T]] = set()  # an event loop keeps none by itself

    async def get(self) -> T:
        """As of now."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._made())
            self._tasks.add(self._waiting)
            self._waiting.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._waiting)  # who leaves does not take it away from the others

    async def _made(self) -> T:
        async with self._turn:
            await asyncio.sleep(max(0.0, self._next_at - perf_counter()))
            self._waiting = None  # who asks from here on gets a newer one
            began = perf_counter()
            try:
                return await self._make()
            finally:
                ended = perf_counter()
                self._next_at = ended + min(LONGEST_S, REST * (ended - began))
