"""No test sleeps: what is waited for has an event, a condition or an answer; a sleep is too short or too long."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACED = {
    "bench/openloop.py": "offers load at given times, whatever comes back",
    "bench/soak.py": "takes a sample of memory at given times",
    "bench/streams.py": "sends sound at the pace of speech",
    "bench/processes.py": "starts servers that are not ours, too, and none of those says when it serves",
    "image/prove.py": "starts a container, which says only by an answer that it serves",
}


def sleeps(source: str) -> Iterator[int]:
    """The lines that sleep; `asyncio.sleep(0)` is a turn of the event loop and takes no time."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=[ast.Constant(value=0)]):
                pass
            case ast.Call(func=ast.Attribute(attr="sleep")):
                yield node.lineno
            case ast.ImportFrom(names=names) if any(name.name == "sleep" for name in names):
                yield node.lineno


@pytest.mark.parametrize("source", [
    "time.sleep(1)", "time.sleep(0)", "await asyncio.sleep(0.01)", "anyio.sleep(x)", "from time import sleep",
    "from time import monotonic, sleep as rest",
])  # fmt: skip
def test_a_sleep_is_seen(source: str) -> None:
    assert [*sleeps(source)] == [1]


def test_a_turn_of_the_event_loop_is_no_sleep() -> None:
    assert not [*sleeps("await asyncio.sleep(0)")]


def test_no_test_sleeps_but_where_time_itself_is_the_measure() -> None:
    found = {
        path.relative_to(TESTS).as_posix(): lines
        for path in TESTS.rglob("*.py")
        if (lines := [*sleeps(path.read_text(encoding="utf-8"))])
    }
    assert found.keys() == PACED.keys(), found
