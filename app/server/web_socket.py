"""A connection that was upgraded to a WebSocket (RFC 6455): uvicorn's, counted and shut down as the others are.

It is loaded with the first of them. The next message is read only when the last one was taken: whoever sends faster
than the app receives is held up by TCP.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.server.connection import State
from app.web.request.trace import CLOSING


class WebSocketConnection(WebSocketsSansIOProtocol):
    """One client's WebSocket."""

    is_idle = False
    silent_ticks = 0

    def __init__(
        self, config: Config, server_state: State, app_state: dict[str, Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._state = server_state
        self._closing = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.open[0] -= 1
        self._state.closed[0] += 1
        super().connection_lost(exc)

    async def run_asgi(self) -> None:
        self.scope[CLOSING] = self._closing  # type: ignore[typeddict-unknown-key]  # ASGI lets a server add its own
        await super().run_asgi()

    def close_soon(self, app: ASGIApp) -> None:
        """Tell the app that the server is shutting down: it says its last word and closes."""
        self.app = app
        self._closing.set()
