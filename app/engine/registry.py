"""The models that are served: scan, verify, load, serve, drain, close.

A folder that disagrees with its manifest is refused by name, with what was expected and what was got, and the others
are served all the same.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from app.core.errors import LecternError, NotFound, shown
from app.core.manifest import MANIFEST_FILE, Manifest, Task, Tensors
from app.engine.batcher import Answer, Batcher, Counters, OnRun
from app.engine.loading import Loaded, load_model
from app.engine.session import Device, DeviceRefused, choose_device

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refused:
    """A folder below the models folder that is not served, and why."""

    folder: str
    reason: str


class Model:
    """A loaded model: its manifest, where it runs, and one batcher for each of its graphs.

    Attributes:
        device: "cpu" or "cuda:0".
        loaded_at: ISO 8601, UTC.
        load_s: reading, checking and warming.
    """

    def __init__(self, loaded: Loaded, *, max_queued_rows: int, on_run: OnRun | None = None) -> None:
        self.manifest: Manifest = loaded.manifest
        self.folder: Path = loaded.folder
        self.load_s: float = loaded.load_s
        self.loaded_at: str = datetime.now(UTC).isoformat(timespec="seconds")
        self.device: str = next(iter(loaded.sessions.values())).device
        self._batchers = {
            graph: Batcher(
                session.run,
                name=f"{self.name}/{self.version}/{graph}",
                max_rows=self.manifest.max_rows,
                max_queued_rows=max_queued_rows,
                on_run=on_run,
            )
            for graph, session in loaded.sessions.items()
        }

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def counters(self) -> dict[str, Counters]:
        """Live counters by graph."""
        return {graph: batcher.counters for graph, batcher in self._batchers.items()}

    async def run(self, graph: str, tensors: Tensors) -> Answer:
        """Run rows through one graph; what is raised is `Batcher.submit`'s. An unknown graph is the caller's bug."""
        return await self._batchers[graph].submit(tensors)

    async def close(self) -> None:
        """Answer what was accepted, refuse what comes, end the threads."""
        await asyncio.gather(*(batcher.close() for batcher in self._batchers.values()))


class Registry:
    """An async context manager: loads every model on entry, drains and closes them on exit.

    Args:
        folder: holds `<name>/<version>/manifest.json`; entries that begin with "." or "_" are not looked at.
        device: as in `Session`; "cuda" that cannot be had fails the entry.
        threads: of one run on the CPU; 0 for one per core.
        max_queued_rows: per graph.
        only: names to load; empty for all.
        defaults: the default model of a task, by name; without one it is the first by name.
        on_run: told ("name/version/graph", rows, seconds) after each run, from the graph's thread.

    Raises:
        DeviceRefused: on entry, see `device`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: Device = "auto",
        threads: int = 0,
        max_queued_rows: int = 4096,
        only: tuple[str, ...] = (),
        defaults: Mapping[Task, str] | None = None,
        on_run: OnRun | None = None,
    ) -> None:
        self.folder = folder
        self.models: tuple[Model, ...] = ()
        self.refused: tuple[Refused, ...] = ()
        self.generation = 0
        """Grows with every change of what is served, so that documents made from it can be kept until then."""
        self.device = "cpu"
        """Where models run: "cpu", "cuda:0"; known from entry on."""
        self._wanted_device: Device = device
        self._threads = threads
        self._max_queued_rows = max_queued_rows
        self._only = only
        self._defaults = defaults or {}
        self._on_run = on_run

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="load") as pool:
            chosen = loop.run_in_executor(pool, choose_device, self._wanted_device)
            folders, refused = await loop.run_in_executor(pool, scan, self.folder, self._only)
            self.device = "cuda:0" if await chosen == "cuda" else "cpu"
            results = await asyncio.gather(
                *(
                    loop.run_in_executor(pool, _load, self.folder, *f, self._wanted_device, self._threads)
                    for f in folders
                )
            )
        self.refused = tuple(refused + [result for result in results if isinstance(result, Refused)])
        for refusal in self.refused:
            log.error("refused %s: %s", refusal.folder, refusal.reason)
        try:
            for result in results:
                if isinstance(result, Loaded):
                    self.models += (Model(result, max_queued_rows=self._max_queued_rows, on_run=self._on_run),)
        except BaseException:  # no thread could be started: those that were must not keep the process alive
            await self._close()
            raise
        for model in self.models:
            log.info("serving %s/%s on %s, loaded in %.3f s", model.name, model.version, model.device, model.load_s)
        if not self.models:
            log.error("%s: no model to serve", self.folder)
        self.generation += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await asyncio.gather(*(model.close() for model in self.models))

    def get(self, name: str, version: str | None = None) -> Model:
        """The model of that name, the latest version where none is asked for.

        Raises:
            NotFound: naming what there is.
        """
        versions = {model.version: model for model in self.models if model.name == name}
        if not versions:
            names = list(dict.fromkeys(model.name for model in self.models))
            raise self._not_found("model", name, names)
        if version is None:
            return versions[max(versions, key=int)]
        if version not in versions:
            raise self._not_found(f"version of model '{name}'", version, list(versions))
        return versions[version]

    def default(self, task: Task) -> Model:
        """The model for a task that names none: the configured one, else the first by name, in its latest version.

        Raises:
            NotFound: no model of this task is loaded, or the configured one is not, or is of another task.
        """
        names = list(dict.fromkeys(model.name for model in self.models if model.manifest.task == task))
        name = self._defaults.get(task, names[0] if names else None)
        if name is None:
            raise NotFound(f"no model for the task '{task}' is loaded", subject="model", expected=f"a {task} model")
        if name not in names:
            raise self._not_found(f"default model for the task '{task}'", name, names)
        return self.get(name)

    @staticmethod
    def _not_found(what: str, name: str, known: list[str]) -> NotFound:
        there_is = f"there is {', '.join(known)}" if known else "there is none"
        return NotFound(
            f"no {what} is called {shown(name)}: {there_is}",
            subject=what.split()[0],
            expected=", ".join(known) or None,
            got=shown(name),
        )


