"""A run that does not end: who waits for it is told, and the server ends all the same."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.app.server.test_shutdown import Line, get
from tests.app.test_faults import bright, slow_onnx
from tests.app.test_main import process
from tests.made_models import classifier_manifest, write_folder

ENDLESS = 10**6  # times 200 products of large matrices: hours


@pytest.fixture
def models(tmp_path: Path) -> Path:
    graph = slow_onnx(ENDLESS)
    write_folder(tmp_path, classifier_manifest(graph, name="endless"), {"classifier.onnx": graph})
    return tmp_path


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_never_ends_holds_up_neither_the_loop_nor_the_end(models: Path, workers: int) -> None:
    flags = ("--models", str(models), "--device", "cpu", "--threads", "1", "--grace-s", "1", "--log-level", "error")
    with process(*flags, "--workers", str(workers), errors=subprocess.PIPE) as (started, _, port):
        with Line(port) as line:
            assert line.ask(bright("endless", 0))[0] == 200  # quick: the next one would be run on the loop
            line.send(bright("endless", 200).replace(b"\r\n\r\n", b"\r\nX-Request-Deadline-Ms: 300\r\n\r\n", 1))
            assert line.answer_of_any()[0] == 504
        with Line(port) as line:
            assert line.ask(get("/health/live"))[0] == 200
        started.send_signal(signal.SIGTERM)
        _, errors = started.communicate(timeout=30)
    assert started.returncode == 1
    assert "runs of endless/1/classifier did not end within the grace period and are cut" in errors
