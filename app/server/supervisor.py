"""`--workers N`: a parent that holds the port, hands each connection to a worker, and replaces those that die.

The parent accepts, and hands the open connection (SCM_RIGHTS over a socket pair) to the ready worker that has the
fewest. The kernel would do it for less with SO_REUSEPORT or with one listening socket that all share. It would choose
blindly (8 connections fall 6 + 2 as easily as 4 + 4) and go on choosing a worker that hangs. And it resets what waits
in the queue of a worker that dies. Here the queue is the parent's: a killed worker takes with it the connections it
had, and nothing else. What it had not yet taken out of its channel the parent takes back, because it
keeps that end open too, and hands to another.

Accepting costs some 50 us of the parent's time for each connection; requests never pass through here. The
parent imports neither the web framework nor the runtime and counts no connections. A worker counts those it closed in
its block of figures, which the parent maps, so that no message is needed.

A worker ends by itself when its channel closes, so none outlives its parent; it first answers what it has accepted.
The shutdown is that of `app.server.serving`, step by step: every worker reports when it has nothing left to answer, and
only then no new connection is accepted.
"""

from __future__ import annotations

import asyncio
import logging
import mmap
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from app.core.shared_counters import BLOCK_BYTES, SharedCounters
from app.engine.process import cores
from app.server.listen_socket import BACKLOG, HANDSHAKE_S, allow_many_files, announce, bind_or_report, stop_accepting
from app.server.model_control import ModelControl
from app.server.worker_slot import CLOSE, LAST, NO_FILE, WorkerSlot, new_block, shared_folder
from app.settings import Settings
from app.telemetry import logs

log = logging.getLogger("lectern")

OK: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2

TURN: Final = 64  # connections accepted before the event loop has its turn again
STEADY_S: Final = 1.0  # a worker that lives shorter is replaced only after a pause
PAUSES_S: Final = (0.0, 0.0, 0.2, 1.0, 3.0, 10.0)
TRIES: Final = 5  # starts that fail one after the other, while no other worker serves, end the server
MARGIN_S: Final = 2.0  # workers keep to the grace period themselves


