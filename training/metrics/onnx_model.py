"""A published model folder, run as it lies there: ONNX Runtime on the CPU, no torch, no server.

`python -m training evaluate NAME` measures through this file what the manifest claims.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import ValidationError

from app.core.errors import LoadRefused
from app.core.manifest import MANIFEST_FILE, Graph, Manifest, TensorSpec, numpy_dtype

ROWS_OF_INTEREST: Final = (1, 2, 4, 8, 16, 32, 64)
FEWEST_REPEATS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Wall time of one run of a graph on `rows` rows, in the calling process: no HTTP, no decoding, no queue."""

    rows: int
    median_ms: float
    p95_ms: float
    repeats: int
    device: str  # what ran it: runtime, processor, threads


def load_manifest(folder: Path) -> Manifest:
    """The manifest of `folder`. Raises `LoadRefused`, naming the file, where it is missing or not one."""
    path = folder / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise LoadRefused(f"{path}: cannot be read ({error.strerror})", subject=str(path)) from error
    except ValidationError as error:
        raise LoadRefused(f"{path}: not a manifest of this version: {error}", subject=str(path)) from error


def open_graph(folder: Path, graph: Graph, *, threads: int = 0) -> ort.InferenceSession:
    """A CPU session of one graph of `folder`; 0 threads lets the runtime choose.

    Raises `LoadRefused` where the file is missing, differs from its hash, or is no graph.
    """
    path = folder / graph.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LoadRefused(f"{path}: cannot be read ({error.strerror})", subject=str(path)) from error
    found = hashlib.sha256(data).hexdigest()
    if found != graph.sha256:
        raise LoadRefused(
            f"{path}: sha256 is {found}, the manifest says {graph.sha256}",
            subject=str(path),
            expected=graph.sha256,
            got=found,
        )
    try:
        return open_bytes(data, threads=threads)
    except Exception as error:  # the runtime's own errors share no base below Exception
        raise LoadRefused(f"{path}: ONNX Runtime cannot load it: {error}", subject=str(path)) from error


def open_bytes(data: bytes, *, threads: int = 0) -> ort.InferenceSession:
    """A CPU session of an ONNX file's bytes."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(
    session: ort.InferenceSession, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str], *, rows: int
) -> list[NDArray[Any]]:
    """These outputs of all rows of `feed`, so many rows at a time."""
    count = len(next(iter(feed.values())))
    starts = range(0, max(count, 1), rows)
    parts = [session.run(list(outputs), {name: x[i : i + rows] for name, x in feed.items()}) for i in starts]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def probabilities(folder: Path, x: NDArray[Any], *, batch: int = 256, threads: int = 0) -> NDArray[np.float32]:
    """The classifier of `folder` on rows `x` (N, ...) of the type that its manifest says -> (N, K) float32.

    Runs at most `batch` rows at a time, and never more than the manifest's `max_rows`.
    Raises `LoadRefused` for a bad folder and `ValueError` for rows of another shape or type.
    """
    manifest = load_manifest(folder)
    graph = manifest.graphs.get("classifier")
    if graph is None:
        raise LoadRefused(f"{folder}: expected a graph 'classifier', the manifest has {sorted(manifest.graphs)}")
    spec = graph.inputs[0]
    if x.dtype != numpy_dtype(spec.dtype) or x.shape[1:] != spec.shape[1:]:
        raise ValueError(f"{folder}: input '{spec.name}' is {spec.dtype} {spec.shape}, got {x.dtype} {x.shape}")
    session, step = open_graph(folder, graph, threads=threads), min(batch, manifest.max_rows)
    parts = [session.run(["probabilities"], {spec.name: x[i : i + step]})[0] for i in range(0, len(x), step)]
    return np.concatenate([np.zeros((0, len(manifest.labels)), np.float32), *parts])


def latency_ms(
    folder: Path,
    graph: str,
    rows: Sequence[int] = ROWS_OF_INTEREST,
    repeats: int = 50,
    *,
    threads: int = 0,
    budget_s: float = 3.0,
) -> list[Latency]:
    """How long one run takes by batch size, after a warm-up; sizes above the manifest's `max_rows` are left out.

    Each size gets an equal part of `budget_s` and stops at `repeats` runs, but has three at least. Pixels are
    noise (uint8), floats are normal, other types zero, free axes one: the arithmetic does not look at values.
    """
    manifest = load_manifest(folder)
    if graph not in manifest.graphs:
        raise ValueError(f"{folder}: no graph '{graph}', the manifest has {sorted(manifest.graphs)}")
    session = open_graph(folder, manifest.graphs[graph], threads=threads)
    count = {0: "", 1: ", 1 thread"}.get(threads, f", {threads} threads")
    device = f"ONNX Runtime {ort.__version__} on {_processor()}{count}"
    sizes = [n for n in rows if n <= manifest.max_rows]
    rng = np.random.default_rng(0)
    found = []
    for n in sizes:
        feed = {spec.name: _made_up(spec, n, rng) for spec in manifest.graphs[graph].inputs}
        taken = _time(lambda feed=feed: session.run(None, feed), repeats, budget_s / len(sizes))  # type: ignore[misc]
        median, p95 = np.percentile(taken, [50, 95])
        found.append(
            Latency(rows=n, median_ms=float(median), p95_ms=float(p95), repeats=len(taken), device=device),
        )
    return found


def _processor() -> str:
    """The processor's name and its number of logical cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(
            r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        name = found[1] if found else name
    cores = os.cpu_count() or 1
    return f"{name} ({cores} core{'s' * (cores > 1)})"


def _time(run: Callable[[], object], repeats: int, budget_s: float) -> list[float]:
    """Milliseconds of each counted run; a tenth of the budget, and one run at least, is warm-up."""
    start = perf_counter()
    run()
    while perf_counter() - start < budget_s / 10:
        run()
    taken: list[float] = []
    while len(taken) < max(repeats, FEWEST_REPEATS):
        if len(taken) >= FEWEST_REPEATS and perf_counter() - start > budget_s:
            break
        before = perf_counter()
        run()
        taken.append(1000 * (perf_counter() - before))
    return taken


def _made_up(spec: TensorSpec, rows: int, rng: np.random.Generator) -> NDArray[Any]:
    """A tensor of the declared type with `rows` rows."""
    shape = (rows, *(axis if isinstance(axis, int) else 1 for axis in spec.shape[1:]))
    dtype = numpy_dtype(spec.dtype)
    if dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)
