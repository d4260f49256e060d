"""The end of a server, with real processes: whatever it has accepted is answered."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest

from app.codecs.images.files import encode_png
from tests.app.live import grey
from tests.app.load import Account, ask_on, request_of
from tests.app.test_main import process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that asks a process to end")

CONNECTIONS = 24
PNG = request_of("/v1/classify?model=shades", encode_png(grey(90)), "image/png")
HEAD, _, BODY = PNG.partition(b"\r\n\r\n")

EITHER = pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])

Serving = tuple[subprocess.Popen[str], list[str], int]


def serve(models: Path, workers: int, *flags: str) -> AbstractContextManager[Serving]:
    own = ("--models", str(models), "--device", "cpu", "--only", "shades", "--log-level", "warning")
    return process(*own, "--workers", str(workers), *flags)


async def stop_under_load(started: subprocess.Popen[str], port: int) -> Account:
    account = Account()
    clients = [asyncio.create_task(ask_on(port, PNG, account)) for _ in range(CONNECTIONS)]
    await account.reach(10 * CONNECTIONS)
    started.send_signal(signal.SIGTERM)
    await asyncio.wait_for(asyncio.gather(*clients), 20)
    return account


def stop_once(models: Path, workers: int) -> None:
    with serve(models, workers) as (started, _, port):
        account = asyncio.run(stop_under_load(started, port))
        _, errors = started.communicate(timeout=20)
    assert account.lost == []
    assert account.answered[200] >= 10 * CONNECTIONS
    assert set(account.answered) <= {200, 503}
    assert account.unkept == 0
    assert (started.returncode, errors) == (0, "")


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_server_stopped_under_load_loses_nothing(models: Path, workers: int) -> None:
    stop_once(models, workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_nor_does_it_in_twenty_trials(models: Path, workers: int) -> None:
    for _ in range(20):
        stop_once(models, workers)


class Line:
    """One connection, used by hand."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers, what the JSON says."""
        status, headers, body = self.answer_of_any()
        return status, headers, json.loads(body)

    def answer_of_any(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self._file.read(int(headers["content-length"]))

    def ask(self, request: bytes) -> tuple[int, dict[str, str], Any]:
        self.send(request)
        return self.answer()

    def is_closed(self) -> bool:
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def a_request_being_answered(port: int) -> Iterator[Line]:
    """Its head is taken, its body is to come."""
    with Line(port) as line:
        line.send(HEAD + b"\r\nExpect: 100-continue\r\n\r\n")
        assert line._file.readline().startswith(b"HTTP/1.1 100")
        line._file.readline()
        yield line


def stop(started: subprocess.Popen[str], port: int) -> None:
    """Ask it to end, and wait until it has noticed."""
    started.send_signal(signal.SIGTERM)
    status = 200
    while status == 200:
        with Line(port) as line:
            status, *_ = line.ask(get("/health/ready"))
    assert status == 503


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


@pytest.mark.parametrize("workers", [1, 2])
def test_while_it_stops_health_answers_and_new_requests_are_told_to_come_back(models: Path, workers: int) -> None:
    with serve(models, workers) as (started, _, port), Line(port) as kept, Line(port) as kept_too:
        assert kept.ask(PNG)[0] == kept_too.ask(PNG)[0] == 200
        with a_request_being_answered(port) as owed:
            stop(started, port)
            status, headers, told = kept.ask(PNG)
            assert (status, headers["content-type"]) == (503, "application/problem+json")
            assert (headers["connection"], headers["retry-after"]) == ("close", "1")
            assert (told["type"], told["request_id"]) == ("/errors/unavailable", headers["x-request-id"])
            assert kept.is_closed()
            status, headers, told = kept_too.ask(get("/v2"))
            assert (status, headers["connection"], list(told)) == (503, "close", ["error"])
            for path, expected in (
                ("/health/live", 200), ("/health/ready", 503), ("/v2/health/live", 200), ("/v2/health/ready", 503)
            ):  # fmt: skip
                with Line(port) as new:
                    status, headers, _ = new.ask(get(path))
                    assert (path, status, headers["connection"]) == (path, expected, "close")
            with Line(port) as new:  # a body that is never looked at must not take the answer with it
                assert new.ask(request_of("/v1/classify", bytes(8 << 20), "image/png"))[0] == 503
                assert new.is_closed()
            status, headers, told = owed.ask(BODY)
            assert (status, headers["connection"], told["model"]) == (200, "close", "shades")
            assert owed.is_closed()
        started.communicate(timeout=20)
    assert started.returncode == 0


@EITHER
def test_a_request_on_its_way_to_an_idle_connection_is_still_answered(models: Path, workers: int) -> None:
    with serve(models, workers) as (started, _, port), Line(port) as idle, Line(port) as silent:
        assert idle.ask(get("/health/ready"))[0] == 200
        stop(started, port)
        assert idle.ask(PNG)[0] == 503
        assert silent.is_closed()
        started.communicate(timeout=20)
    assert started.returncode == 0


@EITHER
def test_a_second_signal_ends_at_once_with_1(models: Path, workers: int) -> None:
    with serve(models, workers) as (started, _, port), a_request_being_answered(port) as owed:
        stop(started, port)
        started.send_signal(signal.SIGTERM)
        assert started.wait(10) == 1
        with suppress(ConnectionResetError):
            assert owed.is_closed()


@EITHER
def test_what_is_not_answered_within_the_grace_period_is_cut_and_ends_with_1(models: Path, workers: int) -> None:
    with serve(models, workers, "--grace-s", "1") as (started, _, port), a_request_being_answered(port):
        started.send_signal(signal.SIGTERM)
        _, errors = started.communicate(timeout=20)
    assert started.returncode == 1
    assert "1 requests were not answered within the grace period" in errors
