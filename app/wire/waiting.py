"""Noticing that a client hangs up while its answer is being made."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from starlette.requests import ClientDisconnect, Request

PATIENCE_S: Final = 0.02
"""Before this nobody looks: most answers are given by then, and looking costs a task."""


class WhileConnected:
    """`with WhileConnected(request):` around waiting, once the whole body is read.

    When the client hangs up, what is being awaited is cancelled, so that rows leave the queue before they are run.

    Raises:
        ClientDisconnect: it hung up.
    """

    __slots__ = ("_gone", "_request", "_task", "_timer", "_watcher")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._gone = False
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._timer = task.get_loop().call_later(PATIENCE_S, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        # Who else cancelled the task meanwhile (a server that stops) is not kept from it.
        if self._gone and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientDisconnect from None

    def _look(self) -> None:
        self._watcher = self._task.get_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()
