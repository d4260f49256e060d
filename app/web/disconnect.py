"""Waiting no longer than it is of use: until the client hangs up, or its deadline passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Any, Final, Protocol, Self

from starlette.requests import ClientDisconnect, Request

from app.core.errors import TooLate

LINE: Final = "lectern.line"
"""Key of a request's scope: the connection that it came on, if that is our own."""


@asynccontextmanager
async def until(deadline: float, what: str) -> AsyncIterator[None]:
    """Around waiting that is of no use after `deadline`, a `time.monotonic()`; `what` says who was at what then.

    Raises:
        TooLate: it has passed.
    """
    try:
        async with asyncio.timeout(deadline - monotonic()) as patience:
            yield
    except TimeoutError:
        if not patience.expired():
            raise
        raise TooLate(
            f"{what} until the deadline", subject="deadline", expected="an answer before it", got="none"
        ) from None


class Line(Protocol):
    """A connection that cancels the task that waits for a model, when its client hangs up."""

    waiting: asyncio.Task[Any] | None


class CancelOnDisconnect:
    """`with WhileConnected(request):` around waiting, once the whole body is read.

    When the client hangs up, what is being awaited is cancelled, so that rows leave the queue before they are run.

    Raises:
        ClientDisconnect: it hung up.
    """

    __slots__ = ("_line", "_task")

    def __init__(self, request: Request) -> None:
        self._line: Line | None = request.scope.get(LINE)

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        if self._line is not None:
            self._line.waiting = task
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is None:
            return
        gone = self._line.waiting is None
        self._line.waiting = None
        # Who else cancelled the task meanwhile (a server that stops) is not kept from it.
        if gone and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientDisconnect from None
