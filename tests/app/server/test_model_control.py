"""Models loaded and unloaded by hand behind several workers: all of them do it, and those that come later."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from operator import lt
from pathlib import Path

import pytest

from app.codecs.npy import encode_npy
from tests.app.engine.lives import IMAGE, publish, spoil_one_bit
from tests.app.load import request_of
from tests.app.server.test_shutdown import Line
from tests.app.server.test_supervisor import blocks_of, figure, workers_of
from tests.app.test_main import process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the processes through /proc")

ROW = request_of("/v1/classify?model=tiny", encode_npy(IMAGE), "application/x-npy")


def control(what: str) -> bytes:
    return request_of(f"/v2/repository/models/tiny/{what}", b"", "application/json")


@contextmanager
def served(models: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    own = ("--models", str(models), "--device", "cpu", "--workers", "2", "--model-control", "true")
    with process(*own, "--log-level", "error", *flags) as (started, _, port):
        yield started, port


@contextmanager
def lines_to_both(started: subprocess.Popen[str], port: int) -> Iterator[list[Line]]:
    """Two connections to each worker, the first two to different ones."""
    with ExitStack() as opened:
        lines = [opened.enter_context(Line(port)) for _ in range(4)]
        for line in lines:
            line.ask(ROW)
        assert figure(blocks_of(started), "lectern_open_connections") == [2, 2]
        yield lines


def answers(lines: list[Line]) -> set[int]:
    return {line.ask(ROW)[0] for line in lines}


def order(line: Line, what: str) -> int:
    """The status; the body is empty where all went well."""
    line.send(control(what))
    return line.answer_of_any()[0]


def test_what_one_worker_is_told_to_unload_or_load_all_have_done_when_it_answers(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    with served(tmp_path) as (started, port), lines_to_both(started, port) as lines:
        for teller in lines[:2]:
            assert order(teller, "unload") == 200
            assert answers(lines) == {404}
            assert order(teller, "load") == 200
            assert answers(lines) == {200}
        publish(tmp_path, 4)
        assert order(lines[0], "load") == 200
        assert {len(line.ask(ROW)[2]["results"][0]["probabilities"]) for line in lines} == {4}
        started.send_signal(signal.SIGTERM)
        assert started.communicate(timeout=20)[1] == ""
    assert started.returncode == 0


@pytest.mark.slow
def test_opposite_orders_at_the_same_time_end_in_the_same_everywhere(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    with served(tmp_path) as (started, port), lines_to_both(started, port) as lines:
        for _ in range(5):
            for line, what in zip(lines, ("load", "unload", "unload", "load"), strict=True):
                line.send(control(what))
            assert {line.answer_of_any()[0] for line in lines} == {200}
            assert len(answers(lines)) == 1


@pytest.mark.slow
def test_a_worker_that_takes_another_s_place_serves_nothing_that_was_unloaded(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    with served(tmp_path) as (started, port):
        blocks = blocks_of(started)
        with Line(port) as line:
            assert order(line, "unload") == 200
        before = figure(blocks, "lectern_connections")
        for worker in workers_of(started):
            os.kill(worker, signal.SIGKILL)
        while not all(map(lt, before, figure(blocks, "lectern_connections"))):  # until both have had one
            with Line(port) as line:
                assert line.ask(ROW)[0] == 404
        with lines_to_both(started, port) as lines:
            assert figure(blocks, "lectern_worker_restarts") == [2]
            assert answers(lines) == {404}
            assert order(lines[0], "load") == 200
            assert answers(lines) == {200}


@pytest.mark.slow
def test_an_order_ends_although_a_worker_dies_before_it_has_obeyed(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    with served(tmp_path) as (started, port), lines_to_both(started, port) as lines:
        first, _ = workers_of(started)
        os.kill(first, signal.SIGSTOP)
        for line in lines:
            line.send(control("unload"))
        blocks = blocks_of(started)
        os.kill(first, signal.SIGKILL)
        statuses = []
        for line in lines:
            with suppress(OSError, IndexError):  # it was the dead one's
                statuses.append(line.answer_of_any()[0])
        assert statuses == [200, 200]
        with Line(port) as line:
            while figure(blocks, "lectern_worker_restarts") != [1]:
                assert line.ask(ROW)[0] == 404


@pytest.mark.slow
def test_a_folder_that_is_refused_is_told_once_and_what_was_loaded_goes_on(tmp_path: Path) -> None:
    folder = publish(tmp_path, 3)
    with served(tmp_path) as (started, port), lines_to_both(started, port) as lines:
        spoil_one_bit(folder)
        lines[0].send(control("load"))
        status, _, told = lines[0].answer_of_any()
        assert status == 400
        assert json.loads(told)["error"].count("SHA-256") == 1
        assert answers(lines) == {200}
