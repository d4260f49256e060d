"""Files that processes make once and map together, and the sessions that run from them."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from app.core.errors import LoadRefused
from app.core.manifest import Graph
from app.engine.runtime import CPU
from app.engine.session import Session
from app.engine.shared_weights import SharedWeights
from tests.made_models import onnx_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are shared on Linux only")

CHANNELS = 256
ROWS = 3


def convolution(channels: int = CHANNELS, seed: int = 0) -> bytes:
    """y = conv3x3(x), 9 * channels^2 weights: 2.4 MB for 256 channels."""
    w = np.random.default_rng(seed).normal(size=(channels, channels, 3, 3)).astype(np.float32)
    shape = ["rows", channels, 4, 4]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    return onnx_bytes([helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], tensors[:1], tensors[1:], {"w": w})


def graph(channels: int = CHANNELS) -> Graph:
    spec = {"dtype": "float32", "shape": ("rows", channels, 4, 4)}
    return Graph.model_validate(
        {"file": "g.onnx", "sha256": "0" * 64, "inputs": ({"name": "x", **spec},), "outputs": ({"name": "y", **spec},)}
    )


def load(data: bytes, shared: SharedWeights | None, channels: int = CHANNELS) -> Session:
    return Session(data, graph(channels), where="m/1/g.onnx", device="cpu", threads=1, shared=shared)


def made_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "lock")


def mapped_bytes(name: str) -> int:
    """Of this process, from files whose path has `name` in it."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.partition(" ")[0].count("-") == 1 and ":" not in line.partition(" ")[0]:
            inside = name in line
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def test_a_session_from_a_mapped_file_answers_as_one_from_the_bytes(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(ROWS, CHANNELS, 4, 4)).astype(np.float32)
    plain, mapped = load(convolution(), None), load(convolution(), SharedWeights(tmp_path))
    np.testing.assert_array_equal(mapped.run({"x": x})["y"], plain.run({"x": x})["y"])
    assert mapped.nodes == plain.nodes == {CPU: 1}
    assert mapped.weight_bytes == len(convolution())


def test_the_weights_that_run_are_those_of_the_map_and_of_one_file_for_all(tmp_path: Path) -> None:
    shared = SharedWeights(tmp_path)
    sessions = [load(convolution(), shared) for _ in range(3)]
    (name,) = made_in(tmp_path)
    for session in sessions:
        session.warm(2)
    assert mapped_bytes(str(tmp_path / name)) > 3 * 9 * CHANNELS**2 * 4


def test_another_process_maps_the_file_and_makes_none(tmp_path: Path) -> None:
    data = tmp_path / "g.onnx"
    data.write_bytes(convolution())
    folder = tmp_path / "shared"
    folder.mkdir()
    first = load(convolution(), SharedWeights(folder))
    (name,) = made_in(folder)
    inode = (folder / name).stat().st_ino
    code = (
        "import sys; from pathlib import Path; from tests.app.engine.test_shared_weights import *\n"
        "s = load(Path(sys.argv[1]).read_bytes(), SharedWeights(Path(sys.argv[2]))); s.warm(1)\n"
        "print(mapped_bytes(sys.argv[2]), s.nodes)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(data), str(folder)], capture_output=True, text=True, check=True
    ).stdout
    assert int(told.split()[0]) > 9 * CHANNELS**2 * 4
    assert (folder / name).stat().st_ino == inode
    assert first.run({"x": np.zeros((1, CHANNELS, 4, 4), np.float32)})["y"].max() == 0


def test_what_nobody_maps_any_more_is_removed_when_the_next_is_made(tmp_path: Path) -> None:
    shared = SharedWeights(tmp_path)
    old, kept = load(convolution(seed=1), shared), load(convolution(seed=2), shared)
    (both,) = {len(made_in(tmp_path))}
    assert both == 2
    del old
    third = load(convolution(seed=3), shared)
    assert len(made_in(tmp_path)) == 2
    for session in (kept, third):
        session.warm(1)


def test_a_file_whose_name_is_taken_away_goes_on_answering(tmp_path: Path) -> None:
    session = load(convolution(), SharedWeights(tmp_path))
    x = np.ones((1, CHANNELS, 4, 4), np.float32)
    before = session.run({"x": x})["y"]
    for path in tmp_path.iterdir():
        path.unlink()
    np.testing.assert_array_equal(session.run({"x": x})["y"], before)


def test_where_nothing_can_be_shared_the_model_is_served_all_the_same_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        session = load(convolution(), SharedWeights(tmp_path / "not-there"))
    session.warm(1)
    assert "m/1/g.onnx: its memory is not shared with other workers" in caplog.text
    assert "not-there" in caplog.text


def test_a_file_that_cannot_be_written_leaves_nothing_behind_and_the_model_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "part").mkdir()  # where the file would be made
    with caplog.at_level(logging.WARNING):
        load(convolution(), SharedWeights(tmp_path)).warm(1)
    assert "its memory is not shared" in caplog.text
    assert made_in(tmp_path) == ["part"]


def test_bytes_that_are_no_graph_are_refused_as_ever(tmp_path: Path) -> None:
    with pytest.raises(LoadRefused, match=r"m/1/g\.onnx: expected an ONNX graph"):
        load(b"garbage" * 100, SharedWeights(tmp_path))
    assert made_in(tmp_path) == []


def test_only_one_process_builds_while_the_others_wait(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from app.engine.shared_weights import SharedWeights\n"
        "def build(path):\n"
        "    with open(sys.argv[2], 'a') as log: log.write('built\\n')\n"
        "    path.write_bytes(b'x' * 100); return '7'\n"
        "file = SharedWeights(Path(sys.argv[1])).file('key', build)\n"
        "print(file.note, len(open(file.path, 'rb').read()))"
    )
    folder = tmp_path / "shared"
    folder.mkdir()
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(folder), str(tmp_path / "log")], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [process.communicate()[0] for process in running] == [b"7 100\n"] * 4
    assert (tmp_path / "log").read_text() == "built\n"
