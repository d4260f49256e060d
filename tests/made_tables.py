"""Tiny real models for tests of tables and of numbers, whose answers are known without running them: see `chances`
and `grades`; `make_grey_folder` tells the mean grey level of a picture.

A row is the lectures attended, the hours of work and the course. Where the hours are missing, FILL is put in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.core.manifest.table import CategoryColumn, Conformal, NumberColumn, Table, Target
from tests.made_models import PHOTO, classifier_manifest, npz, onnx_bytes, sha256, write_folder

FILL = 5.0
COURSES = ("morning", "evening", "online")
PASS = ("fail", "pass")
TABLE = Table(
    columns=(
        NumberColumn(kind="number", name="lectures", about="attended, of twelve", low=0, high=12),
        NumberColumn(kind="number", name="hours", unit="h", missing=True, low=0, high=20),
        CategoryColumn(kind="category", name="course", categories=COURSES),
    )
)
ROWS = np.array([[4, 5, 0], [12, 20, 2], [1, np.nan, 1]], np.float32)
GRADE = Target(name="grade", unit="points", low=0, high=15)
SCORES = tuple(round(0.1 * (i + 1), 1) for i in range(19))
"""They promise 0.95 at most; half of new rows are within 1 scale, nine of ten within 1.8."""

_CHANCE = (0.5, 0.25, -1.0), -3.0
_VALUE = (0.5, 0.1, 1.0), 2.0
_SCALE = (0.1, 0.0, 0.0), 1.0


def _linear(rows: NDArray[np.floating[Any]], weights: Sequence[float], bias: float) -> NDArray[np.float64]:
    filled = np.where(np.isnan(rows), FILL, rows.astype(np.float64))
    made: NDArray[np.float64] = filled @ np.array(weights) + bias
    return made


def chances(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Probabilities of PASS (rows, 2): logistic of 0.5 lectures + 0.25 hours - course - 3."""
    p = 1 / (1 + np.exp(-_linear(rows, *_CHANCE)))
    return np.stack([1 - p, p], axis=1)


def grades(rows: NDArray[np.floating[Any]], slope: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Value, slope times 2 + 0.5 lectures + 0.1 hours + course, and scale, 1 + 0.1 lectures; each (rows,)."""
    return slope * _linear(rows, *_VALUE), _linear(rows, *_SCALE)


def _filled() -> list[onnx.NodeProto]:
    return [
        helper.make_node("IsNaN", ["row"], ["gaps"]),
        helper.make_node("Where", ["gaps", "fill", "row"], ["filled"]),
    ]


def _onnx(
    nodes: list[onnx.NodeProto], outputs: dict[str, list[Any]], layers: dict[str, Any], **constants: NDArray[Any]
) -> bytes:
    constants["fill"] = np.array([FILL], np.float32)
    for name, (weights, bias) in layers.items():
        constants[f"w_{name}"] = np.array(weights, np.float32)[:, None]
        constants[f"b_{name}"] = np.array([bias], np.float32)
    return onnx_bytes(
        [*_filled(), *nodes],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        constants,
    )


def _manifest(data: bytes, golden: bytes, graph: str, outputs: dict[str, list[Any]], **fields: Any) -> dict[str, Any]:
    manifest = classifier_manifest(data) | {
        "modality": "table",
        "summary": "Made for tests.",
        "labels": [],
        "table": TABLE.model_dump(mode="json"),
        "graphs": {
            graph: {
                "file": f"{graph}.onnx",
                "sha256": sha256(data),
                "inputs": [{"name": "row", "dtype": "float32", "shape": ["rows", 3]}],
                "outputs": [{"name": name, "dtype": "float32", "shape": shape} for name, shape in outputs.items()],
            }
        },
        "golden": {"file": "golden.npz", "sha256": sha256(golden), "graph": graph, "rows": len(ROWS), "atol": 1e-4},
        **fields,
    }
    del manifest["picture"]
    return manifest


def make_table_classifier_folder(root: Path, name: str = "pass", max_rows: int = 64) -> Path:
    """Publish `chances` as `<root>/<name>/1/`; returns that folder."""
    outputs: dict[str, list[Any]] = {"probabilities": ["rows", 2]}
    nodes = [
        helper.make_node("Gemm", ["filled", "w_chance", "b_chance"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["yes"]),
        helper.make_node("Neg", ["z"], ["minus_z"]),
        helper.make_node("Sigmoid", ["minus_z"], ["no"]),
        helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
    ]
    data = _onnx(nodes, outputs, {"chance": _CHANCE})
    golden = npz(row=ROWS, probabilities=chances(ROWS).astype(np.float32))
    manifest = _manifest(
        data, golden, "classifier", outputs, name=name, labels=list(PASS), title="Will I pass?", max_rows=max_rows
    )
    return write_folder(root, manifest, {"classifier.onnx": data, "golden.npz": golden})


def make_regressor_folder(
    root: Path,
    name: str = "grade",
    scores: Sequence[float] | None = SCORES,
    *,
    slope: float = 1.0,
    max_rows: int = 64,
) -> Path:
    """Publish `grades` as `<root>/<name>/1/`; without scores it has no scale either. Returns that folder."""
    value, scale = (array.astype(np.float32) for array in grades(ROWS, slope))
    parts = ["value"] if scores is None else ["value", "scale"]
    outputs: dict[str, list[Any]] = {part: ["rows"] for part in parts}
    nodes: list[onnx.NodeProto] = []
    for part in parts:
        nodes.append(helper.make_node("Gemm", ["filled", f"w_{part}", f"b_{part}"], [f"{part}_column"]))
        nodes.append(helper.make_node("Squeeze", [f"{part}_column", "axis"], [part]))
    weights, bias = _VALUE
    layers = {"value": ([slope * w for w in weights], slope * bias), "scale": _SCALE}
    data = _onnx(nodes, outputs, {part: layers[part] for part in parts}, axis=np.array([1]))
    golden = npz(row=ROWS, value=value) if scores is None else npz(row=ROWS, value=value, scale=scale)
    conformal = None if scores is None else Conformal(method="split", scores=tuple(scores)).model_dump(mode="json")
    manifest = _manifest(
        data,
        golden,
        "regressor",
        outputs,
        name=name,
        task="regress",
        title="What will my grade be?",
        target=GRADE.model_dump(mode="json"),
        conformal=conformal,
        max_rows=max_rows,
    )
    return write_folder(root, manifest, {"regressor.onnx": data, "golden.npz": golden})


def make_grey_folder(root: Path, name: str = "grey") -> Path:
    """Publish a regressor of pictures, their mean grey level, as `<root>/<name>/1/`; returns that folder."""
    data = onnx_bytes(
        [
            helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats"], ["value"], axes=[1, 2, 3], keepdims=0),
        ],
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", *PHOTO.shape])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["rows"])],
    )
    manifest = classifier_manifest(data, name=name, picture=PHOTO) | {
        "task": "regress",
        "labels": [],
        "target": {"name": "grey level", "low": 0.0, "high": 255.0},
    }
    graph = manifest["graphs"].pop("classifier")
    outputs = [{"name": "value", "dtype": "float32", "shape": ["rows"]}]
    manifest["graphs"] = {"regressor": graph | {"file": "regressor.onnx", "outputs": outputs}}
    return write_folder(root, manifest, {"regressor.onnx": data})
