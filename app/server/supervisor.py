"""`--workers N`: a parent that holds the port, hands each connection to a worker, and replaces those that die.

The parent accepts, and passes the open connection (SCM_RIGHTS over a socket pair) to the ready worker that has the
fewest. The kernel would do it for less with SO_REUSEPORT or with one listening socket that all share, but would choose
blindly (8 connections fall 6 + 2 as easily as 4 + 4), would go on choosing a worker that hangs, and resets what waits
in the queue of a worker that dies. Here the queue is the parent's: a killed worker takes with it the connections it
had, and nothing else. What it had not yet taken out of its channel is taken out again, for the parent keeps that end
of it open too, and goes to another.

What costs is accepting, some 50 us of the parent's time for each connection; requests never pass through here. The
parent imports neither the web framework nor the runtime and counts no connections: a worker counts those it closed in
its block of figures, which the parent maps, so the two need not talk.

A worker ends by itself when its channel closes, so none outlives its parent; it first answers what it has accepted.
The end of all is that of `app.server.serving`, step by step: every worker tells when it has nothing left to answer, and
only then the gate is shut.
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
from app.server.listen_socket import BACKLOG, HANDSHAKE_S, allow_many_files, announce, bind_or_say_why, shut_gate
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


class Parent:
    """Everything that the parent knows, in one event loop."""

    def __init__(self, settings: Settings, listening: socket.socket, weights: int = NO_FILE) -> None:
        threads = settings.threads or max(1, cores() // settings.workers)
        self._settings = settings.model_copy(update={"threads": threads})
        self._listening = listening
        self._weights = weights
        self._places = [WorkerSlot(number) for number in range(1, settings.workers + 1)]
        self._controls = ModelControl(self._places)
        own = new_block()
        self._blocks = [own, *(place.block for place in self._places)]
        self._restarts = SharedCounters(mmap.mmap(own, BLOCK_BYTES)).cells("lectern_worker_restarts")
        self._waiting: deque[socket.socket] = deque()
        self._changed = asyncio.Event()
        self._signals = 0
        self._is_open = False
        self._is_hopeless = ""
        self._code = OK

    async def run(self) -> int:
        """Start, serve, stop; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        keepers = [loop.create_task(self._keep(place)) for place in self._places]
        try:
            await self._until(lambda: self._is_over() or all(place.is_ready for place in self._places))
            if not self._is_over():
                self._open()
                await self._until(self._is_over)
            if self._is_hopeless:
                print(self._is_hopeless, file=sys.stderr)
                return FAILED
            return await self._stop() if self._is_open else FAILED
        finally:
            self._signals += 1
            for place in self._places:
                place.kill()
            await asyncio.gather(*keepers)

    def _open(self) -> None:
        self._is_open = True
        self._listening.listen(BACKLOG)
        self._listening.setblocking(False)
        told = self._places[0].told
        models, refused, device = told["models"], told["refused"], told["device"]
        announce(self._listening, models=models, refused=refused, device=device, workers=len(self._places))
        self._flow()

    def _signalled(self) -> None:
        self._signals += 1
        self._changed.set()

    def _is_over(self) -> bool:
        return bool(self._signals or self._is_hopeless)

    async def _until(self, happened: Callable[[], bool], deadline: float | None = None) -> None:
        """Look again whenever something has changed, until it has happened or `time.monotonic` is past the deadline."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                while not happened():
                    self._changed.clear()
                    await self._changed.wait()

    # One worker after the other in one place.

    async def _keep(self, place: WorkerSlot) -> None:
        def heard(told: dict[str, Any]) -> None:
            match told["what"]:
                case "ready":
                    log.info("worker %d is ready, process %d", place.number, place.pid)
                    place.is_ready = self._controls.started(place)
                case "control":
                    self._controls.asked(place, told)
                case "done":
                    place.is_ready |= self._controls.done(place, told) and not place.is_closing
                case "quiet" if not self._signals:  # somebody stopped this one alone
                    place.say(LAST)
            self._flow()
            self._changed.set()

        failures = 0
        while not self._is_over():
            began = time.monotonic()
            code = await place.live(self._settings, self._weights, self._blocks, heard)
            self._waiting.extend(place.rescue())
            self._controls.died(place)
            self._flow()
            self._changed.set()
            if self._is_over():
                if code != OK and place.told:
                    self._code = FAILED
                return
            how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            reason = place.why or f"worker {place.number} {how}"
            failures = 0 if place.told and time.monotonic() - began > STEADY_S else failures + 1
            if not self._is_open or (failures >= TRIES and not any(other.is_ready for other in self._places)):
                self._is_hopeless = reason
                return
            pause_s = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
            log.error("%s; another takes its place%s", reason, f" in {pause_s:g} s" if pause_s else "")
            await self._until(self._is_over, time.monotonic() + pause_s)
            self._restarts[0] += 1

    # Connections.

    def _takers(self) -> list[WorkerSlot]:
        """Those that are ready; at the end of all, those that close answer whoever still comes."""
        return [place for place in self._places if place.is_ready or (self._signals and place.told and place.is_taken)]

    def _flow(self) -> None:
        """Pass on who waits; accept only while there is somebody to pass them to."""
        if not self._is_open:
            return
        while self._waiting and self._pass(self._waiting[0]):
            self._waiting.popleft()
        loop = asyncio.get_running_loop()
        has_takers = bool(self._takers())
        if self._listening.fileno() >= 0:
            if has_takers and not self._waiting:
                loop.add_reader(self._listening, self._accept)
            else:
                loop.remove_reader(self._listening)
        if has_takers and self._waiting:
            loop.call_later(0.01, self._flow)
        self._changed.set()

    def _accept(self) -> bool:
        """Take in some of those who knock; False when there is nobody left."""
        for _ in range(TURN):
            try:
                taken, _ = self._listening.accept()
            except ConnectionAbortedError:
                continue
            except BlockingIOError:
                return False
            except OSError as error:
                log.error("cannot accept: %s", error)
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listening)
                loop.call_later(0.1, self._flow)
                return False
            if not self._pass(taken):
                self._waiting.append(taken)
                self._flow()
        return True

    def _pass(self, taken: socket.socket) -> bool:
        """Give a connection to the least busy worker that has room for it."""
        return any(place.give(taken) for place in sorted(self._takers(), key=lambda place: place.load))

    # The end.

    async def _stop(self) -> int:
        """The steps of the end, over all workers."""
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + self._settings.grace_s + MARGIN_S

        def left() -> list[WorkerSlot]:
            return [place for place in self._places if place.is_taken]

        def at_once() -> bool:
            return self._signals > 1

        for place in left():
            if place.told:
                place.say(CLOSE)
            else:
                place.kill()  # it was only starting
        self._flow()
        await self._until(lambda: at_once() or all(place.is_quiet for place in left()), deadline)
        shut_gate(self._listening)
        await asyncio.sleep(HANDSHAKE_S)
        while self._accept():
            pass
        await self._until(lambda: at_once() or not self._waiting, deadline)
        loop.remove_reader(self._listening)
        self._listening.close()
        for place in left():
            place.say(LAST)
        await self._until(lambda: at_once() or not left(), deadline)
        return FAILED if left() else self._code


def serve(settings: Settings) -> int:
    """Serve with several workers until a signal; returns the exit code."""
    if not hasattr(socket, "send_fds"):
        print(f"--workers {settings.workers}: this system cannot hand connections to other processes", file=sys.stderr)
        return WRONG_USAGE
    logs.configure(settings.log_format, settings.log_level)
    allow_many_files()
    listening = bind_or_say_why(settings.host, settings.port)
    if listening is None:
        return FAILED
    with listening, shared_folder() as weights:
        return asyncio.run(Parent(settings, listening, weights).run())
