"""One request, for its log line, its metrics and its trace."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from starlette.types import Scope

from app.core.errors import Unprocessable

TRACE: Final = "lectern.trace"
CONNECTION: Final = "lectern.connection"
WHOLE: Final = "lectern.whole"
CLOSING: Final = "lectern.closing"
"""Keys of a request's scope: what is known of it; the connection that it came on, if that is our own; there once the
connection has all of its body; of a WebSocket an event that is set when the server shuts down."""
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_PROCESS = secrets.token_hex(6)
_COUNT = itertools.count(1)


class Trace:
    """What is known of a request; endpoints add to it.

    Attributes:
        headers: the request's headers, the last of each name; `repeated` where a name stands there twice.
        all_headers: every header, in their order.
        started: `time.monotonic()` when its head had come.
        route: the pattern of the path, for responses given before routing.
        status: of a response that was written to the connection directly; else 0.
        unread: the response comes before the whole body: the connection cannot be used again.
        oversized: because the body is too large; the client may still be sending it.
        stages: (name, seconds) in their order, of a request that a model has answered.
    """

    route: str | None = None
    status = 0
    model: str | None = None
    rows: int | None = None
    unread = False
    oversized = False
    stages: tuple[tuple[str, float], ...] = ()

    def __init__(self, request_id: str, all_headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.request_id = request_id
        self.all_headers = all_headers
        self.headers: Mapping[bytes, bytes] = dict(all_headers)
        self.repeated = len(self.headers) != len(all_headers)
        self.started = monotonic()

    @classmethod
    def of(cls, scope: Scope) -> Trace:
        """The request's own trace; a new one where no middleware made it."""
        trace = scope.get(TRACE)
        return trace if isinstance(trace, Trace) else begin_trace(scope)

    def header(self, name: bytes) -> str | None:
        """One header's value, by its name in lower case; None where it is absent.

        Raises:
            Unprocessable: it is there more than once.
        """
        if self.repeated:
            found = sum(key == name for key, _ in self.all_headers)
            if found > 1:
                raise Unprocessable(
                    f"header {name.decode()} is given {found} times, it is taken once",
                    subject=f"header.{name.decode()}",
                    expected="one value",
                    got=f"{found} values",
                )
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def begin_trace(scope: Scope) -> Trace:
    """The trace of a request whose head has come."""
    headers = scope["headers"]
    trace = scope[TRACE] = Trace("", headers)
    trace.request_id = _request_id(trace.headers.get(b"x-request-id"))
    return trace


def new_request_id() -> str:
    """Unique to this request: the process's random part, and a count."""
    return f"{_PROCESS}{next(_COUNT):012x}"


def _request_id(value: bytes | None) -> str:
    """The caller's id where it is safe to repeat in headers and logs, else a new one."""
    if value is not None:
        text = value.decode("latin-1")
        if _SANE_ID.fullmatch(text):
            return text
    return new_request_id()
