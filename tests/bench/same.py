"""Two builds of the server asked the same: do they answer the same, to the byte?

Both serve one folder of models side by side, on one thread a run so that the same numbers come out, and are sent some
700 requests one at a time: every task, every form of body and of answer, every kind of error. What differs in words
alone, in messages and descriptions, is listed apart from what differs in values.
"""

from __future__ import annotations

import argparse
import http.client
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.compare import BEFORE, NOW, build, checkout
from tests.bench.differences import ABSENT, Answer, Difference, differences
from tests.bench.processes import HOST, ROOT, Running, lectern
from tests.bench.recorded import Recorded
from tests.bench.recorded_protocol import of_pages, of_protocols
from tests.bench.recorded_tasks import of_tasks

SETTINGS: Final = ("--threads", "1")
NAMED: Final = {"Host": "localhost:8000", "X-Request-Id": "recorded"}  # both may stand in answers
SHOWN: Final = 8  # differences of one request


@dataclass(frozen=True, slots=True)
class Compared:
    """A request, by its number from 1, and where its answers differ."""

    number: int
    request: Recorded
    status: int  # that came before
    differences: list[Difference]

    def __str__(self) -> str:
        return f"#{self.number} {self.request.method} {self.request.path[:100]} ({self.request.name})"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--same", type=Path, metavar="FOLDER", help="another checkout: send both the same requests, compare all answers"
    )


def requests(models: Path) -> list[Recorded]:
    """All, in their order; the pages come last and tell what the others were counted as."""
    return [*of_tasks(models), *of_protocols(models), *of_pages(models)]


def run(options: argparse.Namespace, settings: Sequence[str], work: Path) -> tuple[dict[str, Any], bool]:
    """Send them, print each difference.

    Returns:
        The differences, and whether there are none in values and every status is the right one.

    Raises:
        WrongFolder, StartFailed.
    """
    folders = {BEFORE: checkout(options.same), NOW: ROOT}
    print("\n".join(f"{side:9} {build(folder)}" for side, folder in folders.items()), flush=True)
    models = options.models.resolve()
    with ExitStack() as servers:
        before, now = (
            servers.enter_context(lectern(models, work / f"{side}.log", [*SETTINGS, *settings], folder=folder))
            for side, folder in folders.items()
        )
        compared = [compare(before, now, i, request) for i, request in enumerate(requests(models), 1)]
    report(compared)
    unlike = [one for one in compared if one.differences]
    good = not any(in_values(one) for one in unlike) and not any(one.status != one.request.status for one in compared)
    return {"requests": len(compared), "differences": [in_json(one) for one in unlike]}, good


def compare(before: Running, now: Running, number: int, request: Recorded) -> Compared:
    old, new = (ask(server.port, request) for server in (before, now))
    return Compared(number, request, old.status, differences(old, new, named=is_named(request)))


def is_named(request: Recorded) -> bool:
    """Whether it has the id that `ask` gives, which answers repeat."""
    return "X-Request-Id" not in request.headers


def ask(port: int, request: Recorded) -> Answer:
    """Send one request on a connection of its own."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
        headers = {**NAMED, **({} if request.body is None else {"Content-Length": str(len(request.body))})}
        for name, value in {**headers, **request.headers}.items():
            connection.putheader(name, value)
        connection.endheaders(request.body)
        response = connection.getresponse()
        return Answer(
            response.status, [(name.lower(), value) for name, value in response.getheaders()], response.read()
        )
    finally:
        connection.close()


def in_values(one: Compared) -> list[Difference]:
    """Those that are not of words, what only one of them has first."""
    values = [difference for difference in one.differences if not difference.words]
    return sorted(values, key=lambda difference: ABSENT not in (difference.before, difference.now))


def report(compared: Sequence[Compared]) -> None:
    for one in compared:
        if one.status != one.request.status:
            print(f"\n{one}\n  status {one.status} before, where {one.request.status} was expected")
    for one in compared:
        if values := in_values(one):
            print(f"\n{one}")
            for difference in values[:SHOWN]:
                print(f"  {difference.place}\n  - {difference.before}\n  + {difference.now}")
            if len(values) > SHOWN:
                print(f"  and {len(values) - SHOWN} more: --out FILE has all")
    texts = words(compared)
    if texts:
        print(f"\nwords: {len(texts)} texts differ")
    for (before, now), places in texts.items():
        print(f"\n{len(places)} times, first in {places[0]}\n  - {before}\n  + {now}")
    alone = sum(bool(one.differences) and not in_values(one) for one in compared)
    print(f"\n{alone} differ in words alone", flush=True)
    print(f"{len(compared)} requests, {sum(bool(in_values(one)) for one in compared)} differ", flush=True)


def words(compared: Iterable[Compared]) -> dict[tuple[str, str], list[str]]:
    """Where each change of a text stands."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in compared:
        for difference in one.differences:
            if difference.words:
                found.setdefault((difference.before, difference.now), []).append(f"{one}, {difference.place}")
    return found


def in_json(one: Compared) -> dict[str, Any]:
    return {"request": str(one), "differences": [asdict(difference) for difference in one.differences]}
