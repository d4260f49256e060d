"""Microphones at once: how many real-time streams of sound are answered how fast, with pieces sharing runs and without,
and beside a WebSocket that one would write by hand around the same graph.

A stream sends 320 ms of sound each 320 ms, the example sentence over and over, and begins at a random time within the
first of them. One stream alone tells after which pieces a server has news and what it says. From then on every stream
owes the same messages, word for word. The time of an answer is from when its piece was due by the clock, sent or not,
to when it came: a load or a server that falls behind makes answers late, never fewer. What is still owed some time
after the end counts as infinitely late. A stream that is cut off, says something else or never ends is broken.

A number of streams is held where none is broken and 95 % of the answers are in time. The largest number is searched
for: doubled until it is not held, then between. The load shares the machine's cores with the server; what it takes is
printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np
import soundfile

from app.core.manifest import MANIFEST_FILE
from tests.bench.microphones import BINARY, TEXT, Microphone, frame
from tests.bench.processes import HOST, ROOT, Running, lectern, running

MODEL: Final = "speech-streaming"
SENTENCE: Final = ROOT / "docs" / "examples" / "sentence.opus"
RATE: Final = 16_000
PIECE_S: Final = 0.32
SECONDS: Final = 5.12
TIMES_ALONE: Final = 3  # one stream has few answers
SOON_S: Final = 0.05
DRAIN_S: Final = 2.0  # after the end, for what is still owed
BEGIN: Final = 32
MOST: Final = 1024
GOALS_MS: Final = (60.0, 100.0)
FINENESS: Final = 1.2  # of the search: the smallest number that was not held over the largest that was
END: Final = frame(TEXT, b'{"event": "end"}')


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", action="store_true", help="measure real-time streams of sound, and stop")


@dataclass(frozen=True, slots=True)
class Owed:
    """What one stream is answered: of each message the piece that it is about, and its bytes; the last one's text."""

    pieces: tuple[int, ...]
    messages: tuple[bytes, ...]
    text: str


@dataclass(slots=True)
class Stream:
    """What one stream was answered, and when."""

    start: float = 0.0
    sent: int = 0
    came: list[tuple[float, int, bytes]] = field(default_factory=list)  # when, pieces sent until then, the message
    text: str | None = None

    def hear(self, message: bytes, now: float) -> None:
        event = json.loads(message)
        if event["event"] == "final":
            self.text = event["results"][0]["text"] if "results" in event else event["text"]
        else:
            self.came.append((now, self.sent, message))

    def owed(self) -> Owed:
        """What every stream is answered, if this one was alone: each message is about the piece sent last."""
        return Owed(tuple(sent - 1 for _, sent, _ in self.came), tuple(m for _, _, m in self.came), self.text or "")

    def waits_ms(self, owed: Owed, pieces: int) -> list[float]:
        """Of each message about one of the pieces; what comes after them is said as fast as it can be."""
        came = [now for now, _, _ in self.came] + [inf] * len(owed.pieces)
        return [
            1000 * (now - self.start - piece * PIECE_S)
            for now, piece in zip(came, owed.pieces, strict=False)
            if piece < pieces
        ]

    def is_right(self, owed: Owed) -> bool:
        return self.text == owed.text and tuple(message for _, _, message in self.came) == owed.messages


@dataclass(frozen=True, slots=True)
class Answered:
    """One number of streams. CPU in ms for each piece of sound, of the server's process tree and of the load."""

    streams: int
    answers: int
    p50_ms: float
    p95_ms: float
    broken: int
    late_ms: float  # by which the load itself sent 99 % of the pieces at most
    server_cpu_ms: float
    load_cpu_ms: float
    server_cores: float

    def holds(self, within_ms: float) -> bool:
        return not self.broken and self.p95_ms <= within_ms


