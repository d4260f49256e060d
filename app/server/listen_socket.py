"""The listening socket: bound, announced, and closed without cutting a connection that was accepted."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

BACKLOG: Final = 2048

_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
_DROP_SYN: Final = b"".join(  # classic BPF over the TCP header: code, how far to jump if true and if not, operand
    struct.pack("=HBBI", *step)
    for step in (
        (0x30, 0, 0, 13),  # load the byte of flags
        (0x45, 0, 1, 0x02),  # is SYN among them?
        (0x06, 0, 0, 0),  # then keep no byte of the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # else all
    )
)
HANDSHAKE_S: Final = 0.05  # for handshakes that have started when `stop_accepting` is called


def bind(host: str, port: int) -> socket.socket:
    """A socket that has its address and does not listen yet.

    Raises:
        OSError: the address cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def bind_or_report(host: str, port: int) -> socket.socket | None:
    """`bind`; where the address cannot be had, one line on standard error and None."""
    try:
        return bind(host, port)
    except OSError as error:
        print(f"cannot listen on {host} port {port}: {error.strerror or error}", file=sys.stderr)
        return None


def announce(
    listen_socket: socket.socket, *, models: Sequence[str], refused: Sequence[str], device: str, workers: int
) -> None:
    """Print the address, the device and the workers, and a line for each model and each refusal."""
    host, port = listen_socket.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    by = f" with {workers} workers" if workers > 1 else ""
    print(f"Lectern serves {len(models)} models at http://{shown}:{port} on {device}{by}")
    for line in (*models, *refused):
        print(f"  {line}")
    print(f"Documentation: http://{shown}:{port}/docs", flush=True)


def stop_accepting(listen_socket: socket.socket) -> None:
    """Let no new connection start. Those that have started join the queue within HANDSHAKE_S; then it only shrinks.

    Closing a socket resets the connections in its queue, and between the last accept and the close one may always have
    come. So a filter drops the packets that start a connection. The client repeats them a second later, and is then
    refused, or finds a new server on the port. Only Linux has this: elsewhere that short moment remains.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    filter_ = struct.pack("@HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    with suppress(OSError):  # a sandbox may not have it
        listen_socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


def allow_many_files() -> None:
    """Raise the limit of open files to what the system allows: each connection is one."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # macOS calls it unlimited and takes less
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
