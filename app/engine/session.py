"""One ONNX graph on one device: loaded, compared with its manifest, warmed, run.

A session is made from bytes that the caller has read once and hashed, so that what was checked is what runs. The
graph is compared with the manifest here, once; `run` trusts both afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from app.core.errors import InferenceFailed, LoadRefused
from app.core.manifest import ROWS, Graph, Tensors, TensorSpec, numpy_dtype
from app.engine.buckets import Buckets
from app.engine.runtime import (
    CUDA,
    Device,
    DeviceRefused,
    choose_device,
    create,
    cuda_buckets,
    cuda_options,
)
from app.engine.shared_weights import SharedWeights

__all__ = ["Device", "DeviceRefused", "Session", "choose_device"]

log = logging.getLogger(__name__)

NUMPY_NAMES = {"float": "float32", "double": "float64"}  # the others are called in ONNX as in NumPy

_LOOP: Final = b'"\x04Loop'
"""An operator's type in a file (NodeProto.op_type, field 4): the one that goes on for as long as its input says."""


class Session:
    """One graph, loaded and compared with its manifest.

    Args:
        data: the ONNX file, whole.
        graph: what the manifest says of it.
        where: the file's name in messages, e.g. "digits/1/classifier.onnx".
        device: "auto" takes CUDA where it can be had and says in the log where it cannot.
        threads: threads of one run on the CPU; 0 for one per core that the process may use.
        gpu_memory_mb: at most this much memory of the GPU for the graph's weights and runs; 0 for no limit.
        shared: the weights that all processes of one server map; None for one process.

    Attributes:
        device: where it really runs: "cpu" or "cuda:0".
        nodes: operators of the graph by the provider that runs them, as ONNX Runtime calls it.
        loops: whether a row's values may decide how long a run takes, whatever its shape.
        weight_bytes: size of the file, which is that of the weights but for a few kilobytes.

    Raises:
        LoadRefused: not a graph, not this graph, or weights outside the file.
        DeviceRefused: "cuda" was requested and cannot be had, or none of the graph would run there.
    """

    def __init__(
        self,
        data: bytes,
        graph: Graph,
        *,
        where: str,
        device: Device,
        threads: int,
        gpu_memory_mb: int = 0,
        shared: SharedWeights | None = None,
    ) -> None:
        if not data:
            raise LoadRefused(f"{where}: the file is empty, expected an ONNX graph", subject=where)
        chosen = choose_device(device)
        cuda = cuda_options(graph, gpu_memory_mb) if chosen == "cuda" else None
        self.where = where
        self.weight_bytes = len(data)
        self.loops = _LOOP in data
        self._graph = graph
        self._session, self.nodes = create(data, where=where, cuda=cuda, threads=threads, shared=shared)
        self.device = self._device_got(device, chosen)
        _compare(self._session.get_inputs(), graph.inputs, where=where, side="input")
        _compare(self._session.get_outputs(), graph.outputs, where=where, side="output")
        self._outputs = [spec.name for spec in graph.outputs]
        self._buckets: Buckets | None = None
        self._bucket_rows = 0

    def warm(self, max_rows: int, rows: Tensors | None = None) -> None:
        """Run once what must not be cold at the first request.

        On the CPU one row and a full batch, so that the memory of the largest run is there (or missing) before anybody
        is served. No other size is worth it: with these two, the first run of 2 to 63 rows takes 0.1 ms longer than
        later ones of the same size (medians of 9 fresh sessions of a 2 and a 0.5 ms graph, 14 sizes). Rows that are
        filled up would cost as much as real rows. On CUDA every bucket.

        Args:
            rows: every input by name, some rows, which a graph with variable axes is warmed with. Else it is zeros, and
                variable axes have size 1, which a graph with a least length refuses.

        Raises:
            InferenceFailed: the runtime raised.
        """
        sizes: tuple[int, ...] = (1, max_rows)
        specs = (*self._graph.inputs, *self._graph.outputs)
        if self.device != "cpu" and all(isinstance(axis, int) for spec in specs for axis in spec.shape[1:]):
            self._buckets = self._make_buckets(max_rows)
            self._bucket_rows, sizes = max_rows, self._buckets.sizes
        inputs = self._graph.inputs
        if rows is None or all(isinstance(axis, int) for spec in inputs for axis in spec.shape[1:]):
            rows = {
                spec.name: np.zeros(
                    (1, *(axis if isinstance(axis, int) else 1 for axis in spec.shape[1:])), numpy_dtype(spec.dtype)
                )
                for spec in inputs
            }
        for size in sizes:
            self.run({spec.name: np.resize(rows[spec.name], (size, *rows[spec.name].shape[1:])) for spec in inputs})

    def run(self, tensors: Tensors) -> dict[str, NDArray[Any]]:
        """Run the graph once; blocks, and releases the GIL meanwhile. For one thread at a time.

        Args:
            tensors: every input by name, as the manifest has it, all with the same number of rows.

        Returns:
            Every output by name.

        Raises:
            InferenceFailed: the runtime raised. Its own words go to the log, not into the message.
        """
        try:
            if self._buckets is not None and len(tensors[self._graph.inputs[0].name]) <= self._bucket_rows:
                return self._buckets.run(tensors)
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(tensors)), strict=True))
        except Exception as error:
            log.exception("%s: the runtime raised", self.where)
            raise InferenceFailed(f"{self.where}: the runtime failed on rows that passed every check") from error

    def _make_buckets(self, max_rows: int) -> Buckets:
        try:
            return cuda_buckets(self._session, self._graph, max_rows)
        except Exception as error:
            message = f"{self.where}: no buffers for {max_rows} rows on {self.device}: {error}"
            raise LoadRefused(message, subject=self.where) from error

    def _device_got(self, requested: Device, chosen: Literal["cpu", "cuda"]) -> str:
        """The device that runs the nodes, whatever the session calls itself."""
        if chosen == "cpu":
            return "cpu"
        total, there = sum(self.nodes.values()), self.nodes.get(CUDA, 0)
        if there == total:
            return "cuda:0"
        message = f"{self.where}: {total - there} of {total} nodes run on the CPU, CUDA has no kernel for them"
        if there == 0 and requested == "cuda":
            raise DeviceRefused(message, subject="device", expected=CUDA, got=str(self.nodes))
        log.warning(message)
        return "cuda:0" if there else "cpu"


