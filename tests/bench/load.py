"""The closed-loop load: `wrk` with prepared requests, and what the server spent meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.processes import Memory, Running
from tests.bench.shapes import Request

WRK_TIMEOUT_S: Final = 10
# wrk runs this: whole requests, as bytes behind their length, are read from a file and sent in turn.
SCRIPT: Final = """
local requests, at = {}, 0

function init()
  local file = assert(io.open(os.getenv("BENCH_REQUESTS"), "rb"))
  while true do
    local size = file:read(4)
    if not size then break end
    local a, b, c, d = size:byte(1, 4)
    requests[#requests + 1] = file:read(a + 256 * (b + 256 * (c + 256 * d)))
  end
  file:close()
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local e = summary.errors
  local file = assert(io.open(os.getenv("BENCH_RESULT"), "w"))
  file:write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "max_ms": %.4f, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, e.connect, e.read, e.write, e.status, e.timeout))
  file:close()
end
"""


class WrkFailed(Exception):
    """wrk gave no figures; the message is what it printed."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One form of request at one number of connections, for one stretch of time."""

    per_s: float  # requests answered with a good status
    rows_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    errors: dict[str, int]
    cpu_us: float  # the server's, per request
    cores: float  # that the server kept busy
    memory: Memory  # right after


def wrk_path() -> str | None:
    return shutil.which("wrk")


def wrk_version() -> str:
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).split("\n")[0].split(" [")[0]


def measure(server: Running, requests: Sequence[Request], connections: int, seconds: float, work: Path) -> Cell:
    """Warm up for a fifth of the time, then measure."""
    wrk(server, requests, connections, max(1.0, seconds / 5), work)
    cpu_s, began = server.tree.cpu_s(), time.perf_counter()
    got = wrk(server, requests, connections, seconds, work)
    cpu_s, wall_s = server.tree.cpu_s() - cpu_s, time.perf_counter() - began
    good = got["requests"] - got["errors"]["status"]  # wrk counts a bad status among the requests
    rows = len(requests[0].rows)
    return Cell(
        per_s=good / got["seconds"],
        rows_per_s=good * rows / got["seconds"],
        p50_ms=got["p50_ms"],
        p99_ms=got["p99_ms"],
        max_ms=got["max_ms"],
        errors={kind: count for kind, count in got["errors"].items() if count},
        cpu_us=cpu_s / max(1, good) * 1e6,
        cores=cpu_s / wall_s,
        memory=server.tree.memory(),
    )


def wrk(server: Running, requests: Sequence[Request], connections: int, seconds: float, work: Path) -> dict[str, Any]:
    """What the script above wrote.

    Raises:
        WrkFailed.
    """
    script, bodies, result = work / "wrk.lua", work / "requests.bin", work / "wrk.json"
    script.write_text(SCRIPT, encoding="ascii")
    wire = (request.raw(server.address) for request in requests)
    bodies.write_bytes(b"".join(struct.pack("<I", len(one)) + one for one in wire))
    result.unlink(missing_ok=True)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{round(seconds)}s", f"--timeout={WRK_TIMEOUT_S}s"]
    said = subprocess.run(
        [*command, "-s", str(script), f"http://{server.address}"],
        env={**os.environ, "BENCH_REQUESTS": str(bodies), "BENCH_RESULT": str(result)},
        capture_output=True,
        text=True,
        timeout=seconds + WRK_TIMEOUT_S + 30,
        check=False,
    )
    if not result.exists():
        raise WrkFailed((said.stdout + said.stderr)[-500:])
    figures: dict[str, Any] = json.loads(result.read_text())
    return figures
