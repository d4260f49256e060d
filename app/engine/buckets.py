"""Runs of a few fixed sizes through buffers of fixed addresses, for a device on which a new shape costs much.

On CUDA the first run of each number of rows chooses algorithms and allocates. So rows are filled up with zeros to the
next of a few sizes, each of which was run before serving started. Its inputs and outputs have their buffers on the
device from then on.

CUDA graphs are not used. The runtime captures one per calling thread, and while it captures no other thread may
allocate on the device. But the event loop, a batcher's thread and the thread that loads a version all run graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.manifest import Graph, Tensors, numpy_dtype


def sizes(max_rows: int) -> tuple[int, ...]:
    """1, 2, 4, 8, ... and `max_rows` itself: a run fills at least half of its size, but for the largest."""
    return (*(1 << power for power in range((max_rows - 1).bit_length())), max_rows)


@dataclass(frozen=True)
class _Bucket:
    binding: Any
    staging: dict[str, NDArray[Any]]  # inputs, on the host
    inputs: dict[str, Any]  # OrtValues on the device
    outputs: dict[str, Any]


class Buckets:
    """One graph's buckets. `run` is for one thread at a time, for the buffers are written to.

    Args:
        session: an onnxruntime.InferenceSession on CUDA.
        values: onnxruntime.OrtValue.
        graph: its tensors, each with no other axis than the rows left open.
        max_rows: of the largest bucket.
    """

    def __init__(self, session: Any, values: Any, graph: Graph, max_rows: int) -> None:
        self.sizes = sizes(max_rows)
        self._session = session
        self._buckets: dict[int, _Bucket] = {}
        for rows in self.sizes:
            shapes: dict[str, tuple[Any, ...]] = {
                spec.name: (rows, *spec.shape[1:]) for spec in (*graph.inputs, *graph.outputs)
            }
            types = {spec.name: numpy_dtype(spec.dtype) for spec in (*graph.inputs, *graph.outputs)}
            on_device = {
                name: values.ortvalue_from_shape_and_type(shapes[name], types[name], "cuda", 0) for name in shapes
            }
            binding = session.io_binding()
            for spec in graph.inputs:
                binding.bind_ortvalue_input(spec.name, on_device[spec.name])
            for spec in graph.outputs:
                binding.bind_ortvalue_output(spec.name, on_device[spec.name])
            self._buckets[rows] = _Bucket(
                binding,
                {spec.name: np.zeros(shapes[spec.name], types[spec.name]) for spec in graph.inputs},
                {spec.name: on_device[spec.name] for spec in graph.inputs},
                {spec.name: on_device[spec.name] for spec in graph.outputs},
            )

    def run(self, tensors: Tensors) -> dict[str, NDArray[Any]]:
        """As `Session.run`, of at most `max_rows` rows."""
        rows = len(next(iter(tensors.values())))
        bucket = self._buckets[min(size for size in self._buckets if size >= rows)]
        for name, staged in bucket.staging.items():
            staged[:rows] = tensors[name]
            staged[rows:] = 0  # earlier rows are not run again
            bucket.inputs[name].update_inplace(staged)
        self._session.run_with_iobinding(bucket.binding)
        return {name: value.numpy()[:rows] for name, value in bucket.outputs.items()}
