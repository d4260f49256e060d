"""A clock that is put forward and back by hours while the server serves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.codecs.npy import encode_npy
from app.core.errors import Busy
from app.core.manifest import Tensors
from app.engine.batcher import Batcher
from tests.app.engine.lives import publish
from tests.app.live import LiveServer, open_server
from tests.app.load import request_of
from tests.app.server.test_shutdown import Line
from tests.app.test_swaps import under_load
from tests.in_loop import in_loop

HOURS = (0, 5, -7, 30 * 24)
ROW = encode_npy(np.zeros((1, 28, 28, 1), np.uint8))


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the clock of the wall; the one that only goes forward stays as it is."""
    moved_s = 0.0
    real = time.time

    def put_by(hours: float) -> None:
        nonlocal moved_s
        moved_s = hours * 3600

    monkeypatch.setattr(time, "time", lambda: real() + moved_s)
    return put_by


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    publish(tmp_path, 3)
    with open_server(tmp_path, poll_s=0.02, max_queued_rows=512, keep_alive_s=2) as opened:
        yield opened


def test_requests_deadlines_kept_connections_and_polls_go_on_as_ever(
    server: LiveServer, tmp_path: Path, put: Callable[[float], None]
) -> None:
    urgent = request_of("/v1/classify?model=tiny", ROW, "application/x-npy").replace(
        b"\r\n\r\n", b"\r\nX-Request-Deadline-Ms: 5000\r\n\r\n", 1
    )
    overdue = urgent.replace(b": 5000", b": 0", 1)
    with Line(server.port) as line, under_load(server, clients=2) as answered:
        for hours in HOURS:
            put(hours)
            status, headers, _ = line.ask(urgent)
            assert (status, headers.get("connection")) == (200, None)
            assert line.ask(overdue)[0] == 504
            publish(tmp_path, wanted := 4 + HOURS.index(hours))
            answered.reach(wanted)
    assert answered.statuses == {200}
    page = server.get("/metrics").body.decode()
    seconds = [text for text in page.splitlines() if "_seconds_sum" in text]
    assert seconds
    assert all(0 <= float(text.split()[-1]) < 60 for text in seconds), "no time was measured by the wall's clock"


@in_loop
async def test_retry_after_is_measured_by_no_clock_that_is_put(put: Callable[[float], None]) -> None:
    hours = cycle(HOURS)
    lease, running = threading.Event(), threading.Event()

    def run(tensors: Tensors) -> dict[str, NDArray[Any]]:
        put(next(hours))
        running.set()
        assert lease.wait(5)
        return {"y": tensors["x"]}

    row = {"x": np.zeros((1, 1), np.float32)}
    batcher = Batcher(run, name="m/1/g", max_rows=1, max_queued_rows=2)
    lease.set()
    for _ in HOURS:
        await batcher.submit(row)
    lease.clear()
    running.clear()
    waiting = [asyncio.create_task(batcher.submit(row)) for _ in range(8)]
    await asyncio.to_thread(running.wait, 5)
    lease.set()
    refused = [one for one in await asyncio.gather(*waiting, return_exceptions=True) if isinstance(one, Exception)]
    assert refused
    for one in refused:
        assert isinstance(one, Busy)
        assert 0 <= one.retry_after_s < 2
    await batcher.close()
