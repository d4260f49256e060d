"""Waiting that ends when the client hangs up, when a deadline passes, or when one of several fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any, Final, Protocol, TypeVar

from starlette.requests import ClientDisconnect

from app.core.errors import TooLate

T = TypeVar("T")

NEVER: Final = float("inf")


class Connection(Protocol):
    """A connection that cancels the task which answers a call, where it waits for a model, when its client hangs up.

    Attributes:
        waiting: set while it does; the connection takes it back as it cancels.
    """

    task: asyncio.Task[Any] | None
    waiting: bool


@contextmanager
def cancelled_with_client(connection: Connection | None) -> Iterator[None]:
    """Around waiting by the task that answers a call, outside of a lease.

    Raises:
        ClientDisconnect: the client hung up meanwhile.
    """
    if connection is None or connection.waiting or connection.task is not asyncio.current_task():
        yield
        return
    connection.waiting = True
    try:
        yield
    except BaseException as error:
        end_wait(connection, type(error))
        raise
    end_wait(connection, None)


def end_wait(connection: Connection, kind: type[BaseException] | None) -> None:
    """A connection need no longer cancel its task.

    Args:
        kind: of the error that ends the wait.

    Raises:
        ClientDisconnect: it has cancelled it.
    """
    if connection.waiting:
        connection.waiting = False
        return
    task = connection.task
    assert task is not None
    # Whoever else cancelled the task meanwhile (a server that stops) is not kept from it.
    if task.uncancel() == 0 and kind is asyncio.CancelledError:
        raise ClientDisconnect from None


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in their order. What is left is cancelled where one raises, or the caller is cancelled."""
    if len(work) == 1:
        return [await work[0]]
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


@asynccontextmanager
async def until(deadline: float, what: str) -> AsyncIterator[None]:
    """Around waiting that is of no use after `deadline`, a `time.monotonic()`; `what` says who was at what then.

    Raises:
        TooLate: it has passed.
    """
    try:
        async with asyncio.timeout(None if deadline == NEVER else deadline - monotonic()) as patience:
            yield
    except TimeoutError:
        if not patience.expired():
            raise
        raise TooLate(
            f"{what} until the deadline", subject="deadline", expected="an answer before it", got="none"
        ) from None
