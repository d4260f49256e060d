"""`@in_loop`: an async test in an event loop of its own; `turns`: waiting for what has no event."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def turns(until: Callable[[], bool]) -> None:
    """Let the event loop turn until it is so: what is awaited here takes no time of its own."""
    async with asyncio.timeout(20):
        while not until():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)
