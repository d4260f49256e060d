"""Recurrent graphs for tests: one ONNX GRU over rows of different length, and its answers computed in NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.core.manifest import Graph
from tests.made_models import classifier_manifest, npz, onnx_bytes, sha256, write_folder

FEATURES, HIDDEN, LABELS = 3, 4, ("low", "high")


def weights(directions: int) -> dict[str, NDArray[Any]]:
    """As the GRU operator wants them: gates in the order z, r, h."""
    rng = np.random.default_rng(directions)
    shapes = {"w": (3 * HIDDEN, FEATURES), "r": (3 * HIDDEN, HIDDEN), "b": (6 * HIDDEN,)}
    return {name: rng.normal(size=(directions, *shape)).astype(np.float32) for name, shape in shapes.items()}


def hidden_states(x: NDArray[Any], directions: int) -> NDArray[np.float64]:
    """One row (T, FEATURES) -> (T, directions * HIDDEN): ONNX's equations with linear_before_reset, in float64."""
    found = []
    w, r, b = (weights(directions)[name].astype(np.float64) for name in ("w", "r", "b"))
    for d in range(directions):
        h, states = np.zeros(HIDDEN), np.zeros((len(x), HIDDEN))
        for t in range(len(x)) if d == 0 else reversed(range(len(x))):
            given = np.split(w[d] @ x[t] + b[d, : 3 * HIDDEN], 3)
            own = np.split(r[d] @ h + b[d, 3 * HIDDEN :], 3)
            z, reset = (1 / (1 + np.exp(-(given[i] + own[i]))) for i in (0, 1))
            h = (1 - z) * np.tanh(given[2] + reset * own[2]) + z * h
            states[t] = h
        found.append(states)
    return np.concatenate(found, axis=1)


def gru(directions: int, *, with_lengths: bool = True) -> tuple[bytes, Graph]:
    """`x` (rows, time, FEATURES), `length` (rows,) -> `y` (rows, time, directions * HIDDEN), `halved` (rows, half,
    the same), every second step of it. Without lengths padding leaks into the backward direction."""
    size = directions * HIDDEN
    sequence = "length32" if with_lengths else ""
    direction = "forward" if directions == 1 else "bidirectional"
    nodes = [
        helper.make_node("Cast", ["length"], ["length32"], to=TensorProto.INT32),
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(
            "GRU", ["steps", "w", "r", "b", sequence], ["states"],
            hidden_size=HIDDEN, linear_before_reset=1, direction=direction,
        ),
        helper.make_node("Transpose", ["states"], ["by_row"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["by_row", "shape"], ["y"]),
        helper.make_node("Slice", ["y", "begin", "end", "axis", "step"], ["halved"]),
    ]  # fmt: skip
    constants = weights(directions) | {
        "shape": np.array([0, 0, size]),
        "begin": np.array([0]),
        "end": np.array([2**31]),
        "axis": np.array([1]),
        "step": np.array([2]),
    }
    shapes = {"x": ["rows", "time", FEATURES], "y": ["rows", "time", size], "halved": ["rows", "half", size]}
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    length = helper.make_tensor_value_info("length", TensorProto.INT64, ["rows"])
    data = onnx_bytes(nodes, [info["x"], length], [info["y"], info["halved"]], constants)
    spec = {name: {"name": name, "dtype": "float32", "shape": shape} for name, shape in shapes.items()}
    inputs = [spec["x"], {"name": "length", "dtype": "int64", "shape": ["rows"]}]
    outputs = [spec["y"], spec["halved"]]
    document = {"file": "gru.onnx", "sha256": sha256(data), "inputs": inputs, "outputs": outputs}
    return data, Graph.model_validate_json(json.dumps(document))


def rows_of(*lengths: int, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Rows filled up with zeros, and their lengths."""
    rng = np.random.default_rng(seed)
    x = np.zeros((len(lengths), max(lengths), FEATURES), np.float32)
    for row, length in zip(x, lengths, strict=True):
        row[:length] = rng.normal(size=(length, FEATURES))
    return {"x": x, "length": np.array(lengths)}


def classifier(least: int = 1) -> tuple[bytes, dict[str, Any]]:
    """`x` (rows, time, FEATURES), `length` -> `probabilities` (rows, 2) of the last state of a GRU, and its tensors.

    Rows of fewer steps than `least` are refused by the graph, as a front end with a window refuses them.
    """
    constants = weights(1) | {"window": np.ones((FEATURES, 1, least), np.float32), "axes": np.array([0])}
    constants |= {"v": np.random.default_rng(9).normal(size=(HIDDEN, 2)).astype(np.float32)}
    nodes = [
        helper.make_node("Cast", ["length"], ["length32"], to=TensorProto.INT32),
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("GRU", ["steps", "w", "r", "b", "length32"], ["", "last"], hidden_size=HIDDEN,
                         linear_before_reset=1),
        helper.make_node("Squeeze", ["last", "axes"], ["state"]),
        helper.make_node("MatMul", ["state", "v"], ["logits"]),
        helper.make_node("Transpose", ["x"], ["by_feature"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["by_feature", "window"], ["windows"], group=FEATURES),
        helper.make_node("ReduceMax", ["windows"], ["peak"], axes=[1, 2], keepdims=0),
        helper.make_node("Sub", ["peak", "peak"], ["nothing"]),
        helper.make_node("Unsqueeze", ["nothing", "last_axis"], ["zero"]),
        helper.make_node("Add", ["logits", "zero"], ["all"]),
        helper.make_node("Softmax", ["all"], ["probabilities"], axis=1),
    ]  # fmt: skip
    constants["last_axis"] = np.array([1])
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", "time", FEATURES]),
        helper.make_tensor_value_info("length", TensorProto.INT64, ["rows"]),
    ]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 2])]
    tensors = {
        "inputs": [
            {"name": "x", "dtype": "float32", "shape": ["rows", "time", FEATURES]},
            {"name": "length", "dtype": "int64", "shape": ["rows"]},
        ],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["rows", 2]}],
    }
    return onnx_bytes(nodes, inputs, outputs, constants), tensors


def probabilities(inputs: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """What the classifier must answer, each row computed alone."""
    v = np.random.default_rng(9).normal(size=(HIDDEN, 2)).astype(np.float32)
    rows = zip(inputs["x"], inputs["length"], strict=True)
    e = np.exp(np.stack([hidden_states(x[:length], 1)[-1] @ v for x, length in rows]))
    answer: NDArray[np.float64] = e / e.sum(axis=1, keepdims=True)
    return answer


def make_classifier(root: Path, name: str = "steps", *, least: int = 1, golden: bool = True) -> Path:
    """Publish the classifier of sequences, with golden rows of 6, 9 and 4 steps."""
    data, tensors = classifier(least)
    manifest = classifier_manifest(data, name=name, labels=LABELS)
    graph = {"file": "classifier.onnx", "sha256": sha256(data), **tensors}
    manifest |= {"modality": "tensor", "picture": None, "graphs": {"classifier": graph}}
    files = {"classifier.onnx": data}
    if golden:
        rows = rows_of(6, 9, 4)
        files["golden.npz"] = npz(**rows, probabilities=probabilities(rows).astype(np.float32))
        proof = {"graph": "classifier", "rows": 3, "atol": 1e-4, "sha256": sha256(files["golden.npz"])}
        manifest["golden"] = {"file": "golden.npz", **proof}
    return write_folder(root, manifest, files)
