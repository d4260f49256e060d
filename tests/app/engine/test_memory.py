"""What models take of the process's memory: measured as the system counts it, in a process of its own."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from app.core.manifest import Graph
from app.engine.loading import load_model
from app.engine.process import give_back_memory, resident_bytes
from app.engine.runtime import CPU
from app.engine.session import Session
from tests.made_models import make_classifier_folder, onnx_bytes

MB = 1 << 20
MAX_ROWS = 64
SIDE = 64
CHANNELS = 16  # one layer's output of a full batch: 64 * 16 * 64 * 64 floats, 16 MB

pytestmark = pytest.mark.skipif(not resident_bytes(), reason="this system does not tell how much memory is resident")


def layers() -> bytes:
    """Four convolutions, each with 16 channels of 64 x 64."""
    rng = np.random.default_rng(0)
    weights = {"w0": rng.normal(size=(CHANNELS, 1, 3, 3)).astype(np.float32)}
    weights |= {f"w{i}": rng.normal(size=(CHANNELS, CHANNELS, 3, 3)).astype(np.float32) / 12 for i in (1, 2, 3)}
    names = ["x", "h0", "h1", "h2", "y"]
    nodes = [helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], pads=[1] * 4) for i in range(4)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1, SIDE, SIDE])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", CHANNELS, SIDE, SIDE])
    return onnx_bytes(nodes, [x], [y], weights)


def session() -> Session:
    graph = Graph.model_validate(
        {
            "file": "g.onnx",
            "sha256": "0" * 64,
            "inputs": ({"name": "x", "dtype": "float32", "shape": ("rows", 1, SIDE, SIDE)},),
            "outputs": ({"name": "y", "dtype": "float32", "shape": ("rows", CHANNELS, SIDE, SIDE)},),
        }
    )
    return Session(layers(), graph, where="m/1/g.onnx", device="cpu", threads=1)


def grown_under_load() -> int:
    """Bytes that a warmed session grows by in runs of 22 different numbers of rows, twice each: what the runtime
    remembers of a number of rows it uses from the second time on."""
    served = session()
    served.warm(MAX_ROWS)
    give_back_memory()
    before = resident_bytes()
    for rows in random.Random(0).sample([*range(1, MAX_ROWS + 1, 3)] * 2, 44):
        served.run({"x": np.zeros((rows, 1, SIDE, SIDE), np.float32)})
    give_back_memory()
    return resident_bytes() - before


def grown_by_sessions() -> int:
    """Bytes that a process grows by between its third and its twelfth session, each in the place of the one before."""
    served, before = session(), 0
    for number in range(12):
        served = session()
        served.warm(4)
        give_back_memory()
        if number == 2:
            before = resident_bytes()
    return resident_bytes() - before


@pytest.mark.parametrize(("what", "most_mb"), [("grown_under_load", 8), ("grown_by_sessions", 4)])
def test_memory_is_flat(what: str, most_mb: int) -> None:
    code = f"from tests.app.engine.test_memory import *; print({what}())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < most_mb * MB


def test_models_share_one_arena() -> None:
    """The second one, of the same size, needs none of its own: only its weights, a few kilobytes here."""
    code = (
        "from tests.app.engine.test_memory import *\n"
        "def rss(): give_back_memory(); return resident_bytes()\n"
        "made, grown = [session(), session()], [rss()]\n"
        "for served in made: served.warm(MAX_ROWS); grown.append(rss())\n"
        "print(grown[1] - grown[0], grown[2] - grown[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert first > 32 * MB
    assert second < 4 * MB


def test_a_session_counts_its_nodes_and_says_how_large_its_file_is() -> None:
    made = session()
    assert made.nodes == {CPU: 4}
    assert made.weight_bytes == len(layers())


def test_a_loaded_model_says_what_the_process_grew_by(tmp_path: Path) -> None:
    make_classifier_folder(tmp_path, "digits")
    loaded = load_model(tmp_path, "digits", "1", device="cpu", threads=1)
    assert 0 <= loaded.memory_bytes < 64 * MB
    assert {name: made.nodes for name, made in loaded.sessions.items()} == {"classifier": {CPU: 5}}
