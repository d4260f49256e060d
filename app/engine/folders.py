"""What is in the models folder, by names and `stat` alone: nothing is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.core.manifest import MANIFEST_FILE

Key = tuple[str, str]
"""(name, version)."""
Signature = tuple[object, ...]
"""Equal where nothing was added, removed, written or replaced."""


@dataclass(frozen=True)
class Refused:
    """A folder below the models folder, "name/version" or "name", that is not served as it is now, and why."""

    folder: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """One scan of the models folder.

    Attributes:
        found: every version folder, by name and version.
        refused: what is there and should not be, or is not there and should be.
        unseen: names whose folders could not be read; None where it was the models folder itself.
    """

    found: Mapping[Key, Signature] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()
    unseen: frozenset[str] | None = frozenset()

    def lacks(self, key: Key) -> bool:
        """Whether the scan shows that there is no such folder."""
        return key not in self.found and self.unseen is not None and key[0] not in self.unseen


def scan(folder: Path, only: Iterable[str] = ()) -> Scan:
    """Scan every version folder of these names, of all where none is given.

    Entries that begin with "." or "_" are ignored, and so are names that are no folders.
    """
    try:
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            return Scan(refused=(Refused(str(folder), f"the models folder {folder} {what}"),), unseen=None)
        names = _folders(folder)
    except OSError as error:
        return Scan(refused=(Refused(str(folder), f"the models folder cannot be read: {error}"),), unseen=None)
    found: dict[Key, Signature] = {}
    there_is = ", ".join(names) or "none"
    refused = [Refused(name, f"asked for, but {folder} has only: {there_is}") for name in only if name not in names]
    unseen = set()
    for name in names:
        if only and name not in only:
            continue
        try:
            versions = sorted(_folders(folder / name), key=in_order)
        except OSError as error:
            refused.append(Refused(name, f"{name}: cannot be read: {error}"))
            unseen.add(name)
            continue
        if not versions:
            refused.append(Refused(name, f"{name}: no version folder, expected {name}/1/{MANIFEST_FILE}"))
        found |= {(name, version): signature(folder / name / version) for version in versions}
    return Scan(found, tuple(refused), frozenset(unseen))


def signature(folder: Path) -> Signature:
    """Of a version folder: its files' names, modes, sizes, times of change and inodes. `report/` is no part of it."""
    try:
        own = folder.lstat()
        files = []
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    files.append((entry.name, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino))
    except OSError as error:
        return (error.errno,)
    return (own.st_mode, own.st_ino, *sorted(files))


def in_order(version: str) -> tuple[int, str]:
    """Sorts versions by number, and what is no number before them."""
    return (int(version) if version.isascii() and version.isdigit() else 0, version)


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name[0] not in "._" and path.is_dir())
