"""A request's body, read within its limits of bytes and time."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from app.core.errors import Stalled, TooLarge, UnsupportedMedia, shown
from app.web.request.limits import Limits
from app.web.request.trace import CONNECTION, TRACE, WHOLE, Trace

LARGE_BYTES: Final = 2 << 20


class Connection(Protocol):
    """A connection that can hand over a request's whole body at once."""

    def take_body(self, scope: Scope) -> bytes | None: ...


async def read_body(scope: Scope, receive: Receive, limits: Limits, *, compressed: bool = False) -> bytes:
    """The whole body, as it came; `compressed` says that the caller will unpack it.

    Raises:
        TooLarge: more bytes than the limit, by Content-Length before anything is read, else while reading.
        UnsupportedMedia: it is compressed.
        Stalled: it did not arrive in time.
        ClientDisconnect: the client hung up.
    """
    trace: Trace = scope.get(TRACE) or Trace.of(scope)
    encoding = trace.header(b"content-encoding")
    if not compressed and encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise UnsupportedMedia(
            f"content-encoding {shown(encoding)} is not taken, send the body as it is",
            subject="header.content-encoding",
            expected="identity",
            got=shown(encoding),
        )
    trace.unread = True
    declared = trace.header(b"content-length")
    if declared is not None and declared.isdecimal() and int(declared[:20]) > limits.max_body_bytes:
        trace.oversized = True
        raise _too_large(limits.max_body_bytes, f"{declared[:20]} bytes")
    try:
        if WHOLE in scope:  # no need to watch the clock
            connection: Connection | None = scope.get(CONNECTION)
            whole = None if connection is None else connection.take_body(scope)
            if whole is None:
                body = await _collect(receive, limits.max_body_bytes)
            elif len(whole) > limits.max_body_bytes:
                raise _too_large(limits.max_body_bytes, f"more than {limits.max_body_bytes} bytes")
            else:
                body = whole
        else:
            async with asyncio.timeout(limits.body_timeout_s):
                body = await _collect(receive, limits.max_body_bytes)
    except TooLarge:
        trace.oversized = True
        raise
    except TimeoutError:
        raise Stalled(
            f"the body did not arrive within {limits.body_timeout_s:g} s",
            subject="body",
            expected=f"the whole body within {limits.body_timeout_s:g} s",
            got="a part of it",
        ) from None
    trace.unread = False
    return body


async def _collect(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit, f"more than {limit} bytes")
        chunks.append(chunk)
        if not message.get("more_body", False):
            if size > LARGE_BYTES:  # the system has to find the room, which takes it as long as copying
                return await asyncio.to_thread(b"".join, chunks)
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int, got: str) -> TooLarge:
    return TooLarge(
        f"the body is {got}, at most {limit} bytes are taken",
        subject="body",
        expected=f"at most {limit} bytes",
        got=got,
    )
