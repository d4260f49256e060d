"""Clients of a WebSocket that cost little: RFC 6455 by hand, without extensions.

A client masks what it sends. The mask here is zero, so that a piece's frame is made once and sent by all; a server
unmasks it like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final, cast

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
KEY: Final = "bGVjdHVyZSBzdHJlYW1zIQ=="  # any 16 bytes; the answer to it is not looked at


def frame(opcode: int, data: bytes) -> bytes:
    """One whole message, or a control frame, of a client."""
    length = len(data)
    if length < 126:
        size = bytes([0x80 | length])
    elif length < 1 << 16:
        size = bytes([0x80 | 126]) + length.to_bytes(2, "big")
    else:
        size = bytes([0x80 | 127]) + length.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + size + bytes(4) + data


class Microphone(asyncio.Protocol):
    """One client.

    Args:
        target: path and query.
        on_text: called with each text message and when it came.

    Attributes:
        opened: done when the server has agreed; an error where it has not.
        ended: done when the connection is closed, by whom it be.
    """

    def __init__(self, target: str, on_text: Callable[[bytes, float], None]) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._target, self._on_text, self._left = target, on_text, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        host, port = transport.get_extra_info("peername")[:2]
        self._transport.write(
            f"GET {self._target} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("closed before the WebSocket was open"))
        if not self.ended.done():  # who waited may have been cancelled
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        now, self._left = perf_counter(), self._left + data
        if not self.opened.done():
            head, end, rest = self._left.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                self.opened.set_exception(ConnectionError(head[:80].decode(errors="replace")))
                self._transport.abort()
                return
            self.opened.set_result(None)
            self._left = rest
        while (message := _first(self._left)) is not None:
            opcode, payload, self._left = message
            if opcode == TEXT:
                self._on_text(payload, now)
            elif opcode == PING:
                self.send(frame(PONG, payload))
            elif opcode == CLOSE:
                self.send(frame(CLOSE, payload[:2]))
                self._transport.close()

    def send(self, framed: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(framed)

    def abort(self) -> None:
        self._transport.abort()


def _first(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Opcode and payload of the first frame of a server, and what follows; None where it is not whole."""
    if len(data) < 2:
        return None
    length, begin = data[1], 2
    if length >= 126:
        begin = 4 if length == 126 else 10
        if len(data) < begin:
            return None
        length = int.from_bytes(data[2:begin], "big")
    end = begin + length
    return (data[0] & 0xF, data[begin:end], data[end:]) if len(data) >= end else None
