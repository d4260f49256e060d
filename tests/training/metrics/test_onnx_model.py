"""Published folders, each with a real graph: mean brightness b of a 2x2 picture -> softmax of (0, 4 b)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app.core.errors import LoadRefused
from app.core.manifest import MANIFEST_FILE, DataSource, Graph, Made, Manifest, PhotoPicture, TensorSpec
from training.metrics.onnx_model import latency_ms, load_manifest, probabilities


def bright_or_dark() -> bytes:
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    weight = np.zeros((4, 2), np.float32)
    weight[:, 1] = 4 / (4 * 255)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", 2, 2, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 2])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = bright_or_dark()
    (tmp_path / "classifier.onnx").write_bytes(data)
    manifest = Manifest(
        schema_version=1,
        name="bright",
        version="1",
        task="classify",
        modality="image",
        title="Bright or dark",
        summary="Tells bright pictures from dark ones.",
        graphs={
            "classifier": Graph(
                file="classifier.onnx",
                sha256=hashlib.sha256(data).hexdigest(),
                inputs=(TensorSpec(name="image", dtype="uint8", shape=("rows", 2, 2, 1)),),
                outputs=(TensorSpec(name="probabilities", dtype="float32", shape=("rows", 2)),),
            )
        },
        labels=("dark", "bright"),
        picture=PhotoPicture(kind="photo", height=2, width=2, channels=1),
        max_rows=8,
        data=DataSource(name="made", source="made", licence="CC0", rows_train=1, rows_held_out=0, rows_test=0),
        made=Made(
            command="true",
            at="2025-01-01T00:00:00Z",
            train_s=0.0,
            machine="any",
            precision="float32",
            parameters=8,
            parity_max_abs=0.0,
            parity_rows=1,
            packages={},
        ),
    )
    (tmp_path / MANIFEST_FILE).write_text(manifest.model_dump_json())
    return tmp_path


def test_the_probabilities_are_those_of_the_formula_across_batches(folder: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (21, 2, 2, 1), dtype=np.uint8)
    got = probabilities(folder, x, threads=1)
    bright = 1 / (1 + np.exp(-4 * x.mean(axis=(1, 2, 3)) / 255))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.stack([1 - bright, bright], axis=1), atol=1e-6)
    assert probabilities(folder, x[:0], threads=1).shape == (0, 2)


def test_rows_of_another_shape_or_type_are_refused_by_name(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"input 'image' is uint8 \('rows', 2, 2, 1\), got uint8 \(3, 2, 2, 3\)"):
        probabilities(folder, np.zeros((3, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="got float32"):
        probabilities(folder, np.zeros((3, 2, 2, 1), np.float32))


def test_latency_is_measured_for_the_sizes_that_the_model_takes(folder: Path) -> None:
    found = latency_ms(folder, "classifier", (1, 8, 9), repeats=5, threads=1, budget_s=0.1)
    assert [entry.rows for entry in found] == [1, 8]
    assert all(0 < entry.median_ms <= entry.p95_ms and 3 <= entry.repeats <= 5 for entry in found)
    assert "1 thread" in found[0].device
    with pytest.raises(ValueError, match=r"no graph 'decoder', the manifest has \['classifier'\]"):
        latency_ms(folder, "decoder")


def test_a_graph_that_differs_from_its_hash_is_refused(folder: Path) -> None:
    (folder / "classifier.onnx").write_bytes(bright_or_dark() + b"\0")
    with pytest.raises(LoadRefused, match=r"classifier\.onnx: sha256 is .*, the manifest says"):
        probabilities(folder, np.zeros((1, 2, 2, 1), np.uint8))


def test_a_missing_graph_a_missing_manifest_and_a_broken_one_are_refused_by_name(folder: Path) -> None:
    (folder / "classifier.onnx").unlink()
    with pytest.raises(LoadRefused, match=r"classifier\.onnx: cannot be read \(No such file"):
        probabilities(folder, np.zeros((1, 2, 2, 1), np.uint8))
    (folder / MANIFEST_FILE).write_text("{}")
    with pytest.raises(LoadRefused, match=r"manifest\.json: not a manifest"):
        load_manifest(folder)
    (folder / MANIFEST_FILE).unlink()
    with pytest.raises(LoadRefused, match=r"manifest\.json: cannot be read"):
        load_manifest(folder)
