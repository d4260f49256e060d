"""The app during shutdown: health as before, 503 for everything else; every response closes its connection.

It replaces the app at that moment, so that requests before it have no cost.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import Unavailable
from app.middleware.errors import refused

HEALTH: Final = ("/health/", "/v2/health/")
DISCARDED_S: Final = 1.0


class Shutdown:
    """Pure ASGI.

    Args:
        app: the server's app, which goes on answering for its health.
        refused: `refuse` in whatever layers write down what was answered.
    """

    def __init__(self, app: ASGIApp, *, refused: ASGIApp) -> None:
        self._app = app
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        app = self._app if scope["path"].startswith(HEALTH) else self._refused
        await app(scope, receive, send_last)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """503 at once; then what is left of the request is read and forgotten for a while.

    Closing on a client that still sends would reset the connection and take the answer with it.
    """
    error = Unavailable("the server is shutting down and takes no new requests")
    answer = refused(error, scope)
    answer.headers["Retry-After"] = "1"

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(DISCARDED_S):
                    while (await receive()).get("more_body", False):
                        pass
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    await answer(scope, receive, send_on)
