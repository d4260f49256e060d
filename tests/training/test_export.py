"""Publishing: all or nothing, never twice, and never a graph that differs from what was trained."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from app.engine.session import Session
from training import export
from training.export import Export, PublishError, check_can_publish, next_version, staged
from training.networks.recurrent import GRU


class Softmax(nn.Module):
    """uint8 (N, 4) -> probabilities (N, 4)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x.float() / 255, dim=1)


class Unequal(nn.Module):
    """Traced as one function, run as another: what a parity check is for."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float() * (1.0 if torch.compiler.is_exporting() else 1.001)


def rows() -> Tensor:
    return torch.randint(0, 256, (40, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_graph_takes_any_number_of_rows_and_says_what_torch_says(tmp_path: Path) -> None:
    made = Export(graph="classifier", module=Softmax(), inputs={"image": rows()}, outputs=("probabilities",))
    written = export.write_graph(tmp_path, made)
    graph, golden = written.graph, export.write_golden(tmp_path, "golden.npz", "classifier", written)
    session = ort.InferenceSession(tmp_path / graph.file, providers=["CPUExecutionProvider"])
    for n in (1, 3, 40):
        x = rows()[:n].numpy()
        e = np.exp(x / 255.0)
        assert np.allclose(session.run(None, {"image": x})[0], e / e.sum(1, keepdims=True), atol=1e-6)
    assert written.parity_max_abs < 1e-6
    data = (tmp_path / graph.file).read_bytes()
    assert Path(__file__).name.encode() not in data  # nor any other file that was on the way
    assert str(Path(torch.__file__).parent).encode() not in data
    assert graph.inputs[0].shape == ("rows", 4)
    assert graph.sha256 == export.sha256(tmp_path / graph.file)
    with np.load(tmp_path / golden.file) as kept:
        assert set(kept) == {"image", "probabilities"}
        assert len(kept["image"]) == golden.rows == 10


class Scaled(nn.Module):
    """x (N, 4), sigma (N,), label (N,) -> (N, 4)."""

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        return x / (1 + sigma[:, None] ** 2) + label[:, None]


def test_a_graph_of_several_inputs_keeps_their_order_names_and_types(tmp_path: Path) -> None:
    inputs = {"x": rows().float(), "sigma": torch.linspace(0.1, 4, 40), "label": torch.arange(40) % 10}
    made = Export(graph="denoiser", module=Scaled(), inputs=inputs, outputs=("denoised",), golden_rows=3)
    written = export.write_graph(tmp_path, made)
    assert [(spec.name, spec.dtype, spec.shape) for spec in written.graph.inputs] == [
        ("x", "float32", ("rows", 4)),
        ("sigma", "float32", ("rows",)),
        ("label", "int64", ("rows",)),
    ]
    golden = written.golden
    assert {len(array) for array in golden.values()} == {3}
    expected = golden["x"] / (1 + golden["sigma"][:, None] ** 2) + golden["label"][:, None]
    assert np.allclose(golden["denoised"], expected, atol=1e-4)


def test_a_graph_that_differs_from_torch_is_refused_with_both_figures(tmp_path: Path) -> None:
    made = Export(graph="classifier", module=Unequal(), inputs={"image": rows()}, outputs=("probabilities",))
    with pytest.raises(
        PublishError,
        match=r"'probabilities' of ONNX Runtime differs from torch's by 2\.\d+e-01 on 40 rows",
    ):
        export.write_graph(tmp_path, made)


class Recurrent(nn.Module):
    """x (B, T, 3), length (B,) -> y (B, (T + 1) // 2, 2), steps (B,), and states (B, T, D * 5)."""

    def __init__(self, directions: int) -> None:
        super().__init__()
        self.gru = GRU(3, 5, bidirectional=directions == 2)
        self.head = GRU(5 * directions, 2)

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, _ = self.gru(x, length)
        steps = (length + 1) // 2
        y, _ = self.head(states[:, ::2], steps)
        return y, steps, states


def sequences(module: nn.Module) -> Export:
    """Rows of 8 to 12 steps."""
    generator = torch.Generator().manual_seed(0)
    length = torch.tensor([9, 12, 8, 11, 10, 12])
    x = torch.randn(6, 12, 3, generator=generator) * (torch.arange(12) < length[:, None])[..., None]
    return Export(
        graph="recurrent",
        module=module,
        inputs={"x": x, "length": length},
        outputs=("y", "steps", "states"),
        dynamic={"x": {1: "time"}},
        golden_rows=1,
    )


@pytest.mark.slow  # three exports
def test_recurrent_graphs_are_right_at_every_length_however_many_were_exported_before(tmp_path: Path) -> None:
    for number in range(3):
        torch.manual_seed(number)
        directions = 1 + number % 2
        module = Recurrent(directions)
        written = export.write_graph(tmp_path, sequences(module))
        assert written.parity_max_abs < 1e-5
        assert [spec.shape for spec in written.graph.inputs] == [("rows", "time", 3), ("rows",)]
        shapes = [("rows", "frames", 2), ("rows",), ("rows", "time", 5 * directions)]
        assert [spec.shape for spec in written.graph.outputs] == shapes
        assert written.golden["x"].shape == (1, 9, 3)  # of the first row alone, without what filled it up
        assert written.golden["y"].shape == (1, 5, 2)
        # Loaded by the app, which compares the names of axes; 31 steps and a row of 1 were in no check.
        data = (tmp_path / written.graph.file).read_bytes()
        session = Session(data, written.graph, where="m/1", device="cpu", threads=1)
        length = torch.tensor([31, 1, 16])
        x = torch.randn(3, 31, 3)
        got = session.run({"x": x.numpy(), "length": length.numpy()})
        with torch.no_grad():
            expected = module(x, length)
        for one, other in zip(got.values(), expected, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
        too_long = session.run({"x": x.numpy(), "length": np.array([99, 0, -5])})  # fails no run
        assert np.isfinite(too_long["y"]).all()


def test_what_is_staged_appears_whole_and_leaves_no_trace_beside_it(tmp_path: Path) -> None:
    with staged(tmp_path, "net", "1") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "net" / "1").exists()
    assert (tmp_path / "net" / "1" / "a.txt").read_text() == "a"
    assert [p.name for p in (tmp_path / "net").iterdir()] == ["1"]
    assert next_version(tmp_path, "net") == "2"


@pytest.mark.parametrize("failure", [RuntimeError("parity"), OSError(errno.ENOSPC, "No space left on device")])
def test_a_failure_on_the_way_publishes_nothing(tmp_path: Path, failure: Exception) -> None:
    expected = PublishError if isinstance(failure, OSError) else RuntimeError

    def publish_half() -> None:
        with staged(tmp_path, "net", "1") as folder:
            (folder / "half.onnx").write_bytes(b"half")
            raise failure

    with pytest.raises(expected, match=r"No space left|parity"):
        publish_half()
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_exists_is_never_written_again(tmp_path: Path) -> None:
    (tmp_path / "net" / "1").mkdir(parents=True)
    (tmp_path / "net" / "1" / "manifest.json").write_text("{}")
    with pytest.raises(PublishError, match="next version is 2"):
        check_can_publish(tmp_path, "net", "1")
    with pytest.raises(PublishError, match="cannot be put in place"), staged(tmp_path, "net", "1") as folder:
        (folder / "manifest.json").write_text("other")
    assert (tmp_path / "net" / "1" / "manifest.json").read_text() == "{}"


def test_a_full_disk_is_named_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = SimpleNamespace(free=5 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(PublishError, match="5 MiB free, expected 64 or more"):
        check_can_publish(tmp_path, "net", None)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write where others may not")
def test_a_read_only_folder_is_named_before_training(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(PublishError, match="cannot be written"):
        check_can_publish(tmp_path, "net", None)


def test_a_folder_that_cannot_be_written_is_named_before_training() -> None:
    with pytest.raises(PublishError, match=r"/proc/models/net: cannot be written"):
        check_can_publish(Path("/proc/models"), "net", None)


def test_a_check_that_passes_leaves_no_folder_behind(tmp_path: Path) -> None:
    check_can_publish(tmp_path, "net", None)
    assert list(tmp_path.iterdir()) == []


def test_quantisation_tools_take_a_graph(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 512), nn.ReLU(), nn.Linear(512, 3))
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    made = Export(graph="classifier", module=net, inputs={"x": x}, outputs=("y",))
    export.write_graph(tmp_path, made)
    quantize_dynamic(tmp_path / "classifier.onnx", tmp_path / "small.onnx", weight_type=QuantType.QUInt8)
    session = ort.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.numpy()})
    assert np.allclose(found, net(x).detach().numpy(), atol=0.05)
    assert (tmp_path / "small.onnx").stat().st_size < (tmp_path / "classifier.onnx").stat().st_size