def verify(folder: Path, *, device: Device = "cpu", threads: int = 0) -> list[tuple[str, str, bool, str]]:
    """Check every model folder as a start would, one after the other, serving none.

    Returns:
        (name, version, ok, reason) for each, by name and version; the reason is "" for one that would be served, and
        the version "" for a refusal above the version folders.
    """
    folders, refused = scan(folder)
    rows = [(refusal.folder, "", False, refusal.reason) for refusal in refused]
    for name, version in folders:
        result = _load(folder, name, version, device, threads)
        reason = result.reason if isinstance(result, Refused) else ""
        rows.append((name, version, not reason, reason))
    return sorted(rows, key=lambda row: (row[0], _in_order(row[1])))


def scan(folder: Path, only: Iterable[str] = ()) -> tuple[list[tuple[str, str]], list[Refused]]:
    """(name, version) of every model folder, by name and version, and what else is there that should not be."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        return [], [Refused(str(folder), f"the models folder {folder} {what}")]
    found: list[tuple[str, str]] = []
    refused: list[Refused] = []
    try:
        names = _folders(folder)
    except OSError as error:
        return [], [Refused(str(folder), f"the models folder cannot be read: {error}")]
    there_is = ", ".join(names) or "none"
    refused += [Refused(name, f"asked for, but {folder} has only: {there_is}") for name in only if name not in names]
    for name in names:
        if only and name not in only:
            continue
        try:
            versions = sorted(_folders(folder / name), key=_in_order)
        except OSError as error:
            refused.append(Refused(name, f"{name}: cannot be read: {error}"))
            continue
        if not versions:
            refused.append(Refused(name, f"{name}: no version folder, expected {name}/1/{MANIFEST_FILE}"))
        found += [(name, version) for version in versions]
    return found, refused


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name[0] not in "._" and path.is_dir())


def _in_order(version: str) -> tuple[int, str]:
    return (int(version) if version.isascii() and version.isdigit() else 0, version)


def _load(root: Path, name: str, version: str, device: Device, threads: int) -> Loaded | Refused:
    """Load one folder; whatever it raises refuses this folder alone, but for a device that no folder can have."""
    where = f"{name}/{version}"
    try:
        return load_model(root, name, version, device=device, threads=threads)
    except DeviceRefused:
        raise
    except LecternError as error:
        return Refused(where, error.detail)
    except Exception as error:
        log.debug("%s: refused", where, exc_info=True)
        return Refused(where, f"{where}: {type(error).__name__}: {error}")
