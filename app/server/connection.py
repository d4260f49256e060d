"""uvicorn's HTTP/1.1 connection with limits of its own: on heads, on waiting for them, and on what an error looks like.

uvicorn leaves these to a proxy in front; this server needs none.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.core.errors import ClientError, invalid
from app.core.shared_counters import SharedCounters
from app.middleware.errors import MEDIA_TYPE
from app.web.request.trace import CONNECTION, WHOLE, new_request_id

MAX_HEAD_BYTES: Final = 64 << 10
LONGEST_HANDSHAKE_LINE: Final = 8_000  # of a WebSocket's head; the library takes 8,192 bytes with the ends
MOST_HANDSHAKE_HEADERS: Final = 120  # it takes 128
HEAD_TIMEOUT_S: Final = 30.0
MOST_PIPELINED: Final = 16
READER_TIMEOUT_S: Final = 60.0  # without the client reading a byte of a response that waits


class BadHttp(ClientError):
    """The bytes are not HTTP/1.1; the connection is closed."""

    status = 400
    title = "Not HTTP"


class HeadTooLarge(ClientError):
    """More bytes of request line, headers or trailers than the limit; the connection is closed."""

    status = 431
    title = "Head too large"


class State(ServerState):
    """What the connections of one server share: uvicorn's state and the counters of connections."""

    def __init__(self, shared_counters: SharedCounters) -> None:
        super().__init__()
        self.opened = shared_counters.cells("lectern_connections")
        self.open = shared_counters.cells("lectern_open_connections", gauge=True)
        self.closed = shared_counters.cells("lectern_closed_connections")
        self._joined: tuple[object, bytes] = (None, b"")

    def default_head(self) -> bytes:
        """Lines of the headers that every response has; uvicorn makes a new list of them each second."""
        headers = self.default_headers
        if self._joined[0] is not headers:
            self._joined = headers, b"".join([b"%b: %b\r\n" % header for header in headers])
        return self._joined[1]