def run(options: argparse.Namespace, settings: Sequence[str], work: Path) -> tuple[dict[str, Any], bool]:
    """The figures, and whether every server held one stream."""
    shared, alone = (_models(options.models, work / name, rows) for name, rows in (("shared", None), ("alone", 1)))
    servers: dict[str, AbstractContextManager[Running]] = {
        "Lectern": lectern(shared, work / "shared.log", settings),
        "Lectern, a run for each piece": lectern(alone, work / "alone.log", settings),
        "by hand": _by_hand(shared, work / "hand.log", 0),
        "by hand, 1 thread a run": _by_hand(shared, work / "hand1.log", 1),
    }
    found = {}
    for name, server in servers.items():
        print(
            f"\n{name}\n{'streams':>8} {'answers':>8} {'p50 ms':>8} {'p95 ms':>8} {'broken':>7} {'sent late':>10} "
            f"{'server CPU ms':>14} {'load CPU ms':>12} {'server cores':>13}",
            flush=True,
        )
        with server as started:
            found[name] = searched(Bench(started, pieces_of(SECONDS)).measured, GOALS_MS)
    print("\n" + "\n".join(table(found)), flush=True)
    good = all(rows[1].holds(max(GOALS_MS)) for rows in found.values())
    return {"streams": {name: [asdict(one) for one in rows.values()] for name, rows in found.items()}}, good


def searched(measure: Callable[[int], Answered], goals_ms: Sequence[float]) -> dict[int, Answered]:
    """Numbers of streams and what was measured, as far as is needed to know the most that are held at each goal."""
    found = {1: measure(1)}
    count = BEGIN
    while count <= MOST:
        found[count] = measure(count)
        if not found[count].holds(max(goals_ms)):
            break
        count *= 2
    for goal in sorted(goals_ms, reverse=True):
        while True:
            low = held(found, goal)
            above = [count for count in found if count > low]
            if not low or not above or min(above) <= max(FINENESS * low, low + 1):
                break
            middle = (low + min(above)) // 2
            found[middle] = measure(middle)
    return dict(sorted(found.items()))


def held(found: Mapping[int, Answered], goal_ms: float) -> int:
    """The largest number up to which all were held; 0 for none."""
    most = 0
    for count, one in sorted(found.items()):
        if not one.holds(goal_ms):
            break
        most = count
    return most


def table(found: Mapping[str, Mapping[int, Answered]]) -> list[str]:
    """A table in Markdown, and the ratios of the issue's goals."""
    most = {goal: {name: held(rows, goal) for name, rows in found.items()} for goal in GOALS_MS}
    columns = ["server", "1 stream: p50, p95", "32 streams: p50, p95", "CPU of a piece, at 32"]
    columns += [f"held at a p95 of {goal:g} ms" for goal in GOALS_MS]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, rows in found.items():
        cells = [name, *(f"{rows[n].p50_ms:.1f}, {rows[n].p95_ms:.1f} ms" if n in rows else "" for n in (1, BEGIN))]
        cells += [f"{rows[BEGIN].server_cpu_ms:.2f} ms" if BEGIN in rows else ""]
        cells += [str(most[goal][name]) for goal in GOALS_MS]
        lines.append("| " + " | ".join(cells) + " |")
    ours, *others = found
    for goal in GOALS_MS:
        ratios = ", ".join(f"{most[goal][ours] / max(1, most[goal][other]):.2f} of '{other}'" for other in others)
        lines.append(f"held at {goal:g} ms, times those: {ratios}")
    loads = [one.load_cpu_ms for rows in found.values() for n, one in rows.items() if n >= BEGIN]
    lines.append(f"the load itself: {np.median(loads):.3f} ms of CPU for each piece")
    return lines


