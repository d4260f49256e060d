"""A load that does not wait for answers: requests leave by a schedule, whatever came of those before.

`wrk` sends its next request when the last was answered, so an overloaded server slows the load down and looks well.
Here the arrivals are a Poisson process drawn beforehand, over many connections kept alive, and a latency counts from
the moment that the schedule had for the request.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np

TICK_S: Final = 0.001  # how often what is due is sent
END: Final = b"\r\n\r\n"
LENGTH: Final = b"content-length:"


@dataclass(slots=True)
class Log:
    """What became of each request, in the order of the answers."""

    due_s: list[float] = field(default_factory=list)  # by the schedule, from the start
    sent_s: list[float] = field(default_factory=list)
    done_s: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)  # 0 where the connection broke
    reasons: dict[str, int] = field(default_factory=dict)  # of those that broke
    offered: int = 0
    unsent: int = 0  # no connection became free for them
    most_waiting: int = 0  # requests that were due and had no free connection
    latest_s: float = 0.0  # how far the client itself fell behind
    cpu_s: float = 0.0  # of the client


class Connection(asyncio.Protocol):
    """One connection, one request in flight at most."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.due = self.sent = 0.0
        self.busy = False
        self.got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass of it
        self.load.opened.add(self)

    def send(self, request: bytes, due: float, now: float) -> None:
        assert self.transport is not None
        self.busy, self.due, self.sent, self.got = True, due, now, b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        got = self.got = self.got + data if self.got else data
        head = got.find(END)
        if head < 0:
            return
        lower = got[:head].lower()
        at = lower.find(LENGTH)
        if at < 0:
            self.finish(0, "an answer without content-length")
            return
        length = int(lower[at + len(LENGTH) :].split(b"\r\n", 1)[0])
        if len(got) >= head + 4 + length:
            self.finish(int(got[9:12]))
            if b"connection: close" not in lower:
                self.load.free.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.load.opened.discard(self)
        if self.busy and not self.load.over:
            self.finish(0, type(error).__name__ if error else "closed by the server")
        self.load.replace(self)

    def finish(self, status: int, reason: str = "") -> None:
        self.busy = False
        self.load.done(self, status, reason)


class Load:
    """One stretch of load on `host:port`."""

    def __init__(self, host: str, port: int, requests: Sequence[bytes], connections: int) -> None:
        self.host, self.port, self.requests, self.connections = host, port, requests, connections
        self.free: deque[Connection] = deque()
        self.opened: set[Connection] = set()
        self.log = Log()
        self.began = 0.0
        self.over = False
        self.opening: set[asyncio.Task[None]] = set()

    async def run(self, per_s: float, seconds: float, *, seed: int, drain_s: float = 30.0) -> Log:
        """Offer `per_s` for `seconds`, then wait for the answers, at most `drain_s`."""
        gaps = np.random.default_rng(seed).exponential(1 / per_s, int(per_s * seconds * 1.2) + 100)
        schedule = np.cumsum(gaps)
        times: list[float] = schedule[schedule < seconds].tolist()
        for _ in range(0, self.connections, 64):  # not all at once: the backlog of a listening socket is short
            await asyncio.gather(*(self.open() for _ in range(min(64, self.connections - len(self.free)))))
        log, waiting, sent = self.log, deque[float](), 0
        cpu_s, self.began = time.process_time(), time.perf_counter()
        while sent < len(times) or waiting:
            now = time.perf_counter() - self.began
            while sent < len(times) and times[sent] <= now:
                waiting.append(times[sent])
                sent += 1
            while waiting and self.free:
                connection = self.free.popleft()  # the one that rested longest, so that none is closed as idle
                if connection.transport is None or connection.transport.is_closing():
                    continue
                due = waiting.popleft()
                log.offered += 1
                log.latest_s = max(log.latest_s, now - due)
                connection.send(self.requests[log.offered % len(self.requests)], due, now)
            log.most_waiting = max(log.most_waiting, len(waiting))
            if now > seconds + drain_s:
                break
            await asyncio.sleep(TICK_S)
        log.unsent = len(times) - log.offered
        end = time.perf_counter() + drain_s
        while len(log.status) < log.offered and time.perf_counter() < end:  # noqa: ASYNC110 - nothing else waits
            await asyncio.sleep(0.01)
        log.cpu_s = time.process_time() - cpu_s
        self.over = True
        await asyncio.gather(*self.opening)
        for connection in self.opened:
            assert connection.transport is not None
            connection.transport.abort()
        while self.opened:  # noqa: ASYNC110 - each goes in the loop's next turns
            await asyncio.sleep(0)
        return log

    async def open(self, after_s: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(after_s)
        try:
            _, connection = await loop.create_connection(lambda: Connection(self), self.host, self.port)
        except OSError as error:
            reason = f"connecting: {type(error).__name__}"
            self.log.reasons[reason] = self.log.reasons.get(reason, 0) + 1
            return
        self.free.append(connection)

    def replace(self, lost: Connection) -> None:
        if not self.over:
            task = asyncio.get_running_loop().create_task(self.open(after_s=0.01))
            self.opening.add(task)
            task.add_done_callback(self.opening.discard)

    def done(self, connection: Connection, status: int, reason: str) -> None:
        log = self.log
        log.due_s.append(connection.due)
        log.sent_s.append(connection.sent)
        log.done_s.append(time.perf_counter() - self.began)
        log.status.append(status)
        if reason:
            log.reasons[reason] = log.reasons.get(reason, 0) + 1


def offer(
    host: str, port: int, requests: Sequence[bytes], *, per_s: float, seconds: float, connections: int, seed: int
) -> Log:
    """`Load.run` in an event loop of its own."""
    import uvloop

    return uvloop.run(Load(host, port, requests, connections).run(per_s, seconds, seed=seed))
