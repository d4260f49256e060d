"""A translator under load: words a second by clients at once, and how long answers take where requests come when they
like, with steps shared and with whole requests in a batch.

Each server has one core and one thread of its runtime, and the load has the others. Every sentence is asked of Lectern
beforehand; while it is measured, its answers must be the same, whoever else is served meanwhile. The server written by
hand runs the same two graphs on all requests that wait, to the end of the longest. Another decodes a Transformer of as
many parameters by CTranslate2, where that is installed.

Sentences of all lengths come as a Poisson process at shares of what either server answers at most, the same ones in the
same order for both; a wait counts from when a sentence was due.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Self

import numpy as np

from tests.bench.models import WrongModel
from tests.bench.openloop import offer
from tests.bench.processes import HOST, Running, lectern, running

MODEL: Final = "translator-en-pt"
CLIENTS: Final = (1, 8, 32)
SHARES: Final = (0.5, 0.7)
SECONDS: Final = 5.0
WARM_S: Final = 1.0
LOADED_S: Final = 20.0
ROUNDS: Final = 2
USUAL: Final = 10  # words of a sentence
LENGTHS: Final = range(5, 41)
SENTENCES: Final = 360
MOST_CLIENTS: Final = 64
STREAMS: Final = 50
OURS: Final = "Lectern"
BY_HAND: Final = "by hand, whole requests"
CTRANSLATE2: Final = "CTranslate2, a Transformer"

SUBJECTS: Final = ("a man", "a woman", "two children", "a young girl", "an old man", "a brown dog", "some people")
WITH: Final = ("in a red shirt", "with a black hat", "in blue jeans", "wearing glasses", "with long hair")
DOING: Final = ("playing the guitar", "riding a bike", "looking at a camera", "running", "sitting on a bench")
WHERE: Final = ("on the street", "near the water", "in front of a building", "in the park", "at night")


def sentence(words: int, chance: random.Random) -> str:
    """A description of a picture with so many words."""
    found: list[str] = []
    while len(found) < words:
        parts = [chance.choice(SUBJECTS), chance.choice(WITH), "is", chance.choice(DOING), chance.choice(WHERE)]
        found += (["while"] if found else []) + " ".join(parts).split()
    return " ".join(found[:words]).capitalize() + "."


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--words", action="store_true", help="measure a translator, and stop")


@dataclass(slots=True)
class Answered:
    """A number of clients, each of whom asks again when it was answered."""

    clients: int
    answers: int = 0
    words: int = 0
    wrong: int = 0
    seconds: float = 0.0
    waits_ms: list[float] = field(default_factory=list)

    @property
    def words_per_s(self) -> float:
        return self.words / self.seconds

    @property
    def p50_ms(self) -> float:
        return float(np.median(self.waits_ms))


@dataclass(frozen=True, slots=True)
class Asked:
    """A sentence as it is sent, and what is right to answer: its translation, or nothing that could be compared."""

    request: bytes
    right: str | None = None

    @classmethod
    def of(cls, text: str) -> Asked:
        body = json.dumps({"text": text, "beam": 1}).encode()
        head = f"POST /v1/translate?model={MODEL} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        return cls(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)


class Client:
    """A connection that is kept alive."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def ask(self, request: bytes) -> str:
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        answer = json.loads(await self._reader.readexactly(length))
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(f"a server answered {answer}")
        text: str = answer["results"][0]["text"]
        return text


async def asked(port: int, sentences: Sequence[Asked], clients: int, seconds: float) -> Answered:
    """Closed loop: answers that came within so many seconds."""
    found = Answered(clients, seconds=seconds)
    end = perf_counter() + seconds

    async def one(number: int) -> None:
        async with Client(port) as client:
            at = number
            while (began := perf_counter()) < end:
                sent = sentences[at % len(sentences)]
                text = await client.ask(sent.request)
                at += clients
                now = perf_counter()
                if now < end:
                    found.answers += 1
                    found.words += len(text.split())
                    found.wrong += sent.right not in (None, text)
                    found.waits_ms.append(1e3 * (now - began))

    await asyncio.gather(*(one(number) for number in range(clients)))
    return found


