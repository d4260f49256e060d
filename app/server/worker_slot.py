"""A worker's place as its parent sees it: a process, the channel to it, and the block of figures it counts in.

The block stays when the process goes, so that its counters go on. The channel is new for each process. It brings the
worker single bytes, HERE with a connection beside it, and lines of JSON (see `app.server.controls`); what the worker
says into it is a line of JSON each.
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

Heard = Callable[[dict[str, Any]], None]


class WorkerSlot:
    """One worker's place.

    Attributes:
        block: the file of its figures.
        is_ready: its process is to be given connections.
        is_closing: it takes no new connections.
        is_quiet: its process is closing, and owes no answer.
        told: what the process said of itself when it became ready; empty until then.
        why: what it said when it could not start.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.block = new_block()
        self.is_ready = False
        self.is_closing = False
        self.is_quiet = False
        self.told: dict[str, Any] = {}
        self.why = ""
        # The row is there before the worker is: two processes that add rows would overwrite each other's.
        self._figures = SharedCounters(mmap.mmap(self.block, BLOCK_BYTES))
        self._closed = self._figures.cells("lectern_closed_connections")
        self._given = 0
        self._heard = b""
        self._unsaid = b""
        self._is_doomed = False
        self._process: asyncio.subprocess.Process | None = None
        self._channel: tuple[socket.socket, socket.socket] | None = None  # our end, the worker's

    @property
    def load(self) -> tuple[int, int]:
        """Connections it has, then connections it ever had."""
        return self._given - int(self._closed[0]), self._given

    @property
    def is_taken(self) -> bool:
        """There is a process, or one whose connections are not rescued yet."""
        return self._channel is not None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def live(self, settings: Settings, weights: int, blocks: Sequence[int], heard: Heard) -> int:
        """One process from its start to its end; its exit code, negative for a signal.

        Args:
            weights: the open folder of files that all processes map, or NO_FILE.
            blocks: the files of figures of all processes of the server.
            heard: called with what the process says: what is ready, closing, quiet, failed, control or done.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = self._channel = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self.is_ready, self.is_closing, self.is_quiet, self.told, self.why = False, False, False, {}, ""
        self._given, self._heard, self._unsaid = int(self._closed[0]), b"", b""
        numbers = [str(number) for number in (theirs.fileno(), self.block, weights, *blocks)]
        warnings = [f"-W{option}" for option in sys.warnoptions]
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, *warnings, "-m", "app.server.worker", *numbers,
            stdin=subprocess.PIPE, pass_fds=(theirs.fileno(), *blocks, *([weights] if weights != NO_FILE else [])),
            process_group=0,  # ^C at a terminal is for the parent to hear, who says it on
        )  # fmt: skip
        if self._is_doomed:
            process.kill()
        loop.add_reader(ours, self._hear, heard)
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write(settings.model_dump_json(exclude_unset=True).encode())
            process.stdin.close()
        code = await process.wait()
        self._hear(heard)
        loop.remove_reader(ours)
        loop.remove_writer(ours)
        self.is_ready = False
        self._figures.clear_gauges()
        return code

    def _hear(self, heard: Heard) -> None:
        assert self._channel is not None
        with suppress(BlockingIOError):
            self._heard += self._channel[0].recv(1 << 20)
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            told = json.loads(line)
            match told["what"]:
                case "ready":
                    self.told = told  # its parent says when it is ready
                case "closing":
                    self.is_ready, self.is_closing = False, True
                case "quiet":
                    self.is_quiet = True
                case "failed":
                    self.why = told["why"]
            heard(told)

    def give(self, connection: socket.socket) -> bool:
        """Hand over a connection; False where the channel has no room for it."""
        if self._channel is None or self._unsaid:
            return False
        try:
            socket.send_fds(self._channel[0], [HERE], [connection.fileno()])
        except OSError:
            return False
        self._given += 1
        connection.close()
        return True

    def say(self, what: bytes) -> None:
        """Tell the process, after whatever it was told before; one that is gone is told in vain."""
        self._unsaid += what
        self._say_on()

    def _say_on(self) -> None:
        if self._channel is None:
            return
        ours = self._channel[0]
        loop = asyncio.get_running_loop()
        try:
            self._unsaid = self._unsaid[ours.send(self._unsaid) :] if self._unsaid else b""
        except BlockingIOError:
            pass
        except OSError:
            self._unsaid = b""
        if self._unsaid:
            loop.add_writer(ours, self._say_on)
        else:
            loop.remove_writer(ours)

    def kill(self) -> None:
        """End the process, one that is being started too; no other will live here."""
        self._is_doomed = True
        if self._process is not None and self._process.returncode is None:
            # Popen.kill would look whether it has ended, and take its exit code from whoever waits for it.
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    def rescue(self) -> list[socket.socket]:
        """The connections that a dead worker had not taken out of its channel, which is closed."""
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
    """An open folder for the server's processes alone, removed at the end; NO_FILE where there is no place for one.

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
        made = os.memfd_create("lectern-figures")
    else:
        with tempfile.TemporaryFile() as file:
            made = os.dup(file.fileno())
    os.ftruncate(made, BLOCK_BYTES)
    return made
