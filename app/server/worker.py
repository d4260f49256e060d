"""One worker: a process that serves the connections its parent hands it. Started by `app.server.supervisor`.

`python -m app.server.worker CHANNEL OWN WEIGHTS BLOCK...`, all numbers of open files, the settings on standard input.
What goes through the channel is written in `app.server.place`.
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
        self._taking: set[asyncio.Task[Any]] = set()
        self._line = b""  # of what the parent is saying
        self._told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._asked: dict[int, asyncio.Future[list[str]]] = {}
        self._count = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        registry = self.app.state.registry
        models, refused = titles(registry)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel, self._listen)
        self._doing = loop.create_task(self._do_as_told())
        tell(self._channel, "ready", models=models, refused=refused, device=registry.device)

    def begin_to_close(self) -> None:
        if not self.should_exit:
            tell(self._channel, "closing")
        super().begin_to_close()

    async def shut_gate(self, sockets: Sequence[socket.socket]) -> None:
        tell(self._channel, "quiet")
        await self._last.wait()
        await asyncio.gather(*self._taking)

    def _listen(self) -> None:
        for _ in range(TURN):
            try:
                said, files, _, _ = socket.recv_fds(self._channel, 1, 1)
            except BlockingIOError:
                return
            if self._line or said == b"{":
                self._line += said
                if said == b"\n":
                    self._hear(json.loads(self._line))
                    self._line = b""
            elif said == HERE:
                for file in files:  # none where this process may open no more: the client sees its connection closed
                    self._take(file)
            elif said == CLOSE:
                self.begin_to_close()
            else:  # the gate is shut; or the parent is gone, and there is nobody left to bring more
                asyncio.get_running_loop().remove_reader(self._channel)
                self._last.set()
                self._hear_no_more()
                self.begin_to_close()
                return

    # Models loaded and unloaded by hand, see `app.server.controls`.

    async def on_control(self, control: Control, name: str) -> Sequence[str]:
        """Have the other workers do what was done here; returns why some could not."""
        if self._last.is_set():
            return ()
        self._count += 1
        number = self._count
        answer = self._asked[number] = asyncio.Future[list[str]]()
        tell(self._channel, "control", control=control, name=name, number=number)
        try:
            async with asyncio.timeout(CONTROL_S):
                return await answer
        except TimeoutError:
            return (f"not every worker has done it within {CONTROL_S:g} s",)
        finally:
            del self._asked[number]

    def _hear(self, told: dict[str, Any]) -> None:
        if "control" in told:
            self._told.put_nowait(told)
        elif (answer := self._asked.get(told["done"])) is not None and not answer.done():
            answer.set_result(told["why"])

    def _hear_no_more(self) -> None:
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result([])

    async def _do_as_told(self) -> None:
        registry: Registry = self.app.state.registry
        while True:
            told = await self._told.get()
            why = ""
            try:
                change = registry.load if told["control"] == "load" else registry.unload
                await change(told["name"], tell=False)
            except (NotFound, Unavailable):  # there is nothing to unload; or this worker is closing
                pass
            except LecternError as error:
                why = error.detail
            except Exception as error:
                log.exception("%s %s", told["control"], told["name"])
                why = f"{type(error).__name__}: {error}"
            tell(self._channel, "done", number=told["number"], why=why)

    def _take(self, file: int) -> None:
        loop = asyncio.get_running_loop()
        taken = socket.socket(fileno=file)
        taken.setblocking(False)
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(self._connect(loop, taken))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _connect(self, loop: asyncio.AbstractEventLoop, taken: socket.socket) -> None:
        made = partial(Connection, self.config, self.server_state, {}, loop)
        try:
            await loop.connect_accepted_socket(made, taken)
        except OSError:  # the client has left already
            taken.close()
            self.server_state.closed[0] += 1


def tell(channel: socket.socket, what: str, **more: Any) -> None:
    """Say one thing to the parent; one that is gone is told in vain."""
    with suppress(OSError):
        channel.sendall(json.dumps({"what": what, **more}).encode() + b"\n")


def main(numbers: Sequence[int]) -> int:
    """Serve until told to stop; returns the exit code."""
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
            tell(channel, "failed", why=error.detail)
            return FAILED
        except KeyboardInterrupt:
            return FAILED
    return OK


if __name__ == "__main__":
    sys.exit(main([int(number) for number in sys.argv[1:]]))
