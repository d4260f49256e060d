"""What is known of every request: its id, its log line, its metrics, the headers that all answers carry.

Pure ASGI and the outermost layer, so that whatever happens inside is seen here. An exception that nobody caught
becomes a 500 with a request id; its trace goes to the log alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.middleware.errors import internal_error
from app.telemetry.logs import FIELDS
from app.web.request.trace import Trace, begin_trace
from app.web.response.encoded import HEADERS

log = logging.getLogger("lectern.access")

CLIENT_GONE: Final = 499
SWITCHED: Final = 101
DISCARDED_BYTES: Final = 64 << 20
DISCARDED_S: Final = 1.0


class Telemetry:
    """The outermost layer.

    Args:
        finished: called after every request with method, route, status, seconds.
        traced: called after every request with its trace, method, path, route, status, seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        finished: Callable[[str, str, int, float], None],
        traced: Callable[[Trace, str, str, str, int, float], None] | None = None,
    ) -> None:
        self.app = app
        self._finished = finished
        self._traced = traced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._web_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        trace = begin_trace(scope)
        method: str = scope["method"]
        is_head = method == "HEAD"
        if is_head:  # answered as GET is, without the body
            scope = {**scope, "method": "GET"}
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], *HEADERS, (b"x-request-id", trace.request_id.encode("ascii"))]
                if trace.unread:
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            elif is_head:
                message = {**message, "body": b""}
            elif trace.oversized and not message.get("more_body", False):
                # Closing on a client that still sends would reset the connection and take the answer with it.
                await send({**message, "more_body": True})
                await _discard(receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:
            started = status
            status = 500
            log.exception("unforeseen %s", type(error).__name__, extra={FIELDS: {"id": trace.request_id}})
            if started:
                raise  # the head is out: only a closed connection can show that the rest is missing
            await internal_error(trace.request_id, scope["path"])(scope, receive, send_on)
        finally:
            self._finish(scope, trace, method, status or trace.status or CLIENT_GONE)

    async def _web_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A session is one request: 101 where it was accepted, else the status of the refusal."""
        trace = begin_trace(scope)
        request_id = (b"x-request-id", trace.request_id.encode("ascii"))
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "websocket.accept":
                status = SWITCHED
                message["headers"] = [*message.get("headers", ()), request_id]
            elif message["type"] == "websocket.http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *HEADERS, request_id]
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        except Exception as error:
            accepted, status = status == SWITCHED, 500
            log.exception("unforeseen %s", type(error).__name__, extra={FIELDS: {"id": trace.request_id}})
            if accepted:
                raise  # the connection is closed
            await internal_error(trace.request_id, scope["path"])(scope, receive, send_on)
        finally:
            self._finish(scope, trace, "GET", status or CLIENT_GONE)

    def _finish(self, scope: Scope, trace: Trace, method: str, status: int) -> None:
        seconds = monotonic() - trace.started
        route = trace.route or _template(scope)
        self._finished(method, route, status, seconds)
        if self._traced is not None:
            self._traced(trace, method, scope["path"], route, status, seconds)
        if log.isEnabledFor(logging.INFO):
            log.info("request", extra={FIELDS: _fields(scope, trace, method, status, seconds)})


async def _discard(receive: Receive) -> None:
    """Read on for a while and forget it, until the body or the client's patience ends."""
    left = DISCARDED_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARDED_S):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


def _template(scope: Scope) -> str:
    """The route's pattern, not the path: a metric per path would let clients fill the memory."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "none"


def _fields(scope: Scope, trace: Trace, method: str, status: int, seconds: float) -> dict[str, Any]:
    fields = {
        "id": trace.request_id,
        "method": method[:20],
        "path": scope["path"][:200],
        "status": status,
        "ms": round(seconds * 1e3, 2),
    }
    if trace.model is not None:
        fields |= {"model": trace.model, "rows": trace.rows}
    return fields
