from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.core.errors import InferenceFailed, LoadRefused
from app.core.manifest import Graph
from app.engine import runtime as module
from app.engine.session import DeviceRefused, Session, choose_device
from tests.made_models import brightness_probabilities, classifier_onnx, onnx_bytes

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
WEIGHTS = np.ones((4, 4), np.float32)


@pytest.fixture(autouse=True)
def _nothing_is_remembered_of_devices() -> None:
    choose_device.cache_clear()


def info(name: str, shape: list[Any], kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def graph_of(inputs: dict[str, Any], outputs: dict[str, Any]) -> Graph:
    """A manifest's graph; each tensor is (dtype, *axes after the rows)."""

    def specs(tensors: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        return tuple({"name": n, "dtype": t[0], "shape": ("rows", *t[1:])} for n, t in tensors.items())

    return Graph.model_validate(
        {"file": "g.onnx", "sha256": "0" * 64, "inputs": specs(inputs), "outputs": specs(outputs)}
    )


SQUARE = graph_of({"x": ("float32", 4)}, {"y": ("float32", 4)})


def square(shape: list[Any] | None = None) -> bytes:
    """y = x @ ones(4, 4)"""
    shape = shape or ["rows", 4]
    return onnx_bytes(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], [info("x", shape)], [info("y", shape)], {"w": WEIGHTS}
    )


def load(data: bytes, graph: Graph = SQUARE, device: Any = "cpu") -> Session:
    return Session(data, graph, where="m/1/g.onnx", device=device, threads=1)


def outside(location: str) -> TensorProto:
    """The weights `w`, as a reference to a file."""
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(WEIGHTS.nbytes))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def as_initialiser(weights: TensorProto) -> onnx.GraphProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return helper.make_graph(nodes, "g", [info("x", ["rows", 4])], [info("y", ["rows", 4])], [weights])


def as_constant(weights: TensorProto) -> onnx.GraphProto:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weights),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    return helper.make_graph(nodes, "g", [info("x", ["rows", 4])], [info("y", ["rows", 4])])


def as_branch(weights: TensorProto) -> onnx.GraphProto:
    z = [info("z", ["rows", 4])]
    then = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["z"])], "then", [], z, [weights])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "else", [], z)
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=then, else_branch=other)]
    yes = numpy_helper.from_array(np.array(True), "yes")
    return helper.make_graph(nodes, "g", [info("x", ["rows", 4])], [info("y", ["rows", 4])], [yes])


def serialised(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def test_a_graph_gives_the_known_answers_in_the_manifests_names() -> None:
    graph = graph_of({"image": ("uint8", 28, 28, 1)}, {"probabilities": ("float32", 3)})
    session = load(classifier_onnx(3), graph)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1), dtype=np.uint8)
    answers = session.run({"image": images})
    assert list(answers) == ["probabilities"]
    np.testing.assert_allclose(answers["probabilities"], brightness_probabilities(images, 3), atol=1e-5)
    assert session.device == "cpu"


@pytest.mark.parametrize("made", [as_initialiser, as_constant, as_branch])
@pytest.mark.parametrize("place", ["beside", "above", "absolute"])
def test_weights_outside_the_file_are_refused_although_they_are_there(
    made: Any, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for path in (tmp_path / "w.bin", folder / "w.bin"):
        path.write_bytes(WEIGHTS.tobytes())
    monkeypatch.chdir(folder)
    location = {"beside": "w.bin", "above": "../w.bin", "absolute": str(tmp_path / "w.bin")}[place]
    with pytest.raises(LoadRefused, match=r"m/1/g\.onnx: the weights must be inside the file"):
        load(serialised(made(outside(location))))


def test_weights_named_by_a_memory_address_are_refused() -> None:
    with pytest.raises(LoadRefused, match=r"m/1/g\.onnx"):
        load(serialised(as_initialiser(outside("*/_ORT_MEM_ADDR_/*"))))


@pytest.mark.parametrize("made", [as_initialiser, as_constant, as_branch])
def test_the_same_graphs_with_the_weights_inside_are_taken(made: Any) -> None:
    session = load(serialised(made(numpy_helper.from_array(WEIGHTS, "w"))))
    np.testing.assert_array_equal(session.run({"x": np.ones((2, 4), np.float32)})["y"], np.full((2, 4), 4))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"garbage" * 100, "expected an ONNX graph"),
        (b"\x00" * 1000, "expected an ONNX graph"),
        (square()[:-20], "expected an ONNX graph"),
        (square()[:60], "expected an ONNX graph"),
    ],
)
def test_bytes_that_are_no_graph_are_refused_by_name(data: bytes, words: str) -> None:
    with pytest.raises(LoadRefused, match=rf"m/1/g\.onnx: {words}"):
        load(data)