class Bench:
    """Numbers of streams on one server, the first of them one alone.

    Args:
        pieces: of each stream, masked frames.
    """

    def __init__(self, server: Running, pieces: Sequence[bytes]) -> None:
        self._server, self._pieces = server, pieces
        self._owed: Owed | None = None

    def measured(self, count: int) -> Answered:
        import uvloop

        cpu, own, began = self._server.tree.cpu_s(), process_time(), perf_counter()
        streams: list[Stream] = []
        late: list[float] = []
        for _ in range(TIMES_ALONE if count == 1 else 1):
            uvloop.run(self._all(count, streams, late))
        used, own, took = self._server.tree.cpu_s() - cpu, process_time() - own, perf_counter() - began
        owed = self._owed = self._owed or streams[0].owed()
        waits = [wait for stream in streams for wait in stream.waits_ms(owed, len(self._pieces))]
        p50, p95 = np.percentile(waits, [50, 95], method="higher") if waits else (inf, inf)
        each = 1000 / (len(streams) * len(self._pieces))
        one = Answered(
            count, len(waits), float(p50), float(p95), sum(not stream.is_right(owed) for stream in streams),
            float(np.percentile(late, 99)), used * each, own * each, used / took,
        )  # fmt: skip
        print(
            f"{count:8} {one.answers:8} {one.p50_ms:8.1f} {one.p95_ms:8.1f} {one.broken:7} {one.late_ms:7.1f} ms "
            f"{one.server_cpu_ms:14.2f} {one.load_cpu_ms:12.3f} {one.server_cores:13.2f}",
            flush=True,
        )
        return one

    async def _all(self, count: int, streams: list[Stream], late: list[float]) -> None:
        """Open all, then send each piece when it is due, then wait for what is owed."""
        loop, chance = asyncio.get_running_loop(), random.Random(count)
        begun = [Stream() for _ in range(count)]
        streams += begun
        lines = []
        for stream in begun:
            make = partial(Microphone, f"/v1/transcribe?model={MODEL}", stream.hear)
            lines.append((await loop.create_connection(make, HOST, self._server.port))[1])
        await asyncio.gather(*(line.opened for line in lines))
        start = perf_counter() + SOON_S
        due = []
        for i, stream in enumerate(begun):
            stream.start = start + chance.random() * PIECE_S
            due += [(stream.start + k * PIECE_S, i, k) for k in range(len(self._pieces) + 1)]
        for at, i, k in sorted(due):
            if (left := at - perf_counter()) > 0:
                await asyncio.sleep(left)
            late.append(1000 * (perf_counter() - at))
            lines[i].send(END if k == len(self._pieces) else self._pieces[k])
            begun[i].sent = k + 1
        await asyncio.wait([line.ended for line in lines], timeout=DRAIN_S)
        for line in lines:
            line.abort()


def pcm_of(seconds: float) -> bytes:
    """The example sentence over and over, whole pieces of it: little-endian samples of 16 bits."""
    sound, rate = soundfile.read(SENTENCE, dtype="float32")
    assert rate == RATE
    samples = np.resize(sound, int(seconds / PIECE_S) * int(PIECE_S * RATE))
    pcm: bytes = np.rint(samples * 32767).astype("<i2").tobytes()
    return pcm


def pieces_of(seconds: float) -> list[bytes]:
    """The same in frames that a client sends."""
    pcm, size = pcm_of(seconds), int(PIECE_S * RATE) * 2
    return [frame(BINARY, pcm[i : i + size]) for i in range(0, len(pcm), size)]


def _models(models: Path, folder: Path, max_rows: int | None) -> Path:
    """A folder with the streaming model alone; `max_rows` of 1 lets no two pieces share a run."""
    shutil.copytree(models / MODEL, folder / MODEL)
    if max_rows is not None:
        for path in (folder / MODEL).glob(f"*/{MANIFEST_FILE}"):
            manifest = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps({**manifest, "max_rows": max_rows}), encoding="utf-8")
    return folder


def _by_hand(models: Path, log: Path, threads: int) -> AbstractContextManager[Running]:
    graph = max(models.glob("*/*/streamer.onnx"))
    command = [sys.executable, "-m", "tests.bench.hand_streams", str(graph), "{port}", str(threads)]
    return running(command, ready="/", log=log, ends=(0, -15))