def _compare(got: Sequence[Any], want: tuple[TensorSpec, ...], *, where: str, side: Literal["input", "output"]) -> None:
    """Refuse a graph whose tensors are not the manifest's: names, order, types, and shapes with row axis dynamic."""
    names, wanted = [node.name for node in got], [spec.name for spec in want]
    if names != wanted:
        raise LoadRefused(
            f"{where}: the graph's {side}s are {names}, the manifest says {wanted}",
            subject=where,
            expected=str(wanted),
            got=str(names),
        )
    for node, spec in zip(got, want, strict=True):
        kind = node.type.removeprefix("tensor(").removesuffix(")")
        dtype = NUMPY_NAMES.get(kind, kind)
        shape = tuple(axis if axis is not None else "?" for axis in node.shape)
        problem: tuple[str, str] | None = None
        if dtype != spec.dtype:
            problem = (dtype, spec.dtype)
        elif not shape or isinstance(shape[0], int):
            problem = (f"{shape}, axis 0 of fixed size", f"{spec.shape}, any number of rows")
        elif (ROWS, *shape[1:]) != spec.shape:
            problem = (str((ROWS, *shape[1:])), str(spec.shape))
        if problem:
            raise LoadRefused(
                f"{where}: {side} '{spec.name}' is {problem[0]}, the manifest says {problem[1]}",
                subject=f"{where}: {side} '{spec.name}'",
                expected=problem[1],
                got=problem[0],
            )