def test_operators_that_the_runtime_lacks_are_refused_by_name() -> None:
    node = helper.make_node("Conjure", ["x"], ["y"], domain="somebody.else")
    graph = helper.make_graph([node], "g", [info("x", ["rows", 4])], [info("y", ["rows", 4])])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("somebody.else", 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    with pytest.raises(LoadRefused, match=r"m/1/g\.onnx: .*(Conjure|somebody\.else)"):
        load(data)


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (
            graph_of({"image": ("float32", 4)}, {"y": ("float32", 4)}),
            r"inputs are \['x'\], the manifest says \['image'\]",
        ),
        (graph_of({"x": ("float32", 4)}, {"z": ("float32", 4)}), r"outputs are \['y'\], the manifest says \['z'\]"),
        (graph_of({"x": ("uint8", 4)}, {"y": ("float32", 4)}), "input 'x' is float32, the manifest says uint8"),
        (graph_of({"x": ("float32", 4)}, {"y": ("float64", 4)}), "output 'y' is float32, the manifest says float64"),
        (graph_of({"x": ("float32", 5)}, {"y": ("float32", 4)}), r"input 'x' is \('rows', 4\), .* \('rows', 5\)"),
        (graph_of({"x": ("float32", 4, 1)}, {"y": ("float32", 4)}), r"input 'x' is .* \('rows', 4, 1\)"),
        (graph_of({"x": ("float32", "wide")}, {"y": ("float32", 4)}), r"input 'x' is .* \('rows', 'wide'\)"),
        (graph_of({"x": ("float32", 4), "t": ("float32",)}, {"y": ("float32", 4)}), r"manifest says \['x', 't'\]"),
    ],
)
def test_a_graph_that_is_not_the_manifests_is_refused_with_both(graph: Graph, words: str) -> None:
    with pytest.raises(LoadRefused, match=rf"m/1/g\.onnx: .*{words}"):
        load(square(), graph)


def test_inputs_in_another_order_are_refused() -> None:
    data = onnx_bytes(
        [helper.make_node("Sub", ["a", "b"], ["y"])],
        [info("a", ["rows"]), info("b", ["rows"])],
        [info("y", ["rows"])],
    )
    load(data, graph_of({"a": ("float32",), "b": ("float32",)}, {"y": ("float32",)}))
    with pytest.raises(LoadRefused, match=r"inputs are \['a', 'b'\], the manifest says \['b', 'a'\]"):
        load(data, graph_of({"b": ("float32",), "a": ("float32",)}, {"y": ("float32",)}))


def test_a_fixed_number_of_rows_is_refused() -> None:
    with pytest.raises(LoadRefused, match=r"input 'x' is \(2, 4\), axis 0 of fixed size"):
        load(square([2, 4]))


def test_rows_may_be_called_anything_in_the_graph_but_other_axes_keep_their_names() -> None:
    load(square(["batch", 4]))
    data = onnx_bytes(
        [helper.make_node("Neg", ["x"], ["y"])], [info("x", ["n", "length"])], [info("y", ["n", "length"])]
    )
    load(data, graph_of({"x": ("float32", "length")}, {"y": ("float32", "length")}))
    with pytest.raises(LoadRefused, match=r"\('rows', 'length'\), the manifest says \('rows', 'width'\)"):
        load(data, graph_of({"x": ("float32", "width")}, {"y": ("float32", "width")}))


def test_what_the_runtime_raises_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    data = onnx_bytes(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [info("x", ["rows"], INT64)],
        [info("y", ["rows"])],
        {"table": np.arange(3, dtype=np.float32)},
    )
    session = load(data, graph_of({"x": ("int64",)}, {"y": ("float32",)}))
    assert session.run({"x": np.array([2, 0])})["y"].tolist() == [2, 0]
    with pytest.raises(InferenceFailed) as failure:
        session.run({"x": np.array([99])})
    assert "m/1/g.onnx" in failure.value.detail
    assert "Gather" not in failure.value.detail
    assert "Gather" in caplog.text


def _has_cuda() -> bool:
    return module._why_no_cuda() is None


def test_cuda_that_cannot_be_had_is_an_error_with_its_cause() -> None:
    if _has_cuda():
        pytest.skip("CUDA can be had here")
    with pytest.raises(DeviceRefused, match=r"device 'cuda' cannot be had: .*(provider|library|lib|CUDA)"):
        load(square(), device="cuda")


def test_cuda_that_turns_out_to_be_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    if _has_cuda():
        pytest.skip("CUDA can be had here")
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [module.CUDA, module.CPU])
    with pytest.raises(DeviceRefused, match="device 'cuda' cannot be had"):
        load(square(), device="cuda")


def test_auto_says_in_the_log_why_it_is_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    if _has_cuda():
        pytest.skip("CUDA can be had here")
    with caplog.at_level(logging.INFO, "app.engine.runtime"):
        assert load(square(), device="auto").device == "cpu"
        assert load(square(), device="auto").device == "cpu"
    assert caplog.text.count("device 'auto' is the CPU: ") == 1


def test_the_probe_is_an_identity() -> None:
    model = onnx.load_from_string(module.PROBE)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Identity"]


def test_importing_the_engine_does_not_import_the_runtime() -> None:
    command = "import sys, app.engine.registry; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def gru() -> bytes:
    """y = the states of a GRU over 5 steps of 4 numbers."""
    weights = {"w": np.ones((1, 12, 4), np.float32), "r": np.ones((1, 12, 4), np.float32)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["t", "w", "r"], ["", "last"], hidden_size=4),
        helper.make_node("Squeeze", ["last", "first"], ["y"]),
    ]
    weights["first"] = np.zeros(1, np.int64)
    return onnx_bytes(nodes, [info("x", ["rows", 5, 4])], [info("y", ["rows", 4])], weights)


@pytest.mark.parametrize(("asked", "got"), [(0, 1), (2, 2)])
def test_a_gru_has_one_thread_unless_more_are_asked_for(asked: int, got: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 3)
    recurrent, _ = module.create(gru(), where="m/1/g.onnx", cuda=None, threads=asked)
    assert recurrent.get_session_options().intra_op_num_threads == got
    plain, _ = module.create(square(), where="m/1/g.onnx", cuda=None, threads=asked)
    assert plain.get_session_options().intra_op_num_threads == (asked or 3)
