"""A response whose bytes and headers are made already: what `Response` does beyond that costs every request."""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class Answered(Response):
    """200 with a whole body.

    Args:
        content: the body.
        headers: in lower case, without content-length.
    """

    def __init__(self, content: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = 200
        self.body = content
        self.background = None
        self.raw_headers = [*headers, (b"content-length", b"%d" % len(content))]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})
