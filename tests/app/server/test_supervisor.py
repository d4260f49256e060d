"""Several workers on one port, with real processes: balance, death, replacement, and starts that cannot succeed."""

from __future__ import annotations

import asyncio
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from app.__main__ import main
from app.core.shared_counters import BLOCK_BYTES, read
from tests.app.load import Account, ask_on
from tests.app.server.test_shutdown import PNG, Line, get, serve
from tests.app.test_main import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the processes through /proc")


def workers_of(started: subprocess.Popen[str]) -> list[int]:
    """Process ids of the workers, in the order of their places."""
    text = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text(encoding="ascii")
    return [int(pid) for pid in text.split()]


def blocks_of(started: subprocess.Popen[str]) -> list[mmap.mmap]:
    """The blocks of figures of the parent and of each worker."""
    found = []
    for file in sorted(Path(f"/proc/{started.pid}/fd").iterdir(), key=lambda path: int(path.name)):
        if "lectern-figures" in str(file.readlink()) and (opened := os.open(file, os.O_RDWR)):
            found.append((os.fstat(opened).st_ino, mmap.mmap(opened, BLOCK_BYTES)))
            os.close(opened)
    return list(dict(found).values())


def figure(blocks: list[mmap.mmap], name: str) -> list[float]:
    """A figure in each block that has it."""
    return [row.cells[0] for block in blocks for row in read(block) if row.name == name]


def ask_once(port: int) -> int:
    with Line(port) as line:
        return line.ask(PNG)[0]


