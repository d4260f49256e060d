"""Every form of request to every shipped model for half an hour, with bad requests and clients that hang up: does the
memory stay where it was, are files left open, and does anything but the right answer come?"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from app.codecs.audio import pcm16
from app.core.manifest import MANIFEST_FILE, Manifest
from app.web.speech.recognize import STREAMER
from tests.bench.microphones import Microphone
from tests.bench.mixture import Send, mixture
from tests.bench.processes import HOST, ROOT, Running, lectern
from tests.bench.sound_forms import heard
from tests.bench.streams import END, RATE, Stream, pcm_of, pieces_of

CLIENTS: Final = 16
MICROPHONES: Final = 2  # for each model that streams, beside the clients
MICROPHONES_HANG_UP: Final = 0.2  # share of their sessions
SENTENCE_S: Final = 3.2
MOST_FILES: Final = CLIENTS  # more files open at the end than in the beginning: clients come and go
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
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)  # seconds, RSS, PSS, open files


def run(options: argparse.Namespace, settings: Sequence[str], work: Path) -> tuple[dict[str, Any], bool]:
    """Returns the figures, and whether all was right and the memory flat."""
    import uvloop

    seconds = options.soak * 60
    sends = mixture(options.models)
    print(f"{len(sends)} requests in turn, {CLIENTS} clients, {seconds / 60:g} minutes", flush=True)
    tally = SharedCounters()
    with lectern(options.models, work / "server.log", settings) as server:
        before = server.tree.files()
        uvloop.run(soak(server, sends, seconds, tally, what_streams(options.models)))
        more_files = server.tree.files() - before
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
        f"growth from {settled(seconds) / 60:.1f} minutes to the end: RSS {rss:+.2%}, PSS {pss:+.2%}; "
        f"{more_files:+} files open after the last client than before the first",
        flush=True,
    )
    figures = {
        "seconds": seconds, "right": tally.right, "wrong": tally.wrong, "hung_up": tally.hung_up,
        "samples": tally.samples, "rss_growth": rss, "pss_growth": pss, "peak_rss": last.peak_rss,
        "more_files": more_files,
    }  # fmt: skip
    return figures, not tally.wrong and rss <= MOST_GROWTH and more_files <= MOST_FILES


def settled(seconds: float) -> float:
    return min(SETTLED_S, seconds / 5)


def growth(samples: Sequence[tuple[float, ...]], seconds: float, column: int) -> float:
    """From the median of the minute after `settled` to that of the last minute, as a share."""
    begin = settled(seconds)
    minute = min(60.0, seconds / 5)
    first = [sample[column] for sample in samples if begin <= sample[0] <= begin + minute]
    last = [sample[column] for sample in samples if sample[0] >= seconds - minute]
    return statistics.median(last) / statistics.median(first) - 1 if first and last else 0.0


async def soak(
    server: Running,
    sends: Sequence[Send],
    seconds: float,
    tally: SharedCounters,
    spoken: Sequence[tuple[str, str]] = (),
) -> None:
    """`spoken`: models that stream, and what they hear in the example sentence."""
    clients = [client(server, sends, seconds, tally, random.Random(i)) for i in range(CLIENTS)]
    clients += [
        microphone(server, model, said, seconds, tally, random.Random(i))
        for model, said in spoken
        for i in range(MICROPHONES)
    ]
    await asyncio.gather(watch(server, seconds, tally), *clients)


def what_streams(folder: Path) -> list[tuple[str, str]]:
    """Models that hear while one speaks, and what ONNX Runtime alone hears in the pieces that are sent."""
    found = []
    for file in sorted(folder.glob(f"*/*/{MANIFEST_FILE}")):
        manifest = Manifest.model_validate_json(file.read_bytes())
        if manifest.task == "transcribe" and STREAMER in manifest.graphs and manifest.sound.rate == RATE:  # type: ignore[union-attr]  # such a model has one
            found.append((manifest.name, heard(file.parent, manifest, pcm16(pcm_of(SENTENCE_S)))))
    return found


async def watch(server: Running, seconds: float, tally: SharedCounters) -> None:
    """A sample each SAMPLE_S, a line each minute."""
    began, before = time.monotonic(), 0
    every = min(SAMPLE_S, seconds / 30)
    for number in range(1, int(seconds / every) + 1):
        await asyncio.sleep(max(0.0, began + number * every - time.monotonic()))
        memory = server.tree.memory()
        tally.samples.append((number * every, memory.rss, memory.pss, server.tree.files()))
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
            status, stays, body = await within(read_answer(reader))
            if send.is_right(status, body):
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


async def within(answer: Coroutine[Any, Any, tuple[int, bool, bytes]]) -> tuple[int, bool, bytes]:
    async with asyncio.timeout(ANSWER_S):
        return await answer


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    """Status, whether the connection stays open, and the body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if lines.get(b"transfer-encoding") == b"chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:size]
        await reader.readline()
    else:
        body = await reader.readexactly(int(lines.get(b"content-length", b"0")))
    return int(head[9:12]), lines.get(b"connection") != b"close", body


async def microphone(
    server: Running, model: str, said: str, seconds: float, tally: SharedCounters, chance: random.Random
) -> None:
    """One session of `WS /v1/transcribe` after the other: the example sentence as fast as it is heard."""
    loop, end = asyncio.get_running_loop(), time.monotonic() + seconds
    frames = pieces_of(SENTENCE_S)
    while time.monotonic() < end:
        stream = Stream()
        make = partial(Microphone, f"/v1/transcribe?model={model}", stream.hear)
        line = (await loop.create_connection(make, HOST, server.port))[1]
        hangs_up = chance.random() < MICROPHONES_HANG_UP
        try:
            async with asyncio.timeout(ANSWER_S):
                await line.opened
                for framed in frames[: chance.randrange(len(frames)) if hangs_up else None]:
                    line.send(framed)
                if hangs_up:
                    tally.hung_up += 1
                    continue
                line.send(END)
                await line.ended
            if stream.text == said:
                tally.right["WebSocket"] += 1
            else:
                tally.wrong[f"WebSocket: {stream.text}"] += 1
        except (OSError, TimeoutError, KeyError) as error:
            tally.wrong[f"WebSocket: {type(error).__name__}"] += 1
        finally:
            line.abort()
