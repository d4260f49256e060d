"""A response whose bytes and headers are made already: what `Response` does beyond that costs every request."""

from __future__ import annotations

from typing import Final, Protocol

from starlette.responses import Response, StreamingResponse
from starlette.types import Scope

from app.web.request.trace import CONNECTION, TRACE, Trace

HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""What every answer carries, whoever makes it."""

_HEADERS: Final = b"".join(b"%b: %b\r\n" % header for header in HEADERS)


class Connection(Protocol):
    """A connection that takes a whole answer at once."""

    def reply(self, scope: Scope, status: int, headers: bytes, body: bytes) -> bool: ...


class EncodedResponse(Response):
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


def reply(scope: Scope, response: Response) -> bool:
    """Give a whole response to the connection in one piece, past `send` and whoever listens there.

    Returns:
        False where that cannot be: another server's connection, pipelined requests, a slow reader, a body not read yet.
    """
    connection: Connection | None = scope.get(CONNECTION)
    trace: Trace | None = scope.get(TRACE)
    if connection is None or trace is None or trace.unread or isinstance(response, StreamingResponse):
        return False
    headers = b"".join([b"%b: %b\r\n" % header for header in response.raw_headers])
    request_id = b"x-request-id: %b\r\n" % trace.request_id.encode("ascii")
    if not connection.reply(
        scope, response.status_code, b"".join((headers, _HEADERS, request_id)), bytes(response.body)
    ):
        return False
    trace.status = response.status_code
    return True
