"""The models that are served: scan, verify, load, serve, swap, drain, close.

A folder that disagrees with its manifest is refused by name, with what was expected and what was got; the others are
served. Where it was served already, what was loaded goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from app.core.errors import LecternError, LoadRefused, Unavailable
from app.core.shared_counters import SharedCounters
from app.engine.catalog import BY_HAND, GONE, Catalog, DefaultVersion, FolderState, State, VersionEntry, not_found
from app.engine.folders import Key, Refused, Scan, Signature, in_order, scan, signature
from app.engine.loading import Loaded, load_model
from app.engine.model import INLINE_S, Model
from app.engine.process import return_large_blocks
from app.engine.rate import NEVER
from app.engine.session import Device, DeviceRefused, choose_device
from app.engine.shared_weights import SharedWeights

__all__ = ["DefaultVersion", "FolderState", "Model", "Refused", "Registry", "State", "verify"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Control = Literal["load", "unload"]
OnControl = Callable[[Control, str], Awaitable[Sequence[str]]]
Drains = list[asyncio.Task[None]]


class Registry:
    """An async context manager: loads every model on entry, drains and closes them on exit.

    Args:
        folder: holds `<name>/<version>/manifest.json`; entries that begin with "." or "_" are not looked at.
        device: as in `Session`; "cuda" that cannot be had fails the entry.
        threads, gpu_memory_mb, shared: as in `Session`.
        max_queued_rows, max_queued_s: per graph, as in `Batcher`.
        only: names to load; empty for all.
        defaults, defaults_required, pinned: as in `Catalog`.
        shared_counters: where the graphs count.
        inline_s: as in `Batcher`, for runs on the CPU.
        on_control: called with "load" or "unload" and the name after each change by request, so that others make the
            same change; it returns why that failed, if it did. The change is over when it returns.

    Attributes:
        catalog: what is served, and which model is the default.
        device: where models run: "cpu", "cuda:0"; known from entry on.

    Raises:
        DeviceRefused: on entry, see `device`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: Device = "auto",
        threads: int = 0,
        gpu_memory_mb: int = 0,
        shared: SharedWeights | None = None,
        max_queued_rows: int = 4096,
        max_queued_s: float = NEVER,
        only: tuple[str, ...] = (),
        defaults: Mapping[str, str] | None = None,
        defaults_required: bool = True,
        pinned: Mapping[str, str] | None = None,
        shared_counters: SharedCounters | None = None,
        inline_s: float = INLINE_S,
        on_control: OnControl | None = None,
    ) -> None:
        self.catalog = Catalog(defaults=defaults, defaults_required=defaults_required, pinned=pinned)
        self.folder = folder
        self.device = "cpu"
        self._wanted_device: Device = device
        self._load_folder = partial(
            _load, folder, device=device, threads=threads, gpu_memory_mb=gpu_memory_mb, shared=shared
        )
        self._max_queued_rows, self._max_queued_s = max_queued_rows, max_queued_s
        self._only = only
        self._shared_counters = shared_counters or SharedCounters()
        self._inline_s = inline_s
        self.on_control = on_control
        self._last = Scan()
        self._changing = asyncio.Lock()
        # One thread for all changes: glibc gives each thread an arena, and each would keep what it once held.
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._draining: set[Model] = set()
        self._closing = False

    async def __aenter__(self) -> Self:
        return_large_blocks()
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="load") as pool:
            chosen = loop.run_in_executor(pool, choose_device, self._wanted_device)
            self._last = await loop.run_in_executor(pool, scan, self.folder, self._only)
            self.device = "cuda:0" if await chosen == "cuda" else "cpu"
            results = await asyncio.gather(
                *(loop.run_in_executor(pool, self._load_folder, *key) for key in self._last.found)
            )
        self.catalog.refuse_above(self._last.refused)
        try:
            for (key, tried), result in zip(self._last.found.items(), results, strict=True):
                entry = self.catalog.entries[key] = VersionEntry(tried=tried)
                if isinstance(result, Refused):
                    self.catalog.refuse(key, result.reason)
                else:
                    entry.model = await self._started_model(result)
        except BaseException:  # no thread could be started: those that were must not keep the process alive
            await asyncio.gather(
                *(entry.model.close(self._pool) for entry in self.catalog.entries.values() if entry.model)
            )
            self._pool.shutdown()
            raise
        self.catalog.publish()
        for model in self.catalog.models:
            log.info("serving %s/%s on %s, loaded in %.3f s", model.name, model.version, model.device, model.load_s)
        if not self.catalog.models:
            log.error("%s: no model to serve", self.folder)
        for name in self.catalog.pinned:
            if self.catalog.default_version(name) is None:
                log.warning("%s", self.catalog.why_not_pinned(name))
        self.catalog.log_missing_defaults()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        for model in (*self._draining, *self.catalog.models):
            model.stop_waiting()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*(model.close(self._pool) for model in self.catalog.models))
        self._pool.shutdown()  # it is idle

    # Changes while serving: one at a time, and each completed even if its caller is cancelled.

    async def load(self, name: str, *, notify: bool = True) -> None:
        """Load what is new, changed, refused or unloaded of a name, remove what is gone.

        When it returns, what was replaced has been drained and freed.

        Args:
            notify: false where `on_control` need not be called.

        Raises:
            NotFound: there is no folder of that name; what is loaded goes on.
            LoadRefused: a version was refused; what was loaded of it goes on.
            Unavailable: closing.
        """
        await self._completed(self._load_on_request(name, notify))

    async def unload(self, name: str, *, notify: bool = True) -> None:
        """Remove every version of a name, drain and free them. `poll` ignores them until their files change.

        Args:
            notify: false where `on_control` need not be called.

        Raises:
            NotFound: no folder of that name is known.
            Unavailable: closing.
        """
        await self._completed(self._unload_on_request(name, notify))

    async def poll(self) -> None:
        """Scan the folder: load what is new or changed, remove what is gone, try again what was refused.

        It acts on what was the same in two scans in a row, so that a folder that is being copied or replaced is left
        alone, silently. When it returns, what was replaced has been drained and freed.
        """
        await asyncio.gather(*await self._completed(self._poll()))

    async def watch(self, every_s: float) -> None:
        """Poll for ever. Whatever a scan raises is logged; a slow drain does not delay the next scan."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self._completed(self._poll())
            except Exception:
                log.exception("%s: the look at it failed, the next is in %g s", self.folder, every_s)

    def _in_thread(self, call: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, call, *args)

    async def _completed(self, change: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._start_task(change))

    def _start_task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _check_open(self) -> None:
        if self._closing:
            raise Unavailable("the server is shutting down: no model is loaded or unloaded any more")

    async def _load_on_request(self, name: str, notify: bool) -> None:
        drains: Drains = []
        async with self._changing:
            self._check_open()
            now = await self._in_thread(scan, self.folder, self._only)
            found = {key: seen for key, seen in now.found.items() if key[0] == name}
            if not found:
                raise not_found("folder of models", name, dict.fromkeys(name for name, _ in now.found))
            for key, seen in found.items():
                entry = self.catalog.entries.get(key)
                if entry is None or entry.model is None or entry.reason or entry.tried != seen:
                    drains += await self._change(key)
            for key in [key for key in self.catalog.entries if key[0] == name and now.lacks(key)]:
                drains += self._remove(key, GONE)
            reasons = [reason for key in found if (reason := self.catalog.entries[key].reason)]
        await asyncio.gather(*drains)
        reasons = reasons or [*await self._notify("load", name, notify)]
        if reasons:
            raise LoadRefused("; ".join(reasons), subject=name)

    async def _unload_on_request(self, name: str, notify: bool) -> None:
        async with self._changing:
            self._check_open()
            keys = [key for key in self.catalog.entries if key[0] == name]
            if not keys:
                raise not_found("model", name, dict.fromkeys(name for name, _ in self.catalog.entries))
            now = await self._in_thread(scan, self.folder, self._only)
            drains: Drains = []
            for key in keys:
                self.catalog.entries[key].tried = now.found.get(key)
                drains += self._remove(key, BY_HAND)
        await asyncio.gather(*drains)
        for reason in await self._notify("unload", name, notify):
            log.error("unload %s: %s", name, reason)

    async def _poll(self) -> Drains:
        drains: Drains = []
        async with self._changing:
            self._check_open()
            now = await self._in_thread(scan, self.folder, self._only)
            last, self._last = self._last, now
            for key, seen in now.found.items():
                entry = self.catalog.entries.get(key)
                if (entry is None or entry.tried != seen) and last.found.get(key) == seen:
                    drains += await self._change(key, quietly=True)
            for key in [key for key in self.catalog.entries if now.lacks(key) and last.lacks(key)]:
                drains += self._remove(key, GONE)
            around = tuple(refusal for refusal in now.refused if refusal in last.refused)
            if around != self.catalog.refused_above:
                self.catalog.refuse_above(around)
        return drains

    async def _change(self, key: Key, *, quietly: bool = False) -> Drains:
        """Load a version folder and switch to it; returns the drain of what it replaces.

        Args:
            quietly: do not report a folder that is refused and was changed meanwhile: somebody is writing to it.
        """
        entry = self.catalog.entries.setdefault(key, VersionEntry())
        entry.busy = "LOADING"
        before: Signature | None = None
        after: Signature | None = None
        model, reason = None, ""
        try:
            before, result, after = await self._in_thread(self._attempt, key)
            if isinstance(result, Refused):
                reason = result.reason
            elif not self._closing:
                model = await self._started_model(result)
        except Exception as error:  # no thread could be had
            log.debug("%s/%s: refused", *key, exc_info=True)
            reason = f"{'/'.join(key)}: {type(error).__name__}: {error}"
        finally:
            entry.busy = None
        self._check_open()
        if model is None:
            if quietly and before != after:
                if entry.tried is None:
                    del self.catalog.entries[key]
            else:
                entry.tried = before
                self.catalog.refuse(key, reason)
            return []
        old, entry.model, entry.tried, entry.reason = entry.model, model, before, ""
        self.catalog.publish()
        self.catalog.show_refused()
        log.info("serving %s/%s on %s, loaded in %.3f s", *key, model.device, model.load_s)
        return [self._start_task(self._drain(old, entry))] if old else []

    def _attempt(self, key: Key) -> tuple[Signature, Loaded | Refused, Signature]:
        """Load one folder, in a thread; its signature before and after."""
        folder = self.folder.joinpath(*key)
        before = signature(folder)
        try:
            result = self._load_folder(*key)
        except DeviceRefused as error:
            result = Refused("/".join(key), error.detail)
        return before, result, signature(folder)

    async def _started_model(self, loaded: Loaded) -> Model:
        model = Model(
            loaded,
            max_queued_rows=self._max_queued_rows,
            max_queued_s=self._max_queued_s,
            shared_counters=self._shared_counters,
            inline_s=self._inline_s,
        )
        try:
            model.start()
        except BaseException:
            await model.close(self._pool)
            raise
        return model

    def _remove(self, key: Key, reason: str) -> Drains:
        """Stop serving a version; returns its drain."""
        entry = self.catalog.entries[key]
        model, entry.model, entry.reason = entry.model, None, reason
        if reason is GONE:
            entry.tried = None
        if model is None:
            if reason is GONE and entry.busy is None:
                del self.catalog.entries[key]
            self.catalog.show_refused()
            return []
        entry.busy = "UNLOADING"
        self.catalog.publish()
        self.catalog.show_refused()
        log.info("unloading %s/%s: %s", *key, reason)
        return [self._start_task(self._drain(model, entry))]

    async def _drain(self, model: Model, entry: VersionEntry) -> None:
        """Close a model that is no longer served."""
        self._draining.add(model)
        if self._closing:
            model.stop_waiting()
        try:
            await model.close(self._pool)
        finally:
            self._draining.discard(model)
            if entry.busy == "UNLOADING":
                entry.busy = None
                if entry.reason is GONE:
                    del self.catalog.entries[model.name, model.version]

    async def _notify(self, control: Control, name: str, notify: bool) -> Sequence[str]:
        if self.on_control is not None and notify:
            try:
                return await self.on_control(control, name)
            except Exception:
                log.exception("%s %s: the others could not be informed", control, name)
        return ()


def verify(folder: Path, *, device: Device = "cpu", threads: int = 0) -> list[tuple[str, str, bool, str]]:
    """Check every model folder as a start does, one after the other, serving none.

    Returns:
        (name, version, ok, reason) for each, by name and version; the reason is "" for one that would be served, and
        the version "" for a refusal above the version folders.
    """
    there = scan(folder)
    rows = [(refusal.folder, "", False, refusal.reason) for refusal in there.refused]
    for name, version in there.found:
        result = _load(folder, name, version, device=device, threads=threads)
        reason = result.reason if isinstance(result, Refused) else ""
        rows.append((name, version, not reason, reason))
    return sorted(rows, key=lambda row: (row[0], in_order(row[1])))


def _load(root: Path, name: str, version: str, **options: Any) -> Loaded | Refused:
    """Load one folder. Whatever it raises refuses this folder alone, except a device that no folder can have."""
    where = f"{name}/{version}"
    try:
        return load_model(root, name, version, **options)
    except DeviceRefused:
        raise
    except LecternError as error:
        return Refused(where, error.detail)
    except Exception as error:
        log.debug("%s: refused", where, exc_info=True)
        return Refused(where, f"{where}: {type(error).__name__}: {error}")
