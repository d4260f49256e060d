"""Files that one process of a server builds and all of its processes map."""

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
        path: to map; of the open file itself, whatever becomes of its name.
        note: as returned by its builder.
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
        folder: created by the server at its start, open to nobody else, removed at its end. Its files are trusted: the
            key names what they were built from.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, key: str, build: Callable[[Path], str]) -> Mapped:
        """The file of that key, built by the first process that calls while the others wait.

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
        """Build the file, and remove what no process maps any more: a killed process has lost its locks too."""
        partial = self.folder / "part"
        try:
            note = build(partial)
            for path in self.folder.glob("*.*"):
                with open(path, "rb") as file, suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
            return partial.replace(self.folder / f"{key}.{note}")
        finally:
            partial.unlink(missing_ok=True)
