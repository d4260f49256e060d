"""What the server is compared with: ONNX Runtime with nothing around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tests.bench.models import images, numbers
from tests.bench.shapes import Probabilities

ROWS: Final = (1, 16, 64)
SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Raw:
    """ONNX Runtime in this process, nothing else running."""

    cpu_us: dict[int, float]  # rows in a run -> CPU time of one row, one session of one thread
    one: dict[int, float]  # rows/s of that session
    two: dict[int, float]  # rows/s of two such sessions side by side

    def row_us(self, rows: int, connections: int) -> float:
        """What a row costs the model: alone where one connection sends one, else the cheapest batch there is."""
        return self.cpu_us[min(rows, 64)] if connections == 1 else min(self.cpu_us.values())

    def most(self, rows: int) -> float:
        """Rows/s that the machine can give: requests of one row may be batched, those of 64 rows stay as they are."""
        return max(self.two.values()) if rows == 1 else self.two[64]


def session(onnx: bytes) -> Callable[[NDArray[Any]], Probabilities]:
    """A graph of one input on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    made = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    name = made.get_inputs()[0].name

    def run(rows: NDArray[Any]) -> Probabilities:
        (answer,) = made.run(None, {name: rows})
        return np.asarray(answer, np.float32)

    return run


def raw_onnxruntime(model: str, onnx: bytes) -> Raw:
    """Measured for SECONDS at each of ROWS."""
    first, second = session(onnx), session(onnx)
    source = numbers if model == "heavy" else images
    cpu_us, one, two = {}, {}, {}
    for count in ROWS:
        rows: NDArray[Any] = source(count)
        for _ in range(5):
            first(rows), second(rows)
        cpu_s, began, runs = time.thread_time(), time.perf_counter(), repeat(first, rows)
        cpu_us[count] = (time.thread_time() - cpu_s) / (runs * count) * 1e6
        one[count] = runs * count / (time.perf_counter() - began)
        counts = [0, 0]

        def go(i: int, run: Callable[[NDArray[Any]], Probabilities], rows: NDArray[Any], counts: list[int]) -> None:
            counts[i] = repeat(run, rows)

        threads = [threading.Thread(target=go, args=(i, run, rows, counts)) for i, run in enumerate((first, second))]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        two[count] = sum(counts) * count / (time.perf_counter() - began)
    return Raw(cpu_us, one, two)


def repeat(run: Callable[[NDArray[Any]], Probabilities], rows: NDArray[Any]) -> int:
    """How many runs fitted into SECONDS."""
    end, runs = time.perf_counter() + SECONDS, 0
    while time.perf_counter() < end:
        run(rows)
        runs += 1
    return runs
