"""Files that the processes of one server make once and map together."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

with suppress(ImportError):  # Windows, where one process serves
    import fcntl


class Mapped:
    """A file that is in use: no process removes it until it is closed, or its process is gone.

    Attributes:
        path: for whoever maps it: the open file itself, whatever becomes of its name.
        note: what its maker said of it.
    """

    def __init__(self, descriptor: int, note: str) -> None:
        self._descriptor = descriptor
        self.path = f"/proc/self/fd/{descriptor}"
        self.note = note

    def close(self) -> None:
        os.close(self._descriptor)


class SharedWeights:
    """A folder of such files, each called `<key>.<note>`.

    Args:
        folder: made by the server for itself at its start, open to nobody else, removed at its end. What lies there is
            believed: the key says what a file was made of.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, key: str, build: Callable[[Path], str]) -> Mapped:
        """The file of that key, built by the first process that asks while the others wait.

        Args:
            key: letters, digits and "-".
            build: writes the file at the path it is given and returns the note, of the same characters; what it
                raises is raised here, and no file stays.

        Raises:
            OSError: no such folder, no room, or not Linux.
        """
        if sys.platform != "linux":
            raise OSError("files are shared on Linux only")
        with open(self.folder / "lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            path = next(self.folder.glob(f"{key}.*"), None) or self._built(key, build)
            descriptor = os.open(path, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        return Mapped(descriptor, path.suffix.removeprefix("."))

    def _built(self, key: str, build: Callable[[Path], str]) -> Path:
        """Make the file, and remove what no process maps any more: the locks of one that was killed are gone too."""
        being_made = self.folder / "part"
        try:
            note = build(being_made)
            for path in self.folder.glob("*.*"):
                with open(path, "rb") as file, suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            return being_made.replace(self.folder / f"{key}.{note}")
        finally:
            being_made.unlink(missing_ok=True)
