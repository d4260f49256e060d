"""The end of a server, with real processes: whatever it has accepted is answered."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.codecs.images import encode_png
from tests.app.house import grey
from tests.app.load import Account, ask_on, read_answer, request_of
from tests.app.test_main import process

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that asks a process to end")

CONNECTIONS = 24
PNG = request_of("/v1/classify?model=shades", encode_png(grey(90)), "image/png")
HEALTH = b"GET /health/%s HTTP/1.1\r\nHost: a\r\n\r\n"


def serve(models: Path, workers: int, *flags: str) -> object:
    own = ("--models", str(models), "--device", "cpu", "--only", "shades", "--log-level", "warning")
    return process(*own, "--workers", str(workers), *flags)


async def stop_under_load(started: subprocess.Popen[str], port: int) -> Account:
    account = Account()
    clients = [asyncio.create_task(ask_on(port, PNG, account)) for _ in range(CONNECTIONS)]
    while account.sent < 10 * CONNECTIONS:
        await asyncio.sleep(0.01)
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


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_stopped_under_load_loses_nothing(models: Path, workers: int) -> None:
    stop_once(models, workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_nor_does_it_in_twenty_trials(models: Path, workers: int) -> None:
    for _ in range(20):
        stop_once(models, workers)