async def first_tokens(port: int, sentences: Sequence[Asked]) -> list[float]:
    """One stream of events after the other: ms from the request to the first event, whose name is checked."""
    waits = []
    for one in sentences:
        request = one.request.replace(b"Host:", b"Accept: text/event-stream\r\nConnection: close\r\nHost:", 1)
        reader, writer = await asyncio.open_connection(HOST, port)
        began = perf_counter()
        writer.write(request)
        await reader.readuntil(b"event: token")
        waits.append(1e3 * (perf_counter() - began))
        if b"event: final" not in await reader.read():
            raise RuntimeError("a stream ended without its last event")
        writer.close()
        await writer.wait_closed()
    return waits


async def answers(port: int, sentences: Sequence[Asked]) -> list[Asked]:
    """The same, with what is answered to each alone."""
    async with Client(port) as client:
        return [Asked(one.request, await client.ask(one.request)) for one in sentences]


def run(options: argparse.Namespace, settings: Sequence[str], work: Path) -> tuple[dict[str, Any], bool]:
    """The figures, and whether no answer depended on its company.

    Raises: WrongModel, StartFailed.
    """
    if not (options.models / MODEL).is_dir():
        raise WrongModel(f"{options.models / MODEL} is missing: train it, or name another folder with --models")
    chance = random.Random(0)
    usual = [Asked.of(sentence(USUAL, chance)) for _ in range(SENTENCES)]
    mixed = [Asked.of(sentence(chance.choice(LENGTHS), chance)) for _ in range(SENTENCES)]
    with ExitStack() as stack:
        servers = {name: stack.enter_context(server) for name, server in _servers(options.models, settings, work)}
        bench = Bench(servers, usual, mixed)
        curves = bench.curves()
        most = bench.most()
        loaded = {
            f"{share:.0%} of {name}": bench.loaded(share * one.answers / SECONDS)
            for name, one in most.items()
            for share in SHARES
        }
        first_ms = bench.first_token_ms()
    print("\n" + "\n".join(table(curves)), flush=True)
    answered = [one for rounds in curves.values() for row in rounds for one in row] + list(most.values())
    curves_ = {name: [[asdict(one) for one in row] for row in rounds] for name, rounds in curves.items()}
    return {"words": curves_, "loaded": loaded, "first_token_ms": first_ms}, not sum(one.wrong for one in answered)


