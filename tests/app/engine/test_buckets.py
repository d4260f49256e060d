"""CUDA's way of running, with a runtime that is not there: a fake that adds one to what lies in its buffers."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.core.manifest import Graph
from app.engine import session as module
from app.engine.buckets import Buckets, sizes
from app.engine.runtime import CPU, CUDA, cuda_options
from app.engine.session import DeviceRefused, Session


def graph_of(*trailing: int | str, precision: str = "fp32") -> Graph:
    spec = {"dtype": "float32", "shape": ("rows", *trailing)}
    inputs, outputs = ({"name": "x", **spec},), ({"name": "y", **spec},)
    return Graph.model_validate(
        {"file": "g.onnx", "sha256": "0" * 64, "inputs": inputs, "outputs": outputs, "precision": precision}
    )


class Value:
    """An OrtValue on a device: reached by copies alone."""

    made: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.memory = np.full(shape, np.nan, dtype)

    @classmethod
    def ortvalue_from_shape_and_type(cls, *what: Any) -> Value:
        cls.made.append(what)
        return cls(what[0], what[1])

    def update_inplace(self, data: NDArray[Any]) -> None:
        assert data.shape == self.memory.shape
        assert data.dtype == self.memory.dtype
        self.memory[:] = data

    def numpy(self) -> NDArray[Any]:
        return self.memory.copy()


class Binding:
    def __init__(self) -> None:
        self.bound: dict[str, Value] = {}

    def bind_ortvalue_input(self, name: str, value: Value) -> None:
        self.bound[name] = value

    bind_ortvalue_output = bind_ortvalue_input


class Node:
    def __init__(self, name: str, kind: str, shape: list[Any]) -> None:
        self.name, self.type, self.shape = name, kind, shape


class Runtime:
    """An InferenceSession of y = x + 1 that tells what it ran."""

    def __init__(self, *trailing: int | str) -> None:
        self.trailing = trailing
        self.ran: list[NDArray[Any]] = []
        self.unbound: list[int] = []

    def get_inputs(self) -> list[Node]:
        return [Node("x", "tensor(float)", ["n", *self.trailing])]

    def get_outputs(self) -> list[Node]:
        return [Node("y", "tensor(float)", ["n", *self.trailing])]

    def io_binding(self) -> Binding:
        return Binding()

    def run_with_iobinding(self, binding: Binding) -> None:
        self.ran.append(binding.bound["x"].memory.copy())
        binding.bound["y"].memory[:] = binding.bound["x"].memory + 1

    def run(self, names: list[str], tensors: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        self.unbound.append(len(tensors["x"]))
        return [tensors["x"] + 1]


def on_cuda(
    monkeypatch: pytest.MonkeyPatch, runtime: Runtime, nodes: dict[str, int], asked: Any = "cuda", **options: Any
) -> Session:
    monkeypatch.setattr(module, "choose_device", lambda device: "cuda")
    monkeypatch.setattr(module, "create", lambda data, **how: (runtime, nodes))
    monkeypatch.setattr(module, "cuda_buckets", lambda session, graph, rows: Buckets(session, Value, graph, rows))
    return Session(b"g", graph_of(*runtime.trailing), where="m/1/g.onnx", device=asked, threads=1, **options)


@given(st.integers(1, 4096))
def test_a_run_fills_more_than_half_of_its_bucket_or_is_the_largest(max_rows: int) -> None:
    made = sizes(max_rows)
    assert made[0] == 1
    assert made[-1] == max_rows
    assert all(low < high <= 2 * low for low, high in pairwise(made))


def test_the_buckets_of_48_rows_are_these() -> None:
    assert sizes(48) == (1, 2, 4, 8, 16, 32, 48)
    assert sizes(64) == (1, 2, 4, 8, 16, 32, 64)


def test_every_bucket_is_run_before_anybody_is_served_and_no_other_size_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(2)
    session = on_cuda(monkeypatch, runtime, {CUDA: 3})
    session.warm(6)
    assert [len(rows) for rows in runtime.ran] == [1, 2, 4, 6]
    for rows in (1, 2, 3, 4, 5, 6):
        x = np.random.default_rng(rows).normal(size=(rows, 2)).astype(np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["y"], x + 1)
    assert [len(rows) for rows in runtime.ran[4:]] == [1, 2, 4, 4, 6, 6]
    assert runtime.unbound == []
    assert {what[2:] for what in Value.made} == {("cuda", 0)}


def test_the_filling_is_zeros_and_never_rows_of_the_run_before(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(2)
    session = on_cuda(monkeypatch, runtime, {CUDA: 3})
    session.warm(4)
    session.run({"x": np.full((4, 2), 7, np.float32)})
    session.run({"x": np.full((3, 2), 5, np.float32)})
    assert runtime.ran[-1].tolist() == [[5, 5], [5, 5], [5, 5], [0, 0]]


def test_an_answer_stays_what_it_was_when_the_buffers_are_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    session = on_cuda(monkeypatch, Runtime(2), {CUDA: 3})
    session.warm(2)
    first = session.run({"x": np.zeros((2, 2), np.float32)})["y"]
    session.run({"x": np.full((2, 2), 9, np.float32)})
    assert first.tolist() == [[1, 1], [1, 1]]


def test_more_rows_than_the_largest_bucket_are_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(2)
    session = on_cuda(monkeypatch, runtime, {CUDA: 3})
    session.warm(2)
    assert session.run({"x": np.zeros((5, 2), np.float32)})["y"].shape == (5, 2)
    assert runtime.unbound == [5]


def test_a_graph_with_another_open_axis_has_no_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime("length")
    session = on_cuda(monkeypatch, runtime, {CUDA: 3})
    session.warm(8)
    assert runtime.unbound == [1, 8]
    assert runtime.ran == []


def test_a_graph_that_cuda_would_not_run_at_all_is_an_error_where_cuda_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(DeviceRefused, match=r"m/1/g\.onnx: 4 of 4 nodes run on the CPU"):
        on_cuda(monkeypatch, Runtime(2), {CPU: 4})


def test_auto_says_cpu_where_no_node_is_on_cuda(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = Runtime(2)
    session = on_cuda(monkeypatch, runtime, {CPU: 4}, asked="auto")
    assert session.device == "cpu"
    assert "4 of 4 nodes run on the CPU" in caplog.text
    session.warm(8)
    assert runtime.unbound == [1, 8]


def test_nodes_that_fell_to_the_cpu_are_counted_and_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        session = on_cuda(monkeypatch, Runtime(2), {CUDA: 9, CPU: 1})
    assert session.device == "cuda:0"
    assert session.nodes == {CUDA: 9, CPU: 1}
    assert "m/1/g.onnx: 1 of 10 nodes run on the CPU" in caplog.text


def test_a_graph_that_is_all_on_cuda_warns_of_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert on_cuda(monkeypatch, Runtime(2), {CUDA: 9}).device == "cuda:0"
    assert caplog.text == ""


def test_products_are_exact_unless_the_manifest_says_otherwise_and_memory_has_no_limit_unless_one_is_set() -> None:
    assert cuda_options(graph_of(2), 0)["use_tf32"] == "0"
    assert cuda_options(graph_of(2, precision="tf32"), 0)["use_tf32"] == "1"
    assert "gpu_mem_limit" not in cuda_options(graph_of(2), 0)
    assert cuda_options(graph_of(2), 3)["gpu_mem_limit"] == str(3 * 1024 * 1024)
