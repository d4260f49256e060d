"""Every form of request to every shipped model for half an hour, with bad requests and clients that hang up: does the
memory stay where it was, and does anything but the right status come?"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.bench.mixture import Send, mixture
from tests.bench.processes import HOST, ROOT, Running, lectern

CLIENTS: Final = 16
HANG_UPS: Final = 0.02  # share of the requests after which the client is gone
SAMPLE_S: Final = 10.0
SETTLED_S: Final = 120.0  # caches and arenas have filled by then
MOST_GROWTH: Final = 0.02
ANSWER_S: Final = 30.0


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="a mixed load for so long, memory watched")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="served in the soak (default: models/)")


@dataclass
class SharedCounters:
    right: Counter[str] = field(default_factory=Counter)  # kind of request -> answers of the right status
    wrong: Counter[str] = field(default_factory=Counter)  # "kind: what came" -> how often
    hung_up: int = 0
    samples: list[tuple[float, int, int]] = field(default_factory=list)  # seconds, RSS, PSS


def run(options: argparse.Namespace, settings: Sequence[str], work: Path) -> tuple[dict[str, Any], bool]:
    """Returns the figures, and whether all was right and the memory flat."""
    import uvloop

    seconds = options.soak * 60
    sends = mixture(options.models)
    print(f"{len(sends)} requests in turn, {CLIENTS} clients, {seconds / 60:g} minutes", flush=True)
    tally = SharedCounters()
    with lectern(options.models, work / "server.log", settings) as server:
        uvloop.run(soak(server, sends, seconds, tally))
        last = server.tree.memory()
        log_bytes = server.log.stat().st_size
    rss, pss = growth(tally.samples, seconds, 1), growth(tally.samples, seconds, 2)
    total = sum(tally.right.values())
    print(
        f"\n{total:,} right answers: "
        + ", ".join(f"{kind} {count:,}" for kind, count in tally.right.most_common())
        + f"\n{sum(tally.wrong.values())} wrong: {dict(tally.wrong) or 'none'}; {tally.hung_up:,} clients hung up\n"
        f"memory at the end: RSS {last.rss / 1e6:,.1f} MB, PSS {last.pss / 1e6:,.1f} MB, most RSS "
        f"{last.peak_rss / 1e6:,.1f} MB, {last.processes} processes; the server's log has {log_bytes:,} bytes\n"
        f"growth from {settled(seconds) / 60:.1f} minutes to the end: RSS {rss:+.2%}, PSS {pss:+.2%}",
        flush=True,
    )
    figures = {
        "seconds": seconds, "right": tally.right, "wrong": tally.wrong, "hung_up": tally.hung_up,
        "samples": tally.samples, "rss_growth": rss, "pss_growth": pss, "peak_rss": last.peak_rss,
    }  # fmt: skip
    return figures, not tally.wrong and rss <= MOST_GROWTH


def settled(seconds: float) -> float:
    return min(SETTLED_S, seconds / 5)


def growth(samples: Sequence[tuple[float, int, int]], seconds: float, column: int) -> float:
    """From the median of the minute after `settled` to that of the last minute, as a share."""
    begin = settled(seconds)
    minute = min(60.0, seconds / 5)
    first = [sample[column] for sample in samples if begin <= sample[0] <= begin + minute]
    last = [sample[column] for sample in samples if sample[0] >= seconds - minute]
    return statistics.median(last) / statistics.median(first) - 1 if first and last else 0.0


async def soak(server: Running, sends: Sequence[Send], seconds: float, tally: SharedCounters) -> None:
    clients = [client(server, sends, seconds, tally, random.Random(i)) for i in range(CLIENTS)]
    await asyncio.gather(watch(server, seconds, tally), *clients)


async def watch(server: Running, seconds: float, tally: SharedCounters) -> None:
    """A sample each SAMPLE_S, a line each minute."""
    began, before = time.monotonic(), 0
    every = min(SAMPLE_S, seconds / 30)
    for number in range(1, int(seconds / every) + 1):
        await asyncio.sleep(max(0.0, began + number * every - time.monotonic()))
        memory = server.tree.memory()
        tally.samples.append((number * every, memory.rss, memory.pss))
        if number % 6 == 0:
            total = sum(tally.right.values())
            rate, before = (total - before) / (6 * every), total
            print(
                f"{number * every / 60:5.1f} min  {rate:7,.0f} req/s  RSS {memory.rss / 1e6:7,.1f}  "
                f"PSS {memory.pss / 1e6:7,.1f} MB  wrong {sum(tally.wrong.values())}",
                flush=True,
            )


async def client(
    server: Running, sends: Sequence[Send], seconds: float, tally: SharedCounters, chance: random.Random
) -> None:
    """One request after the other, any of them, until the time is over."""
    end = time.monotonic() + seconds
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while time.monotonic() < end:
        send = chance.choice(sends)
        try:
            if streams is None:
                streams = await asyncio.open_connection(HOST, server.port)
            reader, writer = streams
            wire = send.raw(server.address)
            if chance.random() < HANG_UPS:
                tally.hung_up += 1
                writer.write(wire[: chance.randrange(1, len(wire) + 1)])
                await asyncio.sleep(chance.random() * 0.005)
                writer.transport.abort()
                streams = None
                continue
            writer.write(wire)
            status, stays = await within(read_answer(reader))
            if status // 100 == send.good:
                tally.right[send.kind] += 1
            else:
                tally.wrong[f"{send.kind}: {status}"] += 1
            if not stays:
                writer.close()
                streams = None
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            tally.wrong[f"{send.kind}: {type(error).__name__}"] += 1
            if streams is not None:
                streams[1].transport.abort()
            streams = None
    if streams is not None:
        streams[1].close()


async def within(answer: Coroutine[Any, Any, tuple[int, bool]]) -> tuple[int, bool]:
    async with asyncio.timeout(ANSWER_S):
        return await answer


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status, and whether the connection stays open; the body is read and forgotten."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if lines.get(b"transfer-encoding") == b"chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        await reader.readexactly(int(lines.get(b"content-length", b"0")))
    return int(head[9:12]), lines.get(b"connection") != b"close"
