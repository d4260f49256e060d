"""A server as a process tree of its own: started, counted, stopped. Linux only, from /proc."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "127.0.0.1"
MARK: Final = "BENCH_MARK"  # in the environment of all that we start, inherited by what that starts
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
START_S: Final = 120.0
GRACE_S: Final = 20.0


class StartFailed(Exception):
    """A server that did not come up; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the whole tree. RSS counts a shared page once for each process, PSS divides it among them."""

    rss: int
    pss: int
    peak_rss: int
    processes: int


class Tree:
    """Every process whose environment has our mark, however it was made."""

    def __init__(self, mark: str) -> None:
        self._mark = f"{MARK}={mark}".encode()

    def pids(self) -> list[int]:
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if self._mark in _bytes(folder / "environ")]

    def cpu_s(self) -> float:
        """User and system time of all so far, those that ended and were waited for included."""
        total = 0
        for pid in self.pids():
            fields = _bytes(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
            total += sum(int(ticks) for ticks in fields[11:15])
        return total / TICKS_PER_S

    def memory(self) -> Memory:
        rss = pss = peak = 0
        pids = self.pids()
        for pid in pids:
            status = _kilobytes(Path(f"/proc/{pid}/status"))
            rss += status.get("VmRSS", 0)
            peak += status.get("VmHWM", 0)
            pss += _kilobytes(Path(f"/proc/{pid}/smaps_rollup")).get("Pss", 0)
        return Memory(rss=rss, pss=pss, peak_rss=peak, processes=len(pids))

    def files(self) -> int:
        """Open file descriptors of all."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                total += len([*Path(f"/proc/{pid}/fd").iterdir()])
        return total

    def rss(self) -> int:
        pages = (_bytes(Path(f"/proc/{pid}/statm")).split() for pid in self.pids())
        return sum(int(fields[1]) for fields in pages if fields) * PAGE_BYTES


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def _kilobytes(path: Path) -> dict[str, int]:
    lines = (line.split() for line in _bytes(path).decode(errors="replace").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[2:] == ["kB"]}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    port: int
    tree: Tree
    start_s: float
    log: Path

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"


@contextmanager
def running(
    command: Sequence[str], *, ready: str, log: Path, ends: Sequence[int] = (0,), folder: Path = ROOT
) -> Iterator[Running]:
    """Run `command` (with {port} filled in) in `folder` until the block ends; `ready` is the path that answers 200 once
    it serves, `ends` the exit codes that are right after SIGTERM.

    Raises:
        StartFailed: it ended, or was not ready in time.
    """
    mark = uuid.uuid4().hex
    port = free_port()
    # Settings of ours in the caller's environment would be measured without being printed.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("LECTERN_")}
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in command],
            env={**inherited, MARK: mark},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    tree = Tree(mark)
    try:
        wait_for(port, ready, process, log)
        yield Running(port, tree, time.perf_counter() - started, log)
    finally:
        stop(process, tree, log, ends)


def lectern(
    models: Path, log: Path, settings: Sequence[str], *, folder: Path = ROOT
) -> AbstractContextManager[Running]:
    """The server itself on a folder of models, with the command line's own settings last, so that they win; `folder` is
    the checkout whose code serves."""
    command = [sys.executable, "-m", "app", "serve", "--models", str(models), "--port", "{port}"]
    command += ["--device", "cpu", "--log-level", "warning", *settings]
    return running(command, ready="/health/ready", log=log, folder=folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        if process.poll() is not None:
            raise StartFailed(f"the server ended with {process.returncode} before it served:\n{tail(log)}")
        time.sleep(0.02)
    raise StartFailed(f"the server did not serve within {START_S:g} s:\n{tail(log)}")


def stop(process: subprocess.Popen[bytes], tree: Tree, log: Path, ends: Sequence[int]) -> None:
    """SIGTERM, and SIGKILL for what is left; says so where the exit code is wrong or it would not end."""
    had_ended = process.poll() is not None
    process.terminate()
    try:
        code = process.wait(GRACE_S)
        if code not in ends and not had_ended:
            print(f"  the server ended with {code}:\n{tail(log)}", flush=True)
    except subprocess.TimeoutExpired:
        print(f"  the server did not end within {GRACE_S:g} s of SIGTERM: killed", flush=True)
    for pid in tree.pids():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def tail(log: Path) -> str:
    return log.read_bytes()[-2000:].decode(errors="replace").strip()
