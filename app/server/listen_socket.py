"""The listening socket: taken, announced, and shut so that nobody who got in is thrown out."""

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
HANDSHAKE_S: Final = 0.05  # those that have begun when the gate is shut have this long to end


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


def bind_or_say_why(host: str, port: int) -> socket.socket | None:
    """`bind`; where the address cannot be had, one line on standard error and None."""
    try:
        return bind(host, port)
    except OSError as error:
        print(f"cannot listen on {host} port {port}: {error.strerror or error}", file=sys.stderr)
        return None


def announce(
    listening: socket.socket, *, models: Sequence[str], refused: Sequence[str], device: str, workers: int
) -> None:
    """Where, on what device, by how many, which models: a line for each model and each refusal."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    by = f" with {workers} workers" if workers > 1 else ""
    print(f"Lectern serves {len(models)} models at http://{shown}:{port} on {device}{by}")
    for line in (*models, *refused):
        print(f"  {line}")
    print(f"Documentation: http://{shown}:{port}/docs", flush=True)


def shut_gate(listening: socket.socket) -> None:
    """Let no new connection begin. Those that have begun come into the queue within HANDSHAKE_S; then it only shrinks.

    Closing a socket resets whoever waits in its queue, and between the last accept and the close somebody always may
    have come. So a filter drops what begins a connection; the newcomer's system repeats it a second later, and then it
    is refused, or finds whoever has taken the port since. Linux alone has this: elsewhere that short moment remains.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    filter_ = struct.pack("@HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    with suppress(OSError):  # a sandbox may not have it
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_)


def allow_many_files() -> None:
    """Raise the limit of open files to what the system allows: each connection is one."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):  # macOS calls it unlimited and takes less
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
