"""python -m app: its commands in this process, and a real process that starts, serves and stops."""

from __future__ import annotations

import compileall
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from app.__main__ import main
from app.codecs.images.files import encode_png
from tests.app.live import form, grey, make_models
from tests.made_models import make_classifier_folder

ROOT = Path(__file__).parents[2]


def test_models_lists_what_the_folder_holds(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--models", str(models)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["NAME", "VERSION"],
        ["broken", "1"],
        ["digits", "1"],
        ["digits", "2"],
        ["shades", "1"],
    ]
    assert "python -m app verify" in lines[1]


def test_models_of_an_empty_folder_says_what_belongs_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--models", str(tmp_path)]) == 0
    assert "<name>/<version>/manifest.json" in capsys.readouterr().out


def test_verify_ends_with_1_where_a_folder_is_refused(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--models", str(models), "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^REFUSED  broken/1  .*surprise", out, re.MULTILINE)
    assert "good     digits/2" in out
    make_classifier_folder(tmp_path)
    assert main(["verify", "--models", str(tmp_path), "--device", "cpu"]) == 0


def test_schema_prints_the_manifest_s_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Manifest"


def test_key_prints_a_key_and_its_digest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key"]) == 0
    words = capsys.readouterr().out.split()
    assert hashlib.sha256(words[1].encode()).hexdigest() == words[3]


def test_an_unknown_command_ends_with_2() -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["dance"])
    assert exit_.value.code == 2


def test_a_port_in_use_is_one_clear_line(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "app", "--models", str(models), "--port", str(port)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == f"cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert done.stdout == ""


@contextmanager
def process(
    *flags: str, errors: int | IO[str] = subprocess.PIPE, cwd: Path = ROOT, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], list[str], int]]:
    """A server of its own: the process, the lines it printed until it was ready, its port.

    Args:
        errors: where its log goes; a pipe that nobody reads holds 64 KB, and then the server waits.
        cwd: where the app lies.
    """
    command = [sys.executable, "-W", "error", "-m", "app", "--port", "0", *flags]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=errors, text=True) as started:
        try:
            assert started.stdout
            lines = []
            for line in started.stdout:
                lines.append(line.rstrip())
                if line.startswith("Documentation:"):
                    break
            assert lines, started.stderr.read() if started.stderr else ""
            port = re.search(r":(\d+)/docs", lines[-1])
            assert port
            yield started, lines, int(port[1])
        finally:
            started.kill()


def test_a_process_says_what_it_serves_answers_and_stops_with_0(tmp_path: Path) -> None:
    make_models(tmp_path)
    with process(LECTERN_MODELS=str(tmp_path), LECTERN_DEVICE="cpu", LECTERN_LOG_FORMAT="json") as (
        started,
        lines,
        port,
    ):
        assert lines[0] == f"Lectern serves 3 models at http://127.0.0.1:{port} on cpu"
        assert "  digits/2  classify  cpu  Brightness" in lines
        assert any(line.startswith("  REFUSED broken/1: ") for line in lines)
        kind, body = form(("image", encode_png(grey(170)), "a.png"))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("POST", "/v1/classify?model=shades", body, {"Content-Type": kind, "X-Request-Id": "one"})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("server")) == (200, None)
        assert json.loads(answer.read())["model"] == "shades"
        connection.close()
        started.send_signal(signal.SIGTERM)
        _, errors = started.communicate(timeout=30)
    assert started.returncode == 0
    logged = [json.loads(line) for line in errors.splitlines()]  # every line is JSON
    assert any(line.get("id") == "one" and line["status"] == 200 for line in logged)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no account of a child's processor time")
def test_a_start_takes_little_more_processor_time_than_the_imports_of_its_libraries(
    models: Path, tmp_path: Path
) -> None:
    # Side by side, and the least of three: seconds alone told of the machine (1.2 to 1.6 s for the same start). The app
    # has its byte code, as the libraries have theirs, wherever this environment says to write none.
    shutil.copytree(ROOT / "app", tmp_path / "app")
    assert compileall.compile_dir(tmp_path / "app", quiet=1)
    libraries = (
        "import fastapi, httptools, numpy, onnxruntime, PIL.Image, prometheus_client, pydantic_settings, uvicorn"
    )
    alone, started = [], []
    for _ in range(3):
        with processor_time(alone):
            subprocess.run([sys.executable, "-c", libraries], cwd=ROOT, check=True, timeout=60)
        flags = ("--models", str(models), "--device", "cpu", "--only", "digits,shades")
        with processor_time(started), process(*flags, cwd=tmp_path) as (_, _, port):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", "/health/ready")
            assert connection.getresponse().status == 200
            connection.close()
    assert min(alone) < min(started) < 1.7 * min(alone)


@contextmanager
def processor_time(seconds: list[float]) -> Iterator[None]:
    """Appends the processor time of the child processes that end inside."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def test_an_open_request_is_answered_before_the_process_stops(tmp_path: Path) -> None:
    make_classifier_folder(tmp_path, "shades")
    pixels = json.dumps({"image": [[9] * 28] * 28}).encode()
    with process("--models", str(tmp_path), "--device", "cpu") as (started, _, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            head = "POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(pixels)}\r\nExpect: 100-continue\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 100")  # it is being answered now
            started.send_signal(signal.SIGTERM)
            connection.sendall(pixels)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        started.communicate(timeout=30)
    assert started.returncode == 0


def test_a_device_that_cannot_be_had_ends_the_start_with_its_cause(models: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine's ONNX Runtime has CUDA")
    command = [sys.executable, "-m", "app", "--models", str(models), "--port", "0", "--device", "cuda"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "cuda" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
