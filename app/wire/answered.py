"""A response whose bytes and headers are made already: what `Response` does beyond that costs every request."""

from __future__ import annotations

from typing import Final, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.wire.context import TRACE
from app.wire.waiting import LINE

HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""What every answer carries, whoever makes it."""

_HEADERS: Final = b"".join(b"%b: %b\r\n" % header for header in HEADERS)


class Line(Protocol):
    """A connection that takes a whole answer at once."""

    def reply(self, scope: Scope, headers: bytes, body: bytes) -> bool: ...


class Answered(Response):
    """200 with a whole body.

    Args:
        content: the body.
        headers: in lower case, without content-length; of values that hold no line break.
    """

    body: bytes

    def __init__(self, content: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = 200
        self.body = content
        self.background = None
        self.raw_headers = [*headers, (b"content-length", b"%d" % len(content))]

    def reply(self, scope: Scope) -> bool:
        """Give it to the connection in one piece, past `send` and whoever listens there; False where that cannot be."""
        line: Line | None = scope.get(LINE)
        trace = scope.get(TRACE)
        if line is None or trace is None:
            return False
        headers = b"".join([b"%b: %b\r\n" % header for header in self.raw_headers])
        request_id = b"x-request-id: %b\r\n" % trace.request_id.encode("ascii")
        if not line.reply(scope, b"".join((headers, _HEADERS, request_id)), self.body):
            return False
        trace.status = 200
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})
