"""One process that serves: a socket, an event loop, uvicorn around the app, and a shutdown that loses no request.

The port is taken before the models are loaded, so that a port in use costs no wait. It listens after, so that nobody
connects to a server that is not ready.

The shutdown, on SIGTERM or SIGINT, in this order:

1. Readiness goes down. Requests in progress are answered, new ones with 503. Every response closes its connection. The
   port stays open.
2. Once the connections of before have their responses, and the idle ones among them were silent for LINGER_S (a request
   may have been on its way), no new connection is accepted. Those that wait in the socket's queue are.
3. Those get responses too, the port is closed, the models drain. Exit code 0.

Requests that are not answered, and runs that have not ended, `grace_s` after the signal are cut; a second signal cuts
at once. The exit code is then 1.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NoReturn

import uvicorn
from fastapi import FastAPI

from app.core.errors import LoadRefused
from app.engine.registry import Registry
from app.server.connection import Connection, State
from app.server.listen_socket import (
    BACKLOG,
    HANDSHAKE_S,
    allow_many_files,
    announce,
    bind,
    bind_or_report,
    stop_accepting,
)
from app.settings import Settings
from app.telemetry import logs

if TYPE_CHECKING:
    from app.server.web_socket import WebSocketConnection

__all__ = ["FAILED", "OK", "Server", "bind", "open_app", "run", "serve", "titles", "uvicorn_config"]

log = logging.getLogger("lectern")

OK: Final = 0
FAILED: Final = 1
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
TICK_S: Final = 0.02
LINGER_S: Final = 0.5
MESSAGE_BYTES: Final = 1 << 20  # of a WebSocket's message


class Server(uvicorn.Server):
    """uvicorn's server with a shutdown of its own.

    Attributes:
        was_cut: requests were left unanswered.
    """

    server_state: State

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self.app = app
        self.server_state = State(app.state.shared_counters)
        self.was_cut = False
        self._closing = False
        self._closes_at = 0.0

    def grace_left_s(self) -> float:
        """Of a shutdown that has begun."""
        return max(0.0, self._closes_at - monotonic())

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: object) -> None:
        if self.should_exit:
            log.warning("a second signal: %d connections are cut", len(self.connections))
            end_now()
        self.start_shutdown()

    @property
    def connections(self) -> list[Connection | WebSocketConnection]:
        return list(self.server_state.connections)  # type: ignore[arg-type]  # ours are all of these classes

    def start_shutdown(self) -> None:
        """Take no new requests from here on; calling it again changes nothing."""
        if self._closing:
            return
        self._closing = self.should_exit = True
        self._closes_at = monotonic() + (self.config.timeout_graceful_shutdown or 0)
        self.app.state.readiness.open = False
        refusing_app = self.config.loaded_app = self.app.state.shutdown
        for connection in self.connections:
            connection.close_soon(refusing_app)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.start_shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                await self.answer_all()
                await self.stop_accepting(sockets or [])
                await self.answer_all()
                if self.server_state.tasks:
                    await asyncio.wait(self.server_state.tasks)
        except TimeoutError:
            self._cut()
        for server in self.servers:
            server.close()

    async def answer_all(self) -> None:
        """Until the connections of now are closed: by their last answer, or by having been silent."""
        left = self.connections
        while left:
            for connection in left:
                if connection.is_idle:
                    connection.silent_ticks += 1
                    if connection.silent_ticks > LINGER_S / TICK_S:
                        connection.transport.close()
            # Ticks, not seconds: the loop has looked for bytes between each two, however late it runs.
            await asyncio.sleep(TICK_S)
            left = [connection for connection in left if connection in self.server_state.connections]

    async def stop_accepting(self, sockets: Sequence[socket.socket]) -> None:
        """Accept the connections that wait in the queue, and none after them."""
        waiting = select.poll() if hasattr(select, "poll") else None
        for listen_socket in sockets:
            stop_accepting(listen_socket)
            if waiting:
                waiting.register(listen_socket, select.POLLIN)
        await asyncio.sleep(HANDSHAKE_S)
        # The loop accepts them without a sign of when it has.
        while waiting and waiting.poll(0):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(TICK_S)  # the protocol of the last connection is called one turn of the loop later
        for server in self.servers:
            server.close()

    def _cut(self) -> None:
        owed = [connection for connection in self.connections if not connection.is_idle]
        if owed:
            self.was_cut = True
            log.error("%d requests were not answered within the grace period and are cut", len(owed))
        for connection in self.connections:
            connection.transport.abort()
        for task in self.server_state.tasks:
            task.cancel("the grace period is over")


def end_now() -> NoReturn:
    """Leave without waiting for anything: a run that hangs would hold up every other way out."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(FAILED)


def titles(registry: Registry) -> tuple[list[str], list[str]]:
    """A line for each model, and one for each folder that is refused."""
    return (
        [f"{m.name}/{m.version}  {m.manifest.task}  {m.device}  {m.manifest.title}" for m in registry.catalog.models],
        [f"REFUSED {refusal.folder}: {refusal.reason}" for refusal in registry.catalog.refused],
    )


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """uvicorn with its own logging, its own access log and its server header off. WebSockets are `Connection`'s."""
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=Connection,
        ws="none",
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="off",  # ours is around the server: its errors are exceptions, not log lines
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.grace_s,
    )


async def open_app(server: Server, sockets: list[socket.socket]) -> None:
    """Load the models, serve until a signal, drain them.

    Raises:
        LoadRefused: it cannot be opened.
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server.app.router.lifespan_context(server.app))
        # What start-up made stays for good: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        await server.serve(sockets=sockets)
        if server.was_cut:
            end_now()
        try:
            async with asyncio.timeout(server.grace_left_s()):
                await stack.aclose()
        except TimeoutError:
            models = server.app.state.registry.catalog.models
            running = [f"{model.name}/{model.version}/{graph}" for model in models for graph in model.running]
            log.error("runs of %s did not end within the grace period and are cut", ", ".join(running) or "no model")
            end_now()


class _Alone(Server):
    """The server of the only process, which listens itself."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        registry: Registry = self.app.state.registry
        models, refused = titles(registry)
        announce(sockets[0], models=models, refused=refused, device=registry.device, workers=1)


def run(serving: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on the fastest event loop there is."""
    if sys.platform == "win32":
        asyncio.run(serving)
    else:
        import uvloop

        uvloop.run(serving)


def serve(settings: Settings, create_app: Callable[[Settings], FastAPI]) -> int:
    """Serve the app of these settings until a signal; returns the exit code."""
    logs.configure(settings.log_format, settings.log_level)
    allow_many_files()
    listen_socket = bind_or_report(settings.host, settings.port)
    if listen_socket is None:
        return FAILED
    with listen_socket:
        app = create_app(settings)
        try:
            run(open_app(_Alone(uvicorn_config(app, settings), app), [listen_socket]))
        except LoadRefused as error:
            print(error.detail, file=sys.stderr)
            return FAILED
        except KeyboardInterrupt:  # while the models were loading
            return FAILED
    return OK