class Bench:
    """Servers that are measured in turn.

    Args:
        usual: sentences of the same number of words. mixed: of all numbers.
    """

    def __init__(self, servers: Mapping[str, Running], usual: Sequence[Asked], mixed: Sequence[Asked]) -> None:
        self._ports = {name: server.port for name, server in servers.items()}
        alone = {OURS: [asyncio.run(answers(self._ports[OURS], some)) for some in (usual, mixed)]}
        self._sentences = {name: alone.get(name, [usual, mixed]) for name in servers}

    def curves(self) -> dict[str, list[list[Answered]]]:
        """Of each server, of each round: the usual sentence by numbers of clients."""
        found: dict[str, list[list[Answered]]] = {name: [] for name in self._ports}
        print(f"\n{'':28} {'clients':>7} {'words/s':>8} {'p50 ms':>7} {'wrong':>6}", flush=True)
        for _ in range(ROUNDS):
            for name in self._ports:
                self._asked(name, 0, max(CLIENTS), WARM_S)
                found[name].append([self._asked(name, 0, clients, SECONDS) for clients in CLIENTS])
                for one in found[name][-1]:
                    print(
                        f"{name:28} {one.clients:7} {one.words_per_s:8.0f} {one.p50_ms:7.1f} {one.wrong:6}", flush=True
                    )
        return found

    def most(self) -> dict[str, Answered]:
        """What each answers at most of sentences of all lengths."""
        found = {name: self._asked(name, 1, MOST_CLIENTS, SECONDS) for name in (OURS, BY_HAND)}
        shown = ", ".join(f"{name} {one.answers / SECONDS:.0f} sentences/s" for name, one in found.items())
        print(f"\n{LENGTHS[0]} to {LENGTHS[-1]} words, {MOST_CLIENTS} clients: {shown}", flush=True)
        return found

    def loaded(self, per_s: float) -> dict[str, dict[str, float]]:
        """So many sentences of all lengths a second, by chance."""
        found = {}
        for name in (OURS, BY_HAND):
            requests = [one.request for one in self._sentences[name][1]]
            log = offer(HOST, self._ports[name], requests, per_s=per_s, seconds=LOADED_S, connections=256, seed=0)
            waits = 1e3 * (np.array(log.done_s) - np.array(log.due_s))
            found[name] = {
                "median_ms": float(np.median(waits)),
                "p99_ms": float(np.percentile(waits, 99)),
                "per_s": len(waits) / max(log.done_s),
                "failed": float(sum(status != 200 for status in log.status) + log.unsent),
            }
            shown = ", ".join(f"{key} {value:.1f}" for key, value in found[name].items())
            print(f"{per_s:6.1f} a second: {name:24} {shown}", flush=True)
        return found

    def first_token_ms(self) -> float:
        """The median from a request to the event of its first token, on a server that is idle otherwise."""
        waits = asyncio.run(first_tokens(self._ports[OURS], self._sentences[OURS][0][:STREAMS]))
        found = float(np.median(waits))
        print(
            f"first token of a stream: median {found:.1f} ms, the longest of {len(waits)} {max(waits):.1f}", flush=True
        )
        return found

    def _asked(self, name: str, sentences: int, clients: int, seconds: float) -> Answered:
        return asyncio.run(asked(self._ports[name], self._sentences[name][sentences], clients, seconds))


def _servers(
    models: Path, settings: Sequence[str], work: Path
) -> Iterator[tuple[str, AbstractContextManager[Running]]]:
    """One after the other, each started on the first core; the load is on the others."""
    cores = sorted(os.sched_getaffinity(0))
    ours = work / "models"
    shutil.copytree(models / MODEL, ours / MODEL)
    folder = max((ours / MODEL).iterdir())
    os.sched_setaffinity(0, cores[:1])
    yield OURS, lectern(ours, work / "ours.log", ["--threads", "1", *settings])
    yield BY_HAND, _by_hand(folder, work / "hand.log")
    if find_spec("ctranslate2") is not None:
        yield CTRANSLATE2, _by_hand(folder, work / "ctranslate2.log", "--ctranslate2")
    os.sched_setaffinity(0, cores[1:] or cores)


def _by_hand(folder: Path, log: Path, *flags: str) -> AbstractContextManager[Running]:
    command = [sys.executable, "-m", "tests.bench.hand_words", str(folder), "{port}", *flags]
    return running(command, ready="/", log=log, ends=(0, -15))


def table(curves: Mapping[str, Sequence[Sequence[Answered]]]) -> list[str]:
    """Medians of the rounds in Markdown, and how much more a server does for many than for one."""
    columns = ["server", *(f"{n} client{'s'[: n > 1]}: words/s" for n in CLIENTS), f"{CLIENTS[-1]} over 1"]
    columns += [f"p50 at {n}" for n in CLIENTS[:2]]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, rounds in curves.items():
        words = [float(np.median([row[i].words_per_s for row in rounds])) for i in range(len(CLIENTS))]
        p50 = [float(np.median([row[i].p50_ms for row in rounds])) for i in (0, 1)]
        cells = [name, *(f"{one:,.0f}" for one in words), f"{words[-1] / words[0]:.1f}"]
        lines.append("| " + " | ".join([*cells, *(f"{one:.1f} ms" for one in p50)]) + " |")
    return lines
