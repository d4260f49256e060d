"""One worker: a process that serves the connections that its parent hands over. Started by `app.server.supervisor`.

`python -m app.server.worker CHANNEL OWN WEIGHTS BLOCK...`, all numbers of open files, the settings on standard input.
The channel's messages are described in `app.server.worker_slot`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from uvicorn import Config

from app.core.errors import LecternError, LoadRefused, NotFound, Unavailable
from app.core.shared_counters import BLOCK_BYTES, SharedCounters
from app.engine.registry import Control, Registry
from app.main import create_app
from app.server.connection import Connection
from app.server.listen_socket import allow_many_files
from app.server.serving import FAILED, OK, Server, open_app, run, titles, uvicorn_config
from app.server.worker_slot import CLOSE, HERE, NO_FILE
from app.settings import Settings
from app.telemetry import logs

TURN: Final = 64  # connections taken before the event loop has its turn again
CONTROL_S: Final = 60.0  # for the other workers to load or unload a model

log = logging.getLogger("lectern")


class Worker(Server):
    """A server without a port of its own."""

    def __init__(self, config: Config, app: FastAPI, channel: socket.socket) -> None:
        super().__init__(config, app)
        self._channel = channel
        self._last = asyncio.Event()  # no connection comes after
        self._accepting: set[asyncio.Task[Any]] = set()
        self._partial = b""  # a line of JSON, as far as it has come
        self._controls: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._pending: dict[int, asyncio.Future[list[str]]] = {}
        self._count = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        registry = self.app.state.registry
        models, refused = titles(registry)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel, self._read_channel)
        self._doing = loop.create_task(self._apply_controls())
        send_message(self._channel, "ready", models=models, refused=refused, device=registry.device)

    def start_shutdown(self) -> None:
        if not self.should_exit:
            send_message(self._channel, "closing")
        super().start_shutdown()

    async def stop_accepting(self, sockets: Sequence[socket.socket]) -> None:
        send_message(self._channel, "quiet")
        await self._last.wait()
        await asyncio.gather(*self._accepting)

    def _read_channel(self) -> None:
        for _ in range(TURN):
            try:
                byte, files, _, _ = socket.recv_fds(self._channel, 1, 1)
            except BlockingIOError:
                return
            if self._partial or byte == b"{":
                self._partial += byte
                if byte == b"\n":
                    self._handle(json.loads(self._partial))
                    self._partial = b""
            elif byte == HERE:
                for file in files:  # none where this process may open no more: the client sees its connection closed
                    self._accept(file)
            elif byte == CLOSE:
                self.start_shutdown()
            else:  # LAST; or the parent is gone, and no connection can come any more
                asyncio.get_running_loop().remove_reader(self._channel)
                self._last.set()
                self._end_pending()
                self.start_shutdown()
                return

    # Models loaded and unloaded on request, see `app.server.model_control`.

    async def on_control(self, control: Control, name: str) -> Sequence[str]:
        """Have the other workers make the same change; returns why some could not."""
        if self._last.is_set():
            return ()
        self._count += 1
        number = self._count
        answer = self._pending[number] = asyncio.Future[list[str]]()
        send_message(self._channel, "control", control=control, name=name, number=number)
        try:
            async with asyncio.timeout(CONTROL_S):
                return await answer
        except TimeoutError:
            return (f"not every worker has done it within {CONTROL_S:g} s",)
        finally:
            del self._pending[number]

    def _handle(self, message: dict[str, Any]) -> None:
        if "control" in message:
            self._controls.put_nowait(message)
        elif (answer := self._pending.get(message["done"])) is not None and not answer.done():
            answer.set_result(message["why"])

    def _end_pending(self) -> None:
        for answer in self._pending.values():
            if not answer.done():
                answer.set_result([])

    async def _apply_controls(self) -> None:
        registry: Registry = self.app.state.registry
        while True:
            message = await self._controls.get()
            why = ""
            try:
                change = registry.load if message["control"] == "load" else registry.unload
                await change(message["name"], notify=False)
            except (NotFound, Unavailable):  # there is nothing to unload; or this worker is closing
                pass
            except LecternError as error:
                why = error.detail
            except Exception as error:
                log.exception("%s %s", message["control"], message["name"])
                why = f"{type(error).__name__}: {error}"
            send_message(self._channel, "done", number=message["number"], why=why)

    def _accept(self, file: int) -> None:
        loop = asyncio.get_running_loop()
        connection = socket.socket(fileno=file)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(self._connect(loop, connection))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _connect(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        new_connection = partial(Connection, self.config, self.server_state, {}, loop)
        try:
            await loop.connect_accepted_socket(new_connection, connection)
        except OSError:  # the client has left already
            connection.close()
            self.server_state.closed[0] += 1


def send_message(channel: socket.socket, what: str, **more: Any) -> None:
    """Send one message to the parent, if it still lives."""
    with suppress(OSError):
        channel.sendall(json.dumps({"what": what, **more}).encode() + b"\n")


def main(numbers: Sequence[int]) -> int:
    """Serve until the parent ends it; returns the exit code."""
    channel_file, own, weights, *files = numbers
    settings = Settings(**json.load(sys.stdin))
    logs.configure(settings.log_format, settings.log_level)
    allow_many_files()
    blocks = {file: mmap.mmap(file, BLOCK_BYTES) for file in files}
    folder = None if weights == NO_FILE else Path(f"/proc/self/fd/{weights}")
    app = create_app(
        settings, shared_counters=SharedCounters(blocks[own]), siblings=lambda: blocks.values(), weights=folder
    )
    with socket.socket(fileno=channel_file) as channel:
        channel.setblocking(False)
        try:
            worker = Worker(uvicorn_config(app, settings), app, channel)
            app.state.registry.on_control = worker.on_control
            run(open_app(worker, []))
        except LoadRefused as error:
            send_message(channel, "failed", why=error.detail)
            return FAILED
        except KeyboardInterrupt:
            return FAILED
    return OK


if __name__ == "__main__":
    code = main([int(number) for number in sys.argv[1:]])
    logs.settle()
    sys.exit(code)
