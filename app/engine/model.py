"""A loaded model from its first run to its last: run, lease, drain, free."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Coroutine
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from app.core.errors import Unavailable
from app.core.manifest import Manifest, Tensors
from app.core.sampling.samplers import Sampler
from app.core.shared_counters import SharedCounters
from app.engine.batcher import Batcher
from app.engine.counters import Counters
from app.engine.lengths import Lengths
from app.engine.loading import Loaded
from app.engine.process import give_back_memory
from app.engine.queue import NORMAL, OnStep
from app.engine.runner import Answer
from app.engine.session import Session

log = logging.getLogger(__name__)

# Runs on the event loop, seconds at most. A thread of its own costs a short run more than it gains, and a short run
# does not delay others. A process that has no second core for that thread gains nothing from it even where
# runs are longer: at 32 connections a CNN gave 3 % more requests/s and 8.6 instead of 12.4 ms at p99 (two workers, two
# cores, one row a request), and whoever else waits for the loop waits no longer than for the core.
INLINE_S: Final = 0.0005
INLINE_ALONE_S: Final = 0.012

STEP: Final = "step"
"""The graph of a decoder that writes a token a run. Its memories come in a few sizes (`app/core/decoding/writing.py`),
and only rows of one size share runs, so that a row's sums are the same in any company."""


class Lease:
    """Counts who still uses a model. One object for all users, entered on the event loop: it costs an addition."""

    __slots__ = ("_idle", "count")

    def __init__(self) -> None:
        self.count = 0
        self._idle: asyncio.Event | None = None

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.count -= 1
        if self._idle is not None and not self.count:
            self._idle.set()

    async def ended(self) -> None:
        """Wait until nobody uses it."""
        self._idle = self._idle or asyncio.Event()
        while self.count > 0:
            self._idle.clear()
            await self._idle.wait()

    def give_up(self) -> None:
        """From now on `ended` waits for nobody."""
        self.count = -1_000_000_000
        if self._idle is not None:
            self._idle.set()


class Model:
    """A loaded model: its manifest, where it runs, and, once started, one batcher for each of its graphs.

    Attributes:
        tasks: all that it does, its own first.
        device: "cpu" or "cuda:0".
        loaded_at: ISO 8601, UTC.
        load_s: reading, checking and warming.
        memory_bytes: what it took, see `Loaded`.
        nodes, weight_bytes: by graph, as in `Session`.
        counters: live, by graph.
        text_files: its tokenizers and lists of words.
        prepared: what others compute once from the manifest, under names of their own.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        max_queued_rows: int,
        max_queued_s: float,
        shared_counters: SharedCounters,
        inline_s: float = INLINE_S,
    ) -> None:
        self.manifest: Manifest = loaded.manifest
        self.name: str = loaded.manifest.name
        self.version: str = loaded.manifest.version
        self.tasks = loaded.manifest.tasks
        self.folder: Path = loaded.folder
        self.load_s: float = loaded.load_s
        self.memory_bytes: int = loaded.memory_bytes
        self.loaded_at: str = now_in_words()
        self.device: str = next(iter(loaded.sessions.values())).device
        self.nodes: dict[str, dict[str, int]] = {graph: s.nodes for graph, s in loaded.sessions.items()}
        self.weight_bytes: dict[str, int] = {graph: s.weight_bytes for graph, s in loaded.sessions.items()}
        self.counters: dict[str, Counters] = {
            graph: Counters(shared_counters, (self.name, self.version, graph), max_rows=self.manifest.max_rows)
            for graph in loaded.sessions
        }
        self.text_files = loaded.text_files
        self.prepared: dict[str, object] = {}
        self._max_queued_rows, self._max_queued_s = max_queued_rows, max_queued_s
        self._inline_s = inline_s if self.device == "cpu" else INLINE_S
        self._sessions = loaded.sessions
        self._batchers: dict[str, Batcher] = {}
        self._lease = Lease()

    def start(self) -> None:
        """Make the batchers, each with its thread; where one cannot be had, `close` ends those that could."""
        for graph, session in self._sessions.items():
            self._batchers[graph] = Batcher(
                session.run,
                name=f"{self.name}/{self.version}/{graph}",
                max_rows=self.manifest.max_rows,
                max_queued_rows=self._max_queued_rows,
                max_queued_s=self._max_queued_s,
                inline_s=0.0 if session.loops else self._inline_s,
                lengths=Lengths.of(self.manifest.graphs[graph]) if graph != STEP else None,
                counters=self.counters[graph],
            )

    def lease(self) -> Lease:
        """`with model.lease():` from choosing the model to its last run: it goes on answering until then, even if it is
        replaced or unloaded meanwhile. Choose and lease without an `await` between."""
        return self._lease

    def check_room(self, graph: str, priority: int = NORMAL) -> None:
        """Raises Busy where the graph's queue is full: `Batcher.check_room`."""
        batcher = self._batchers.get(graph)
        if batcher is not None:
            batcher.check_room(priority)

    def run(
        self,
        graph: str,
        tensors: Tensors,
        *,
        deadline: float | None = None,
        priority: int = NORMAL,
        of: int = 0,
        owed: bool = False,
    ) -> Coroutine[Any, Any, Answer]:
        """Run rows through one graph: `Batcher.submit`. An unknown graph is the caller's bug."""
        batcher = self._batchers.get(graph)
        if batcher is None:
            raise self._why_not(graph)
        return batcher.submit(tensors, deadline=deadline, priority=priority, of=of, owed=owed)

    def sample(
        self,
        graph: str,
        sampler: Sampler,
        *,
        deadline: float | None = None,
        priority: int = NORMAL,
        on_step: OnStep | None = None,
        of: int = 0,
        owed: bool = False,
    ) -> Coroutine[Any, Any, Answer]:
        """Run a sampler on one graph to its end: `Batcher.sample`."""
        batcher = self._batchers.get(graph)
        if batcher is None:
            raise self._why_not(graph)
        return batcher.sample(sampler, deadline=deadline, priority=priority, on_step=on_step, of=of, owed=owed)

    def _why_not(self, graph: str) -> Exception:
        if graph not in self.manifest.graphs:
            return KeyError(graph)
        return Unavailable(f"model '{self.name}/{self.version}' was unloaded and takes no more requests")

    @property
    def running(self) -> list[str]:
        """The graphs of which a run is being made."""
        return [graph for graph, batcher in self._batchers.items() if batcher.is_busy]

    def stop_waiting(self) -> None:
        """Let `close` wait for no lease, neither a `close` that waits now nor a later one."""
        self._lease.give_up()

    async def close(self, pool: Executor | None = None) -> None:
        """Wait for all leases, answer what was accepted, refuse what comes, end the threads, free the memory.

        Args:
            pool: where to free it; the event loop's own where none is given.
        """
        started_at = perf_counter()
        await self._lease.ended()
        await asyncio.gather(*(batcher.close() for batcher in self._batchers.values()))
        self._batchers.clear()
        drained_s = perf_counter() - started_at
        try:
            await asyncio.get_running_loop().run_in_executor(pool, _free, self._sessions)
        except RuntimeError:  # no thread can be had
            _free(self._sessions)
        log.info("closed %s/%s, drained in %.3f s", self.name, self.version, drained_s)


def now_in_words() -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _free(sessions: dict[str, Session]) -> None:
    """Drop the sessions and give their memory back to the system. Takes milliseconds: not for the event loop."""
    alive = [weakref.ref(session) for session in sessions.values()]
    sessions.clear()
    if any(session() is not None for session in alive):  # in a cycle; a collection stops every thread, so not always
        gc.collect()
    give_back_memory()
