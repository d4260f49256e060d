"""Microphones at once: how many real-time streams of sound are answered how fast, with pieces sharing runs and without,
and beside a WebSocket that one would write by hand around the same graph.

A stream sends 320 ms of sound every 320 ms, the example sentence over and over, each stream at its own phase. The time
of an answer is from when a piece was due to be sent until the next message that says what is heard; pieces after which
the words are the same are not answered by either server and not counted. The load shares the machine's cores with the
server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np
import soundfile
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from app.core.manifest import MANIFEST_FILE
from tests.bench.processes import HOST, ROOT, Running, lectern, running

MODEL: Final = "speech-streaming"
SENTENCE: Final = ROOT / "docs" / "examples" / "sentence.opus"
RATE: Final = 16_000
PIECE_S: Final = 0.32
SECONDS: Final = 12.0
COUNTS: Final = (1, 8, 16, 32, 48, 64, 96, 128)
HELD_MS: Final = 60.0
"""A number of streams is held where 95 % of the answers come within it, and none of the streams is cut off."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", action="store_true", help="measure real-time streams of sound, and stop")
    parser.add_argument("--held-ms", type=float, default=HELD_MS, help="what counts as held (default: %(default)s)")


@dataclass(frozen=True, slots=True)
class Answered:
    """One number of streams: the times of their answers."""

    streams: int
    answers: int
    p50_ms: float
    p95_ms: float
    broken: int
    cpu_share: float  # of one core, of the server


def run(options: argparse.Namespace, settings: Sequence[str], work: Path) -> tuple[dict[str, Any], bool]:
    """The figures, and whether every server held one stream."""
    shared, alone = (_models(work / name, rows) for name, rows in (("shared", None), ("alone", 1)))
    servers: dict[str, AbstractContextManager[Running]] = {
        "shared runs": lectern(shared, work / "shared.log", settings),
        "a run for each piece": lectern(alone, work / "alone.log", settings),
        "written by hand": _by_hand(shared, work / "hand.log"),
    }
    found: dict[str, list[Answered]] = {}
    for name, server in servers.items():
        print(
            f"\n{name}\n{'streams':>8} {'answers':>8} {'p50 ms':>8} {'p95 ms':>8} {'broken':>7} {'CPU':>6}", flush=True
        )
        found[name] = []
        with server as started:
            for count in COUNTS:
                one = measured(started, count)
                found[name].append(one)
                print(
                    f"{count:8} {one.answers:8} {one.p50_ms:8.1f} {one.p95_ms:8.1f} {one.broken:7} "
                    f"{one.cpu_share:6.2f}",
                    flush=True,
                )
                if one.p95_ms > 4 * options.held_ms or one.broken:
                    break
    most = {name: held(rows, options.held_ms) for name, rows in found.items()}
    print(f"\nheld at a 95th percentile of {options.held_ms:g} ms: {most}")
    return {"streams": {name: [asdict(one) for one in rows] for name, rows in found.items()}}, min(most.values()) >= 1


def held(rows: Sequence[Answered], held_ms: float) -> int:
    """The largest number of streams up to which all were held; 0 for none."""
    most = 0
    for one in rows:
        if one.broken or not one.p95_ms <= held_ms:
            break
        most = one.streams
    return most


def measured(server: Running, count: int) -> Answered:
    before, began = server.tree.cpu_s(), perf_counter()
    waits, broken = asyncio.run(_all(server.port, count))
    used = (server.tree.cpu_s() - before) / (perf_counter() - began)
    p50, p95 = np.percentile(waits, [50, 95]) if waits else (float("nan"), float("nan"))
    return Answered(count, len(waits), float(p50), float(p95), broken, used)


async def _all(port: int, count: int) -> tuple[list[float], int]:
    sound, _ = soundfile.read(SENTENCE, dtype="float32")
    samples = np.tile(sound, int(SECONDS / (len(sound) / RATE)) + 1)[: int(SECONDS * RATE)]
    pcm = (samples * 32767).astype("<i2").tobytes()
    size = int(PIECE_S * RATE) * 2
    pieces = [pcm[i : i + size] for i in range(0, len(pcm), size)]
    waits: list[float] = []
    broken = await asyncio.gather(*(_stream(port, pieces, PIECE_S * i / count, waits) for i in range(count)))
    return waits, sum(broken)


async def _stream(port: int, pieces: Sequence[bytes], phase_s: float, waits: list[float]) -> bool:
    """Whether it was cut off."""
    due = 0.0
    try:
        async with connect(f"ws://{HOST}:{port}/v1/transcribe?model={MODEL}", max_size=None) as socket:

            async def listen() -> None:
                async for message in socket:
                    event = json.loads(message)
                    if event["event"] == "partial":
                        waits.append(1000 * (perf_counter() - due))
                    elif event["event"] == "final":
                        return
                    else:
                        raise RuntimeError(event)

            listening = asyncio.ensure_future(listen())
            start = perf_counter() + phase_s
            for k, piece in enumerate(pieces):
                until = start + k * PIECE_S
                await asyncio.sleep(max(0.0, until - perf_counter()))
                due = until
                await socket.send(piece)
            await socket.send('{"event": "end"}')
            await listening
    except (ConnectionClosed, RuntimeError, OSError):
        return True
    return False


def _models(folder: Path, max_rows: int | None) -> Path:
    """A folder with the streaming model alone; `max_rows` of 1 lets no two pieces share a run."""
    shutil.copytree(ROOT / "models" / MODEL, folder / MODEL)
    if max_rows is not None:
        for path in (folder / MODEL).glob(f"*/{MANIFEST_FILE}"):
            manifest = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps({**manifest, "max_rows": max_rows}), encoding="utf-8")
    return folder


def _by_hand(models: Path, log: Path) -> AbstractContextManager[Running]:
    (graph,) = models.glob("*/*/streamer.onnx")
    return running([sys.executable, "-m", "tests.bench.hand_streams", str(graph), "{port}"], ready="/", log=log)
