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
        head: lines of headers with names in lower case, each with its line break; without content-length.
    """

    status_code = 200
    background = None
    body: bytes

    def __init__(self, content: bytes, head: bytes) -> None:
        self.body = content
        self.head = b"%bcontent-length: %d\r\n" % (head, len(content))

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]  # there only where somebody asks
        lines = self.head.split(b"\r\n")[:-1]
        return [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]


def reply(scope: Scope, response: Response) -> bool:
    """Give a whole response to the connection in one piece, past `send` and whoever listens there.

    Returns:
        False where that cannot be: another server's connection, pipelined requests, a slow reader, a body not read yet.
    """
    connection: Connection | None = scope.get(CONNECTION)
    trace: Trace | None = scope.get(TRACE)
    if connection is None or trace is None or trace.unread or isinstance(response, StreamingResponse):
        return False
    if isinstance(response, EncodedResponse):
        head = response.head
    else:
        head = b"".join([b"%b: %b\r\n" % header for header in response.raw_headers])
    head = b"%b%bx-request-id: %b\r\n" % (head, _HEADERS, trace.request_id.encode("ascii"))
    if not connection.reply(scope, response.status_code, head, bytes(response.body)):
        return False
    trace.status = response.status_code
    return True