class Connection(HttpToolsProtocol):
    """One client's connection."""

    server_state: State
    silent_ticks = 0  # of a server that shuts down, since the last byte came

    task: asyncio.Task[Any] | None = None
    """The task that answers the request which is being answered."""
    waiting = False
    """Whether that task waits for a model: nobody wants its answer once the connection is lost."""

    _idle_bytes = 0  # since the last complete head or piece of body: of heads, trailers and chunk extensions
    _head_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None
    _keep_timer: asyncio.TimerHandle | None = None
    _idle_since = 0.0
    _head_again: bytes | None = None
    _is_web_socket = False
    _answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.server_state.opened[0] += 1
        self.server_state.open[0] += 1
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        self._idle_bytes += len(data)
        self.silent_ticks = 0
        try:
            self._feed(data)
        except HttpParserError:
            self.send_400_response("")
        if self._idle_bytes and not self.transport.is_closing():
            if self._idle_bytes > MAX_HEAD_BYTES:
                self._refuse(
                    invalid(
                        "head",
                        expected=f"at most {MAX_HEAD_BYTES} bytes",
                        got=f"more than {MAX_HEAD_BYTES} bytes",
                        detail=f"the head is more than {MAX_HEAD_BYTES} bytes",
                        error=HeadTooLarge,
                    )
                )
            elif self._head_timer is None:
                self._expect_head()

    def _feed(self, data: bytes | memoryview) -> None:
        """Parse, ignoring offers of another protocol (RFC 9110, 7.8), but for WebSockets where there are any.

        Clients offer HTTP/2 that way with ordinary requests. The parser then stops behind the head, where it expects
        the other protocol; the bytes there are still the body. Each offer is one pass of the loop: a packet may hold
        thousands.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as stop:
                head, self._head_again = self._head_again, None
                if self._is_web_socket:
                    self._become_web_socket(bytes(head or b"") + bytes(memoryview(data)[stop.args[0] :]))
                    return
                if not head:
                    raise HttpParserError("CONNECT") from None
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn makes it
                self.parser.feed_data(head)
                data = memoryview(data)[stop.args[0] :]
            else:
                return

    def _offers_web_socket(self) -> bool:
        """Whether the head asks for one of the app's WebSockets, and no answer is owed before. An offer with a body, or
        with a head that the library of WebSockets refuses in silence, is answered as if it were none."""
        if self.parser.get_method() != b"GET" or not self.is_idle:
            return False
        longest = max(len(name) + len(value) for name, value in [(b"GET HTTP/1.1", self.url), *self.headers])
        if longest > LONGEST_HANDSHAKE_LINE or len(self.headers) > MOST_HANDSHAKE_HEADERS:
            return False
        if any(n == b"transfer-encoding" or (n == b"content-length" and v != b"0") for n, v in self.headers):
            return False
        path = self.url.partition(b"?")[0].decode("latin-1")
        offered = [value.strip().lower() for name, value in self.headers if name == b"upgrade"]
        return offered == [b"websocket"] and path in self.config.app.state.web_sockets  # type: ignore[union-attr]  # ours

    def _head(self) -> bytes:
        lines = [b"%b: %b" % header for header in self.headers]
        return b"\r\n".join((b"GET %b HTTP/1.1" % self.url, *lines, b"", b""))

    def _become_web_socket(self, data: bytes) -> None:
        """Hand the connection over, with what came of it."""
        from app.server.web_socket import WebSocketConnection  # most servers never need it

        for timer in (self._head_timer, self._reader_timer, self._keep_timer):
            if timer is not None:
                timer.cancel()
        self._idle_bytes = 0
        self.connections.discard(self)
        successor = WebSocketConnection(self.config, self.server_state, self.app_state, self.loop)
        successor.connection_made(self.transport)
        self.transport.set_protocol(successor)
        successor.data_received(data)

    def _without_upgrade(self) -> bytes:
        """The head as received, without the offer."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in (b"upgrade", b"http2-settings"))
            if name not in (b"upgrade", b"http2-settings") and (value or name != b"connection"):
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join((*lines, b"", b""))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value.strip(b" \t"))  # which is around a value and no part of it (RFC 9110, 5.5)

    def on_headers_complete(self) -> None:
        self._idle_bytes = 0
        if self.parser.should_upgrade():
            self._is_web_socket = self._offers_web_socket()
            if self._is_web_socket:
                self._head_again = self._head()
                return
            self._head_again = b"" if self.parser.get_method() == b"CONNECT" else self._without_upgrade()
            return
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]  # ASGI lets a server add keys of its own
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()
        if self.pipeline and len(self.pipeline) < MOST_PIPELINED:
            self.flow.resume_reading()  # else a disconnect would not be seen

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle_bytes = 0
        if self._head_again is not None:
            return
        self.scope[WHOLE] = True  # type: ignore[typeddict-unknown-key]  # as above
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()  # its last piece may have been a large one: else no disconnect would be seen

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._reader_timer, self._keep_timer):
            if timer is not None:
                timer.cancel()
        self.server_state.open[0] -= 1
        self.server_state.closed[0] += 1
        # uvicorn informs the request that came last; with pipelining an earlier one is being answered.
        self.pipeline.clear()
        if self._answered is not None:
            self._answered.disconnected = True
            self._answered.message_event.set()
        super().connection_lost(exc)
        if self.waiting:
            assert self.task is not None
            self.waiting = False
            self.task.cancel()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """As uvicorn's, which keeps the task to itself."""
        self._answered = cycle
        self.task = self.loop.create_task(cycle.run_asgi(app))
        self.task.add_done_callback(self.tasks.discard)
        self.tasks.add(self.task)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
        super().resume_writing()

    def _watch_reader(self, waiting: int) -> None:
        self._reader_timer = self.loop.call_later(READER_TIMEOUT_S, self._reader_is_late, waiting)

    def _reader_is_late(self, waited: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting < waited:  # slow, but it reads
            self._watch_reader(waiting)
        else:
            self.transport.abort()

    def take_body(self, scope: Scope) -> bytes | None:
        """The body of a request that has come whole; None where it must be asked for by `receive`.

        As `RequestResponseCycle.receive` gives it, without waiting for an event that is set already.
        """
        cycle: RequestResponseCycle = self.cycle
        if cycle.scope is not scope or cycle.more_body or cycle.disconnected or cycle.response_complete:
            return None
        self.flow.resume_reading()
        cycle.message_event.clear()
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def reply(self, scope: Scope, status: int, headers: bytes, body: bytes) -> bool:
        """The whole response to a request in one write; False where it must go through `send`.

        As `RequestResponseCycle.send` does it, which looks at each header again and writes twice.
        """
        cycle: RequestResponseCycle = self.cycle
        # Of pipelined requests it is the last; and a client that reads slowly is waited for.
        if cycle.scope is not scope or cycle.response_started or cycle.disconnected or self.flow.write_paused:
            return False
        if self.transport.is_closing():
            return False
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        content = (STATUS_LINE[status], self.server_state.default_head(), headers, end, body)
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        self.transport.write(b"".join(content))
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the keep-alive: one timer that looks again, instead of a new one for each response."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self._keep_timer is None:
            self._keep_timer = self.loop.call_later(self.timeout_keep_alive, self._look_at_keep_alive)

    def _look_at_keep_alive(self) -> None:
        self._keep_timer = None
        if self.is_idle and not self._idle_bytes and not self.transport.is_closing():
            left = self._idle_since + self.timeout_keep_alive - self.loop.time()
            if left > 0:
                self._keep_timer = self.loop.call_later(left, self._look_at_keep_alive)
            else:
                self.timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        self._refuse(
            BadHttp(
                "what came is no request of HTTP/1.1 that can be read one way only",
                subject="head",
                expected="a request as in RFC 9112",
                got="something else",
            )
        )

    @property
    def is_idle(self) -> bool:
        """No request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def close_soon(self, app: ASGIApp) -> None:
        """Let this app answer further requests, and close the connection after the responses that are owed."""
        self.app = app
        if not self.is_idle:
            self.cycle.keep_alive = False

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.is_idle:
            self.transport.close()

    def _refuse(self, error: ClientError) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body):
            self.transport.close()  # the response to an earlier request is still to come: this would be taken for it
            return
        body = json.dumps(
            {
                "type": f"/errors/{error.kind}",
                "title": error.title,
                "status": error.status,
                "detail": error.detail,
                "request_id": (request_id := new_request_id()),
                "subject": error.subject,
                "expected": error.expected,
                "got": error.got,
            },
            separators=(",", ":"),
        )
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write((head + body).encode("ascii"))
        self.transport.close()