class Supervisor:
    """The parent: the listening socket and all workers, in one event loop."""

    def __init__(self, settings: Settings, listen_socket: socket.socket, weights: int = NO_FILE) -> None:
        threads = settings.threads or max(1, cores() // settings.workers)
        self._settings = settings.model_copy(update={"threads": threads})
        self._listen_socket = listen_socket
        self._weights = weights
        self._slots = [WorkerSlot(number) for number in range(1, settings.workers + 1)]
        self._model_control = ModelControl(self._slots)
        own = new_block()
        self._blocks = [own, *(slot.block for slot in self._slots)]
        self._restarts = SharedCounters(mmap.mmap(own, BLOCK_BYTES)).cells("lectern_worker_restarts")
        self._waiting: deque[socket.socket] = deque()
        self._changed = asyncio.Event()
        self._signals = 0
        self._is_open = False
        self._failure = ""
        self._code = OK

    async def run(self) -> int:
        """Start, serve, stop; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        keepers = [loop.create_task(self._keep_running(slot)) for slot in self._slots]
        try:
            await self._until(lambda: self._is_over() or all(slot.is_ready for slot in self._slots))
            if not self._is_over():
                self._open()
                await self._until(self._is_over)
            if self._failure:
                print(self._failure, file=sys.stderr)
                return FAILED
            return await self._stop() if self._is_open else FAILED
        finally:
            self._signals += 1
            for slot in self._slots:
                slot.kill()
            await asyncio.gather(*keepers)

    def _open(self) -> None:
        self._is_open = True
        self._listen_socket.listen(BACKLOG)
        self._listen_socket.setblocking(False)
        report = self._slots[0].report
        models, refused, device = report["models"], report["refused"], report["device"]
        announce(self._listen_socket, models=models, refused=refused, device=device, workers=len(self._slots))
        self._distribute()

    def _signalled(self) -> None:
        self._signals += 1
        self._changed.set()

    def _is_over(self) -> bool:
        return bool(self._signals or self._failure)

    async def _until(self, happened: Callable[[], bool], deadline: float | None = None) -> None:
        """Look again whenever something has changed, until it has happened or `time.monotonic` is past the deadline."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                while not happened():
                    self._changed.clear()
                    await self._changed.wait()

    # One worker after the other in one slot.

    async def _keep_running(self, slot: WorkerSlot) -> None:
        def on_message(message: dict[str, Any]) -> None:
            match message["what"]:
                case "ready":
                    log.info("worker %d is ready, process %d", slot.number, slot.pid)
                    slot.is_ready = self._model_control.started(slot)
                case "control":
                    self._model_control.requested(slot, message)
                case "done":
                    slot.is_ready |= self._model_control.done(slot, message) and not slot.is_closing
                case "quiet" if not self._signals:  # somebody stopped this one alone
                    slot.send(LAST)
            self._distribute()
            self._changed.set()

        failures = 0
        while not self._is_over():
            started_at = time.monotonic()
            code = await slot.run_process(self._settings, self._weights, self._blocks, on_message)
            self._waiting.extend(slot.take_back())
            self._model_control.died(slot)
            self._distribute()
            self._changed.set()
            if self._is_over():
                if code != OK and slot.report:
                    self._code = FAILED
                return
            how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            reason = slot.why or f"worker {slot.number} {how}"
            failures = 0 if slot.report and time.monotonic() - started_at > STEADY_S else failures + 1
            if not self._is_open or (failures >= TRIES and not any(other.is_ready for other in self._slots)):
                self._failure = reason
                return
            pause_s = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
            log.error("%s; another takes its place%s", reason, f" in {pause_s:g} s" if pause_s else "")
            await self._until(self._is_over, time.monotonic() + pause_s)
            self._restarts[0] += 1

    # Connections.

    def _receivers(self) -> list[WorkerSlot]:
        """Those that are ready; during shutdown also those that are closing, which answer whoever still comes."""
        return [slot for slot in self._slots if slot.is_ready or (self._signals and slot.report and slot.has_channel)]

    def _distribute(self) -> None:
        """Hand over connections that wait; accept only while some worker can take them."""
        if not self._is_open:
            return
        while self._waiting and self._hand_over(self._waiting[0]):
            self._waiting.popleft()
        loop = asyncio.get_running_loop()
        has_receivers = bool(self._receivers())
        if self._listen_socket.fileno() >= 0:
            if has_receivers and not self._waiting:
                loop.add_reader(self._listen_socket, self._accept)
            else:
                loop.remove_reader(self._listen_socket)
        if has_receivers and self._waiting:
            loop.call_later(0.01, self._distribute)
        self._changed.set()

    def _accept(self) -> bool:
        """Accept up to TURN connections; False when none is left."""
        for _ in range(TURN):
            try:
                connection, _ = self._listen_socket.accept()
            except ConnectionAbortedError:
                continue
            except BlockingIOError:
                return False
            except OSError as error:
                log.error("cannot accept: %s", error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listen_socket)
                loop.call_later(0.1, self._distribute)
                return False
            if not self._hand_over(connection):
                self._waiting.append(connection)
                self._distribute()
        return True

    def _hand_over(self, connection: socket.socket) -> bool:
        """Hand a connection to the least busy worker that has room for it."""
        return any(slot.hand_over(connection) for slot in sorted(self._receivers(), key=lambda slot: slot.load))

    # Shutdown.

    async def _stop(self) -> int:
        """The steps of a shutdown, over all workers."""
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + self._settings.grace_s + MARGIN_S

        def left() -> list[WorkerSlot]:
            return [slot for slot in self._slots if slot.has_channel]

        def at_once() -> bool:
            return self._signals > 1

        for slot in left():
            if slot.report:
                slot.send(CLOSE)
            else:
                slot.kill()  # it was only starting
        self._distribute()
        await self._until(lambda: at_once() or all(slot.is_quiet for slot in left()), deadline)
        stop_accepting(self._listen_socket)
        await asyncio.sleep(HANDSHAKE_S)
        while self._accept():
            pass
        await self._until(lambda: at_once() or not self._waiting, deadline)
        loop.remove_reader(self._listen_socket)
        self._listen_socket.close()
        for slot in left():
            slot.send(LAST)
        await self._until(lambda: at_once() or not left(), deadline)
        return FAILED if left() else self._code


def serve(settings: Settings) -> int:
    """Serve with several workers until a signal; returns the exit code."""
    if not hasattr(socket, "send_fds"):
        print(f"--workers {settings.workers}: this system cannot hand connections to other processes", file=sys.stderr)
        return WRONG_USAGE
    logs.configure(settings.log_format, settings.log_level)
    allow_many_files()
    listen_socket = bind_or_report(settings.host, settings.port)
    if listen_socket is None:
        return FAILED
    with listen_socket, shared_folder() as weights:
        return asyncio.run(Supervisor(settings, listen_socket, weights).run())
