"""A client that is hard to please: raw keep-alive connections whose every request is accounted for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic


def ask_until(so: Callable[[], bool]) -> None:
    """Ask until it is so. What another process does has no event here; each answer is waited for, and nothing else."""
    deadline = monotonic() + 20
    while not so():
        assert monotonic() < deadline


def request_of(path: str, body: bytes, kind: str) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass
class Account:
    """What became of every request that was sent whole."""

    answered: Counter[int] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    unkept: int = 0  # 503 that did not say that the connection closes
    refused: int = 0  # connections that were not to be had: nothing was sent on them
    _wanted: list[tuple[int, asyncio.Event]] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return self.answered.total() + len(self.lost)

    async def reach(self, answers: int) -> None:
        """Until so many more were answered 200."""
        event = asyncio.Event()
        self._wanted.append((self.answered[200] + answers, event))
        await event.wait()

    def enter(self, status: int) -> None:
        self.answered[status] += 1
        for answers, event in self._wanted:
            if self.answered[200] >= answers:
                event.set()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case name, body.

    Raises:
        EOFError, OSError: the connection ended first.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return int(status.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def ask_on(port: int, request: bytes, account: Account) -> None:
    """Ask again and again, on a new connection whenever the server closes one, until there is no server."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            account.refused += 1
            return
        try:
            while True:
                try:
                    writer.write(request)
                    await writer.drain()
                    status, headers, _ = await read_answer(reader)
                except (OSError, EOFError) as error:
                    account.lost.append(repr(error))
                    break
                account.enter(status)
                closes = headers.get("connection") == "close"
                account.unkept += status == 503 and not closes
                if closes:
                    break
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
