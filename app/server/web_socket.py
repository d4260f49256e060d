"""A connection that was upgraded to a WebSocket (RFC 6455): uvicorn's, counted and shut down as the others are.

It is loaded with the first of them. The next message is read only when the last one was taken: whoever sends faster
than the app receives is held up by TCP.

A client that sends what is no message, or too large a one, is told so by a close frame. uvicorn closes the connection
at once: while bytes of the message are still under way that resets it, and the client never sees the frame.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.server.connection import State
from app.web.request.trace import CLOSING

NOT_UTF_8: Final = 1007  # RFC 6455, 7.4.1


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
        self._failed = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.open[0] -= 1
        self._state.closed[0] += 1
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._failed:
            super().data_received(data)

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError as error:  # uvicorn would log it as an error of its own
                self.conn.fail(NOT_UTF_8, f"{error.reason} at position {error.start}")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Send the close frame that the parser made, and take what still comes, until the client has closed too."""
        close = self.conn.close_sent
        assert close is not None
        self._failed = self.close_sent = self.disconnected = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.close)

    async def run_asgi(self) -> None:
        self.scope[CLOSING] = self._closing  # type: ignore[typeddict-unknown-key]  # ASGI lets a server add its own
        await super().run_asgi()

    def close_soon(self, app: ASGIApp) -> None:
        """Tell the app that the server is shutting down: it says its last word and closes."""
        self.app = app
        self._closing.set()