def scraped(port: int) -> dict[str, float]:
    """Every counter of /metrics, as some worker tells it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as page:
        samples = (line.rpartition(" ") for line in page.read().decode().splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples if re.search(r"_(total|count|bucket)\b", name)}


async def keep_asking(port: int, connections: int, account: Account) -> list[asyncio.Task[None]]:
    """Clients that each have been answered."""
    clients = [asyncio.create_task(ask_on(port, PNG, account)) for _ in range(connections)]
    await account.reach(20 * connections)
    return clients


async def end(clients: list[asyncio.Task[None]]) -> None:
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


def test_two_workers_share_the_connections_and_a_killed_one_is_replaced_unnoticed_by_the_other(models: Path) -> None:
    async def kill_one(started: subprocess.Popen[str], port: int) -> Account:
        account = Account()
        clients = await keep_asking(port, 8, account)
        blocks = blocks_of(started)
        assert figure(blocks, "lectern_open_connections") == [4, 4]
        told = await asyncio.to_thread(scraped, port)
        first, second = workers_of(started)
        before, short = sum(figure(blocks, "lectern_connections")), 0
        taken = figure(blocks, "lectern_connections")[0]
        os.kill(first, signal.SIGKILL)
        await account.reach(400)  # by the other, while the first is being replaced
        assert len(account.lost) == 4
        assert sum(figure(blocks, "lectern_connections")) == before + 4
        for _ in range(4):
            now = await asyncio.to_thread(scraped, port)
            assert {name: (was, now.get(name)) for name, was in told.items() if now.get(name, -1.0) < was} == {}
            told = now
            short += 1
        while figure(blocks, "lectern_connections")[0] == taken:  # until the new one has its first
            assert await asyncio.to_thread(ask_once, port) == 200
            short += 1
        assert (await asyncio.to_thread(scraped, port))["lectern_worker_restarts_total"] == 1
        short += 1
        while figure(blocks, "lectern_open_connections") != [0, 8]:  # the short ones end a moment later
            await account.reach(1)
        new = [asyncio.create_task(ask_on(port, PNG, account)) for _ in range(8)]
        while figure(blocks, "lectern_open_connections") != [8, 8]:
            await account.reach(1)
        assert second in workers_of(started)
        assert first not in workers_of(started)
        assert len(account.lost) == 4
        assert set(account.answered) == {200}
        assert sum(figure(blocks, "lectern_connections")) == before + 12 + short
        await end(clients + new)
        return account

    with serve(models, 2) as (started, lines, port):
        assert lines[0].endswith(f"at http://127.0.0.1:{port} on cpu with 2 workers")
        asyncio.run(asyncio.wait_for(kill_one(started, port), 30))
        started.send_signal(signal.SIGTERM)
        _, errors = started.communicate(timeout=20)
    assert started.returncode == 0
    assert errors.count("\n") == 1
    assert re.search(r"ERROR worker 1 was ended by signal 9; another takes its place$", errors)


def test_no_worker_outlives_its_parent(models: Path) -> None:
    with serve(models, 2) as (started, _, port), Line(port) as line:
        assert line.ask(get("/health/ready"))[0] == 200
        pids = [os.pidfd_open(pid) for pid in workers_of(started)]
        started.kill()
        assert line.is_closed()
        for pid in pids:
            assert select_readable(pid)
            os.close(pid)


def select_readable(pidfd: int) -> bool:
    """Whether the process ends within ten seconds."""
    import select

    return bool(select.select([pidfd], [], [], 10)[0])


def test_a_worker_that_is_asked_to_end_is_replaced_and_loses_nothing(models: Path) -> None:
    async def ask_one_to_end(started: subprocess.Popen[str], port: int) -> None:
        account = Account()
        clients = await keep_asking(port, 4, account)
        first, _ = workers_of(started)
        os.kill(first, signal.SIGTERM)
        blocks = blocks_of(started)
        while figure(blocks, "lectern_worker_restarts") != [1]:
            await account.reach(1)
        assert account.lost == []
        await end(clients)

    with serve(models, 2) as (started, _, port):
        asyncio.run(asyncio.wait_for(ask_one_to_end(started, port), 30))
        started.send_signal(signal.SIGTERM)
        assert started.wait(20) == 0


@pytest.mark.parametrize("command", ["taken", "cuda"])
def test_a_start_that_cannot_succeed_is_one_line_and_1(models: Path, command: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1] if command == "taken" else 0
        flags = ["--port", str(port), "--device", "cuda" if command == "cuda" else "cpu"]
        done = subprocess.run(
            [sys.executable, "-m", "app", "--workers", "2", "--models", str(models), *flags],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert ("Address already in use" if command == "taken" else "device 'cuda' cannot be had") in done.stderr


def test_where_connections_cannot_be_handed_over_workers_are_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(socket, "send_fds")
    assert main(["serve", "--workers", "2", "--models", str(models)]) == 2
    assert capsys.readouterr().err == "--workers 2: this system cannot hand connections to other processes\n"


@contextmanager
def trickling(port: int, connections: int) -> Iterator[None]:
    """Connections that send a byte of a head each second."""
    stop = threading.Event()
    with ExitStack() as opened:
        slow = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(connections)]

        def trickle() -> None:
            for byte in PNG:
                for line in slow:
                    line.send(bytes([byte]))
                if stop.wait(1):
                    return

        sending = threading.Thread(target=trickle)
        sending.start()
        try:
            yield
        finally:
            stop.set()
            sending.join()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
@pytest.mark.timed
def test_beside_a_thousand_connections_that_send_a_byte_a_second_a_request_takes_no_longer(
    models: Path, workers: int
) -> None:
    with serve(models, workers) as (_, _, port), trickling(port, 1000):
        waits = []
        with Line(port) as line:
            until = monotonic() + 3
            while monotonic() < until:
                began = monotonic()
                assert line.ask(PNG)[0] == 200
                waits.append(monotonic() - began)
        assert sorted(waits)[int(len(waits) * 0.99)] < 0.05
        assert scraped(port)["lectern_connections_total"] >= 1001


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
@pytest.mark.timed
def test_ten_thousand_connections_that_send_nothing_or_too_slowly_leave_room_for_who_asks(
    models: Path, workers: int
) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 11_000:
        pytest.skip(f"this system allows {limits[1]} open files, the test needs 11000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    with ExitStack() as lines, serve(models, workers) as (started, _, port):
        held = [lines.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(10_000)]
        for slow in held[::2]:
            slow.send(b"G")
        with Line(port) as line:
            waits = []
            for _ in range(200):
                began = monotonic()
                assert line.ask(PNG)[0] == 200
                waits.append(monotonic() - began)
            assert sorted(waits)[197] < 0.05
        started.send_signal(signal.SIGTERM)
        assert started.wait(20) == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
