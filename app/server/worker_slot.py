"""A worker's slot as its parent sees it: a process, the channel to it, and the block of figures it counts in.

The block stays when the process ends, so that its counters go on. The channel is new for each process. The parent sends
single bytes, HERE with a connection beside it, and lines of JSON (see `app.server.model_control`). The worker sends
lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from app.core.shared_counters import BLOCK_BYTES, SharedCounters
from app.settings import Settings

with suppress(ImportError):  # Windows, where one process serves
    import fcntl

log = logging.getLogger("lectern")

HERE: Final = b"h"  # a connection comes with this byte
CLOSE: Final = b"c"  # take no new requests
LAST: Final = b"l"  # no connection comes after this
NO_FILE: Final = -1
FOLDERS: Final = "lectern-weights-"

OnMessage = Callable[[dict[str, Any]], None]


class WorkerSlot:
    """One worker's slot.

    Attributes:
        block: the file of its figures.
        is_ready: its process gets connections.
        is_closing: it takes no new connections.
        is_quiet: its process is closing, and owes no answer.
        report: the message with which the process became ready; empty until then.
        why: why it could not start.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.block = new_block()
        self.is_ready = False
        self.is_closing = False
        self.is_quiet = False
        self.report: dict[str, Any] = {}
        self.why = ""
        # The row is there before the worker is: two processes that add rows would overwrite each other's.
        self._figures = SharedCounters(mmap.mmap(self.block, BLOCK_BYTES))
        self._closed = self._figures.cells("lectern_closed_connections")
        self._handed_over = 0
        self._received = b""
        self._unsent = b""
        self._is_doomed = False
        self._process: asyncio.subprocess.Process | None = None
        self._channel: tuple[socket.socket, socket.socket] | None = None  # our end, the worker's

    @property
    def load(self) -> tuple[int, int]:
        """Connections it has, then connections it ever had."""
        return self._handed_over - int(self._closed[0]), self._handed_over

    @property
    def has_channel(self) -> bool:
        """There is a process, or one whose connections are not taken back yet."""
        return self._channel is not None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def run_process(self, settings: Settings, weights: int, blocks: Sequence[int], on_message: OnMessage) -> int:
        """One process from its start to its end; its exit code, negative for a signal.

        Args:
            weights: the open folder of files that all processes map, or NO_FILE.
            blocks: the files of figures of all processes of the server.
            on_message: called with each message of the process; its `what` is ready, closing, quiet, failed, control or
                done.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = self._channel = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.is_ready, self.is_closing, self.is_quiet, self.report, self.why = False, False, False, {}, ""
        self._handed_over, self._received, self._unsent = int(self._closed[0]), b"", b""
        numbers = [str(number) for number in (theirs.fileno(), self.block, weights, *blocks)]
        warnings = [f"-W{option}" for option in sys.warnoptions]
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, *warnings, "-m", "app.server.worker", *numbers,
            stdin=subprocess.PIPE, pass_fds=(theirs.fileno(), *blocks, *([weights] if weights != NO_FILE else [])),
            process_group=0,  # ^C at a terminal reaches the parent alone, which ends its workers
        )  # fmt: skip
        if self._is_doomed:
            process.kill()
        loop.add_reader(ours, self._receive, on_message)
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write(settings.model_dump_json(exclude_unset=True).encode())
            process.stdin.close()
        code = await process.wait()
        self._receive(on_message)
        loop.remove_reader(ours)
        loop.remove_writer(ours)
        self.is_ready = False
        self._figures.clear_gauges()
        return code

    def _receive(self, on_message: OnMessage) -> None:
        assert self._channel is not None
        with suppress(BlockingIOError):
            self._received += self._channel[0].recv(1 << 20)
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            message = json.loads(line)
            match message["what"]:
                case "ready":
                    self.report = message  # the supervisor decides when it is ready
                case "closing":
                    self.is_ready, self.is_closing = False, True
                case "quiet":
                    self.is_quiet = True
                case "failed":
                    self.why = message["why"]
            on_message(message)

    def hand_over(self, connection: socket.socket) -> bool:
        """Hand over a connection; False where the channel has no room for it."""
        if self._channel is None or self._unsent:
            return False
        try:
            socket.send_fds(self._channel[0], [HERE], [connection.fileno()])
        except OSError:
            return False
        self._handed_over += 1
        connection.close()
        return True

    def send(self, what: bytes) -> None:
        """Send the process a message, after all earlier ones, if it still lives."""
        self._unsent += what
        self._send_rest()

    def _send_rest(self) -> None:
        if self._channel is None:
            return
        ours = self._channel[0]
        loop = asyncio.get_running_loop()
        try:
            self._unsent = self._unsent[ours.send(self._unsent) :] if self._unsent else b""
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""
        if self._unsent:
            loop.add_writer(ours, self._send_rest)
        else:
            loop.remove_writer(ours)

    def kill(self) -> None:
        """End the process, also one that is being started; no other is started in this slot."""
        self._is_doomed = True
        if self._process is not None and self._process.returncode is None:
            # Popen.kill would look whether it has ended, and take its exit code from whoever waits for it.
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    def take_back(self) -> list[socket.socket]:
        """Close the channel of a dead worker; returns the connections that it had not taken out of it."""
        assert self._channel is not None
        ours, theirs = self._channel
        self._channel = None
        found: list[socket.socket] = []
        with ours, theirs, suppress(BlockingIOError):
            while True:
                _, files, _, _ = socket.recv_fds(theirs, 1, 1)
                found += (socket.socket(fileno=file) for file in files)
        return found


@contextmanager
def shared_folder() -> Iterator[int]:
    """An open folder for the server's processes alone, removed at the end; NO_FILE where none can be had.

    It is locked for as long as one of them lives. A server that was killed leaves its folder to the next to remove.
    """
    if sys.platform != "linux":
        yield NO_FILE
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix=FOLDERS, ignore_cleanup_errors=True)
    except OSError as error:
        log.warning("workers do not share the memory of models: %s", error)
        yield NO_FILE
        return
    with folder:
        descriptor = os.open(folder.name, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        try:
            _remove_left_behind(Path(folder.name).parent)
            yield descriptor
        finally:
            os.close(descriptor)


def _remove_left_behind(below: Path) -> None:
    for path in below.glob(f"{FOLDERS}*"):
        with suppress(OSError):  # in use, or somebody else's
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.getuid():
                    shutil.rmtree(path)
            finally:
                os.close(descriptor)


def new_block() -> int:
    """An open file of BLOCK_BYTES zeros that has no name; in memory where the system can."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("lectern-figures")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, BLOCK_BYTES)
    return descriptor
