"""Five times what the server can do, by schedule: what it still does, for whom, and how the others are told.

The model is `heavy`: a few hundred requests a second are its capacity, so that sending five times as many costs the
load's own process little of the cores that it shares with the server (it says how much).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.bench.cells import aligned
from tests.bench.checks import check
from tests.bench.load import measure
from tests.bench.models import MAX_ROWS, publish
from tests.bench.openloop import Log, offer
from tests.bench.processes import HOST, lectern
from tests.bench.shapes import SHAPES

MODEL: Final = "heavy"
CAPACITY_S: Final = 10.0
CAPACITY_CONNECTIONS: Final = 64
QUEUED_ROWS: Final = 256
SETTINGS: Final = ("--max-queued-rows", str(QUEUED_ROWS), "--max-rows-per-request", "64")
WINDOW_S: Final = 5.0
BUSY: Final = {"N": 429, "A": 503}  # how a full queue is told; /v2 has Triton's statuses
HEADINGS: Final = (
    "from s", "offered", "good/s", "p50 ms", "p99 ms", "busy", "busy p50 ms", "busy p99 ms", "from the send", "others",
)  # fmt: skip


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overload", type=float, metavar="SECONDS", help="offer a multiple of the capacity for so long, and stop"
    )
    parser.add_argument("--times", type=float, default=5.0, help="that multiple (default: 5)")
    parser.add_argument(
        "--form", choices=BUSY, default="N", help="N /v1/classify (default) or A /v2, which says 503 for 429"
    )
    parser.add_argument("--connections", type=int, default=1024, help="of the overload (default: 1024)")


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of the answers, by the time that they were due."""

    from_s: float
    offered: int
    good_per_s: float  # by the time that they were answered
    p50_ms: float
    p99_ms: float
    busy: int
    busy_p50_ms: float  # from the schedule until it was told
    busy_p99_ms: float
    busy_sent_p99_ms: float  # from the send: without the client's own delay
    others: int  # what should not have come


def run(options: argparse.Namespace, settings: Sequence[str], work: Path) -> tuple[dict[str, Any], bool]:
    """Returns the figures, and whether all was answered, by 200 or by being told to come back."""
    onnx = publish(work / "models", MODEL)
    shape, told = SHAPES[options.form], BUSY[options.form]
    requests = shape.requests(MODEL)
    with lectern(work / "models", work / "server.log", [*SETTINGS, *settings]) as server:
        worst = check(server, MODEL, onnx, [shape])
        capacity = measure(server, requests, CAPACITY_CONNECTIONS, CAPACITY_S, work)
        print(
            f"capacity: {capacity.per_s:,.0f} req/s (wrk, {CAPACITY_CONNECTIONS} connections, {CAPACITY_S:g} s), p99 "
            f"{capacity.p99_ms:.0f} ms; offering {options.times:g} times that for {options.overload:g} s, "
            f"{options.connections} connections",
            flush=True,
        )
        cpu_s = server.tree.cpu_s()
        log = offer(
            HOST,
            server.port,
            [request.raw(server.address) for request in requests],
            per_s=options.times * capacity.per_s,
            seconds=options.overload,
            connections=options.connections,
            seed=0,
        )
        cpu_s = server.tree.cpu_s() - cpu_s
        memory = server.tree.memory()
        worst = max(worst, check(server, MODEL, onnx, [shape]))
    lines = [
        window(log, told, at, min(at + WINDOW_S, options.overload))
        for at in np.arange(0, options.overload, WINDOW_S).tolist()
    ]
    whole = window(log, told, 0.0, options.overload)
    print("\n" + aligned(table([*lines, whole], told)))
    statuses = {str(k or "broken"): v for k, v in sorted(Counter(log.status).items())}
    unanswered = log.offered - len(log.status) + log.unsent
    share = whole.good_per_s / capacity.per_s
    rows = queued_rows(settings)
    print(
        f"\ngoodput {whole.good_per_s:,.0f} req/s, {share:.1%} of the capacity\n"
        f"answers: {statuses}, {unanswered} without an answer ({log.unsent} never sent) {log.reasons or ''}\n"
        f"a full queue of {rows} rows per worker takes {rows / capacity.per_s:.2f} s of one worker at that rate; "
        f"a run takes {MAX_ROWS[MODEL]} rows at most\n"
        f"cores used: client {log.cpu_s / options.overload:.2f}, server {cpu_s / options.overload:.2f}; the client "
        f"was at most {log.latest_s * 1e3:.0f} ms late, {log.most_waiting} requests at once found no free connection\n"
        f"RSS {memory.rss / 1e6:,.0f} MB, {memory.processes} processes; largest difference to ONNX Runtime {worst:.1g}",
        flush=True,
    )
    figures = {
        "capacity": asdict(capacity), "goodput_of_capacity": share, "whole": asdict(whole),
        "windows": [asdict(line) for line in lines], "statuses": statuses, "unanswered": unanswered,
        "reasons": log.reasons, "client_cores": log.cpu_s / options.overload, "latest_s": log.latest_s,
    }  # fmt: skip
    return figures, not unanswered and "200" in statuses and set(statuses) <= {"200", str(told)}


def queued_rows(settings: Sequence[str]) -> int:
    given = list(settings)
    return int(given[given.index("--max-queued-rows") + 1]) if "--max-queued-rows" in given else QUEUED_ROWS


def window(log: Log, told: int, begin: float, end: float) -> Window:
    """The requests that were due from `begin` to `end`, in seconds."""
    due, sent, done = np.array(log.due_s), np.array(log.sent_s), np.array(log.done_s)
    status = np.array(log.status)
    inside = (due >= begin) & (due < end)
    good, busy = inside & (status == 200), inside & (status == told)
    return Window(
        from_s=begin,
        offered=int(inside.sum()),
        good_per_s=int(((status == 200) & (done >= begin) & (done < end)).sum()) / (end - begin),
        p50_ms=percentile(done[good] - due[good], 50),
        p99_ms=percentile(done[good] - due[good], 99),
        busy=int(busy.sum()),
        busy_p50_ms=percentile(done[busy] - due[busy], 50),
        busy_p99_ms=percentile(done[busy] - due[busy], 99),
        busy_sent_p99_ms=percentile(done[busy] - sent[busy], 99),
        others=int(inside.sum() - good.sum() - busy.sum()),
    )


def percentile(seconds: NDArray[np.float64], share: float) -> float:
    """In milliseconds; 0 where there is none."""
    return float(np.percentile(seconds, share)) * 1e3 if len(seconds) else 0.0


def table(windows: Sequence[Window], told: int) -> list[list[str]]:
    lines = [[heading.replace("busy", str(told)) for heading in HEADINGS]]
    for i, w in enumerate(windows):
        first = "all" if i == len(windows) - 1 else f"{w.from_s:g}"
        times = [f"{ms:.1f}" for ms in (w.p50_ms, w.p99_ms)]
        busy = [f"{ms:.2f}" for ms in (w.busy_p50_ms, w.busy_p99_ms, w.busy_sent_p99_ms)]
        lines.append([first, str(w.offered), f"{w.good_per_s:,.0f}", *times, str(w.busy), *busy, str(w.others)])
    return lines
