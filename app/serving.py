"""One process that serves: a socket, an event loop, uvicorn around the app.

The port is taken before the models are loaded, so that a port in use costs no wait, and it listens after, so that
nobody connects to a house that is not open.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from app import logs
from app.connection import Connection
from app.core.errors import LoadRefused
from app.engine.registry import Registry
from app.main import create_app
from app.settings import Settings

OK: Final = 0
FAILED: Final = 1
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Server(uvicorn.Server):
    """uvicorn's server that ends quietly: a signal stops it and is not raised again, so that the exit code is ours."""

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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        app = self.config.app
        assert isinstance(app, FastAPI)
        assert sockets
        announce(app.state.registry, sockets[0])


def announce(registry: Registry, listening: socket.socket) -> None:
    """Where, on what device, which models."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"Lectern serves {len(registry.models)} models at http://{shown}:{port} on {registry.device}")
    for model in registry.models:
        print(f"  {model.name}/{model.version}  {model.manifest.task}  {model.device}  {model.manifest.title}")
    for refusal in registry.refused:
        print(f"  REFUSED {refusal.folder}: {refusal.reason}")
    print(f"Documentation: http://{shown}:{port}/docs", flush=True)


def bind(host: str, port: int) -> socket.socket:
    """A socket that has its address and does not listen yet.

    Raises:
        OSError: the address cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def uvicorn_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """uvicorn with its own logging, its own access log, its server header and web sockets off."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",  # ours is around the server: its errors are exceptions, not log lines
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.grace_s,
    )


async def _serve(settings: Settings, listening: socket.socket) -> None:
    app = create_app(settings)
    server = Server(uvicorn_config(app, settings))
    async with app.router.lifespan_context(app):
        # What start-up made stays for good: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        await server.serve(sockets=[listening])


def _run(serving: Coroutine[Any, Any, None]) -> None:
    if sys.platform == "win32":
        asyncio.run(serving)
    else:
        import uvloop

        uvloop.run(serving)


def serve(settings: Settings) -> int:
    """Serve until a signal; returns the exit code."""
    logs.configure(settings.log_format, settings.log_level)
    try:
        listening = bind(settings.host, settings.port)
    except OSError as error:
        print(f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}", file=sys.stderr)
        return FAILED
    with listening:
        try:
            _run(_serve(settings, listening))
        except LoadRefused as error:
            print(error.detail, file=sys.stderr)
            return FAILED
        except KeyboardInterrupt:  # while the models were loading
            return FAILED
    return OK
