"""Golden rows at a start: what a graph with variable axes is warmed with, and each row alone besides all together."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from app.core.errors import InferenceFailed, LoadRefused
from app.engine.loading import GOLDEN_BYTES, Loaded, load_model
from app.engine.session import Session
from tests.app import recurrent
from tests.made_models import classifier_manifest, npz, onnx_bytes, sha256, write_folder


def load(root: Path, name: str) -> Loaded:
    return load_model(root, name, "1", device="cpu", threads=1)


def test_a_graph_with_a_least_length_is_warmed_with_its_golden_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recurrent.make_classifier(tmp_path, "steps", least=4)
    shapes = []
    real = Session.run

    def run(session: Session, tensors: Any) -> Any:
        shapes.append(tensors["x"].shape)
        return real(session, tensors)

    monkeypatch.setattr(Session, "run", run)
    loaded = load(tmp_path, "steps")
    assert shapes[0] == (loaded.manifest.max_rows, 9, 3)
    assert set(shapes[1:]) == {(1, 9, 3)}
    rows = recurrent.rows_of(5, 7)
    answers = loaded.sessions["classifier"].run(rows)
    np.testing.assert_allclose(answers["probabilities"], recurrent.probabilities(rows), atol=1e-5)


def test_without_golden_rows_its_variable_axes_have_size_1(tmp_path: Path) -> None:
    recurrent.make_classifier(tmp_path, "free", golden=False)
    load(tmp_path, "free")
    recurrent.make_classifier(tmp_path, "least", least=4, golden=False)
    with pytest.raises(InferenceFailed, match=r"least/1/classifier\.onnx: the runtime failed"):
        load(tmp_path, "least")


def make_dependent(root: Path, *, share: float) -> None:
    """Probabilities are softmax(x - share * the mean of the run's rows): right for the golden rows, all together; the
    first one's it leaves as they are."""
    data = onnx_bytes(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Mul", ["mean", "share"], ["some"]),
            helper.make_node("Sub", ["x", "some"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 2])],
        {"share": np.float32(share)},
    )
    x = np.array([[0, 0], [3, 1], [0, 2]], np.float32)
    e = np.exp(x - share * x.mean(axis=0))
    golden = npz(x=x, probabilities=(e / e.sum(axis=1, keepdims=True)).astype(np.float32))
    manifest = classifier_manifest(data, name="dependent", labels=("a", "b"))
    tensors = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["rows", 2]}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": ["rows", 2]}],
    }
    manifest |= {
        "modality": "tensor",
        "picture": None,
        "graphs": {"classifier": {"file": "classifier.onnx", "sha256": sha256(data), **tensors}},
        "golden": {"file": "golden.npz", "sha256": sha256(golden), "graph": "classifier", "rows": 3, "atol": 1e-4},
    }
    write_folder(root, manifest, {"classifier.onnx": data, "golden.npz": golden})


def test_a_graph_whose_rows_depend_on_each_other_is_refused_by_name(tmp_path: Path) -> None:
    make_dependent(tmp_path, share=0.5)
    words = (
        r"dependent/1/golden\.npz: 'probabilities' of row 1 differs by 0\.15 from the answer stored there when "
        r"run alone, not among the others \(no row may depend on another\), the manifest allows 0\.0001"
    )
    with pytest.raises(LoadRefused, match=words):
        load(tmp_path, "dependent")


def test_rows_that_depend_on_each_other_by_less_than_the_manifest_allows_are_taken(tmp_path: Path) -> None:
    make_dependent(tmp_path, share=1e-5)
    load(tmp_path, "dependent")


def test_a_golden_file_that_unpacks_to_much_is_refused_before_it_is(tmp_path: Path) -> None:
    rows = np.zeros((4, 9, 3), np.float32)
    recurrent.make_classifier(tmp_path, "large")
    file = io.BytesIO()
    np.savez_compressed(file, x=rows, filler=np.zeros(GOLDEN_BYTES, np.uint8))
    packed = file.getvalue()
    assert len(packed) < GOLDEN_BYTES / 100
    folder = tmp_path / "large" / "1"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / manifest["golden"]["file"]).write_bytes(packed)
    manifest["golden"]["sha256"] = sha256(packed)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LoadRefused, match=f"its arrays are .* bytes, at most {GOLDEN_BYTES} are taken"):
        load(tmp_path, "large")


@pytest.mark.parametrize(("atol", "fits"), [(0.01, True), (0.02, False), (1e308, False)])
def test_a_tolerance_that_lets_everything_pass_is_refused(tmp_path: Path, atol: float, fits: bool) -> None:
    recurrent.make_classifier(tmp_path, "loose")
    path = tmp_path / "loose" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["golden"]["atol"] = atol
    path.write_text(json.dumps(manifest))
    if fits:
        load(tmp_path, "loose")
    else:
        with pytest.raises(LoadRefused, match=r"at most 0\.01 is taken: 1% of the largest answer"):
            load(tmp_path, "loose")
