"""Files that are spoilt, half there, or have no room, under a real process that is asked all the while."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from app.codecs.npy import encode_npy
from tests.app.engine.lives import IMAGE, publish, spoil_one_bit
from tests.app.load import Account, ask_on, ask_until, request_of
from tests.app.server.test_shutdown import Line, get
from tests.app.test_faults import slow_onnx
from tests.app.test_main import process
from tests.made_models import classifier_manifest, make_classifier_folder, write_folder

ROW = request_of("/v1/classify?model=tiny", encode_npy(IMAGE), "application/x-npy")


def cut_off(folder: Path) -> None:
    os.truncate(folder / "classifier.onnx", 100)


def replace(folder: Path) -> None:
    other = make_classifier_folder(folder.parents[1] / ".other", labels=("a", "b"))
    (other / "classifier.onnx").replace(folder / "classifier.onnx")


def make_empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


SPOILERS = {"a bit flipped": spoil_one_bit, "cut off": cut_off, "replaced": replace, "emptied": make_empty}


def body_of(port: int, path: str) -> Any:
    with Line(port) as line:
        line.send(get(path))
        return line.answer_of_any()[2].decode()


def refused(port: int) -> list[str]:
    """Why folders are refused, as /v1/models says."""
    return [str(one["reason"]) for one in json.loads(body_of(port, "/v1/models"))["refused"]]


def labels(port: int) -> int:
    with Line(port) as line:
        return len(line.ask(ROW)[2]["results"][0]["probabilities"])


@contextmanager
def serve(models: Path, *flags: str, **options: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    own = ("--models", str(models), "--device", "cpu", "--log-level", "warning")
    with process(*own, *flags, **options) as (started, _, port):
        yield started, port


def under_load(port: int, happens: Callable[[], None]) -> Account:
    """What became of the requests of four clients while it happened, and for some time before and after."""
    account = Account()

    async def ask() -> None:
        clients = [asyncio.create_task(ask_on(port, ROW, account)) for _ in range(4)]
        await account.reach(20)
        await asyncio.to_thread(happens)
        await account.reach(20)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    asyncio.run(asyncio.wait_for(ask(), 30))
    return account


@pytest.mark.parametrize("spoiler", [
    pytest.param(name, marks=() if name == "cut off" else pytest.mark.slow) for name in SPOILERS
])  # fmt: skip
def test_a_file_spoilt_under_load_is_told_and_changes_no_answer(tmp_path: Path, spoiler: str) -> None:
    folder = publish(tmp_path, 3)
    with serve(tmp_path, "--poll-s", "0.05") as (started, port):

        def happens() -> None:
            SPOILERS[spoiler](folder)
            ask_until(lambda: bool(refused(port)))
            assert "lectern_refused_models 1.0" in body_of(port, "/metrics")
            assert labels(port) == 3
            assert json.loads(body_of(port, "/health/ready"))["models"] == ["tiny/1"]
            publish(tmp_path, 4)
            ask_until(lambda: labels(port) == 4)
            assert "lectern_refused_models 0.0" in body_of(port, "/metrics")

        account = under_load(port, happens)
        assert (account.lost, set(account.answered)) == ([], {200})
        started.send_signal(signal.SIGTERM)
        assert started.wait(20) == 0


@pytest.mark.slow
@pytest.mark.parametrize("spoiler", SPOILERS)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_polling_a_spoilt_file_is_not_even_noticed(tmp_path: Path, spoiler: str, workers: str) -> None:
    folder = publish(tmp_path, 3)
    with serve(tmp_path, "--workers", workers) as (_, port):
        account = under_load(port, lambda: SPOILERS[spoiler](folder))
        assert (account.lost, set(account.answered)) == ([], {200})
        assert (labels(port), refused(port)) == (3, [])


@pytest.mark.slow
@pytest.mark.parametrize("first", ["manifest.json", "classifier.onnx"])
def test_a_folder_that_comes_in_halves_is_served_once_it_is_whole(tmp_path: Path, first: str) -> None:
    publish(tmp_path / "models", 3)
    whole = publish(tmp_path / "elsewhere", 4, version="2")
    coming = tmp_path / "models" / "tiny" / "2"
    with serve(tmp_path / "models", "--poll-s", "0.05") as (_, port):

        def happens() -> None:
            coming.mkdir()
            shutil.copy(whole / first, coming)
            ask_until(lambda: bool(refused(port)))  # whoever copies paused: it has been like this for two looks
            assert (labels(port), "lectern_refused_models 1.0" in body_of(port, "/metrics")) == (3, True)
            for file in sorted(whole.iterdir()):
                data = file.read_bytes()
                (coming / file.name).write_bytes(data[: len(data) // 2])
            assert labels(port) == 3
            for file in sorted(whole.iterdir()):
                shutil.copy(file, coming)
            ask_until(lambda: labels(port) == 4)
            assert refused(port) == []

        account = under_load(port, happens)
        assert (account.lost, set(account.answered)) == ([], {200})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_log_that_has_no_room_hurts_no_request(tmp_path: Path, workers: str) -> None:
    publish(tmp_path, 3)
    with (
        open("/dev/full", "w", encoding="utf-8") as full,
        serve(tmp_path, "--workers", workers, "--log-level", "info", errors=full) as (started, port),
    ):
        account = under_load(port, lambda: None)
        assert (account.lost, set(account.answered)) == ([], {200})
        with Line(port) as line:
            assert line.ask(get("/v1/nothing"))[0] == 404
        started.send_signal(signal.SIGTERM)
        assert started.wait(20) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KB that is full."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a disk in memory")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("room", ["none", "for a folder alone"])
def test_with_a_full_disk_workers_start_and_serve_each_with_weights_of_its_own(
    tmp_path: Path, small_disk: Path, workers: str, room: str
) -> None:
    models = tmp_path / "models"
    publish(models, 3)
    heavy = slow_onnx()
    write_folder(models, classifier_manifest(heavy, name="heavy"), {"classifier.onnx": heavy})
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    if room == "for a folder alone":
        os.truncate(small_disk / "filler", 48 << 10)
    with serve(models, "--workers", workers, TMPDIR=str(small_disk)) as (started, port):
        account = under_load(port, lambda: None)
        assert (account.lost, set(account.answered)) == ([], {200})
        assert "lectern_refused_models 0.0" in body_of(port, "/metrics")
        assert json.loads(body_of(port, "/health/ready"))["models"] == ["heavy/1", "tiny/1"]
        started.send_signal(signal.SIGTERM)
        _, errors = started.communicate(timeout=20)
    assert started.returncode == 0
    # Where not even a folder can be made, the system has another place for temporary files.
    assert ("its memory is not shared with other workers" in errors) == (workers == "2" and room != "none")
