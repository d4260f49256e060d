"""Where two answers to one request differ, in values or in words alone; pure.

What a clock or a start decides is not compared: dates, ids that the server makes, durations, times of loading, memory.
Of an event stream those events are compared that both have sent, since steps that come too fast are left out.
"""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NOT_COMPARED: Final = frozenset({"date"})
ID, LENGTH, TIMING, TYPE = "x-request-id", "content-length", "server-timing", "content-type"
JSON_BYTES: Final = "inference-header-content-length"
WORDS: Final = frozenset({"detail", "title", "expected", "got", "error", "description", "summary", "reason", "help"})
"""Fields of JSON whose texts are for people."""
ABSENT: Final = "(absent)"
AROUND: Final = 40  # characters of a long text that are shown before and behind what differs in it
MOST: Final = 160  # characters of it

_TEXTS: Final = ("application/json", "application/problem+json", "text/event-stream")
_VARYING: Final = (
    (re.compile(rb'("(?:left_s|load_s|memory_bytes|ns|last_inference)":\s*)[-+.0-9eE]+'), rb'\1"..."'),
    (re.compile(rb'("(?:loaded_at|default_version_since)":\s*)"[^"]*"'), rb'\1"..."'),
)
_LATE: Final = (503, 504)
_MILLISECONDS: Final = re.compile(rb"[0-9]+(?:[.][0-9]+)? ms")
_DURATION: Final = re.compile(r"dur=[.0-9]+")
_SERIES: Final = re.compile(r"(\w+)(\{[^}]*\})? (\S+)")
_COUNT: Final = re.compile(r"lectern_\w+(_total|_count)")
_CHANCE: Final = re.compile(r"health/ready|connections|inline_runs")
"""Figures of how often a start was watched until it was over, and of which runs were expected to be short."""
_PNG_TEXT: Final = "iVBORw0KGgo"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came; the names of headers in lower case."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two answers differ, and what each of them has there."""

    place: str
    before: str
    now: str
    words: bool = False


def differences(before: Answer, now: Answer, *, named: bool) -> list[Difference]:
    """All of them; `named` says that the request brought an id, which the answers must repeat."""
    plain = unpacked(before), unpacked(now)
    old, new = steady(before, plain[0], named), steady(now, plain[1], named)
    varies = (old, new) != plain  # then lengths do as well
    found = list(_statuses_and_headers(before, now, named=named, lengths=not varies and old == new))
    if old != new:
        bodies = list(_differing("body", tree(before, old), tree(now, new)))
        if not bodies and not _is_partly_compared(before):
            spelled = _around(repr(old), repr(new))
            bodies = [Difference("body, the bytes of the same values", spelled[0], spelled[1])]
        found += bodies
    elif not varies and before.body != now.body:
        found.append(Difference("body, how it is compressed", f"{len(before.body)} bytes", f"{len(now.body)} bytes"))
    return found


def unpacked(answer: Answer) -> bytes:
    """The body without its compression."""
    encoding = answer.header("content-encoding")
    if encoding not in ("gzip", "deflate"):
        return answer.body
    return zlib.decompress(answer.body, wbits=31 if encoding == "gzip" else 15)


def steady(answer: Answer, body: bytes, named: bool) -> bytes:
    """A body without what is not the same at another time."""
    if not answer.header(TYPE).startswith(_TEXTS):
        return body
    for pattern, kept in _VARYING:
        body = pattern.sub(kept, body)
    if answer.status in _LATE:  # says by how much
        body = _MILLISECONDS.sub(b"... ms", body)
    return body if named else body.replace(f'"{answer.header(ID)}"'.encode(), b'"..."')


def tree(answer: Answer, body: bytes) -> Any:
    """What a body says, as dictionaries, lists, arrays, texts and numbers."""
    kind = answer.header(TYPE)
    if kind.startswith("text/event-stream"):
        return _events(body)
    if "json" in kind:
        return json.loads(body) if body else body
    if kind.startswith("application/octet-stream"):
        size = int(answer.header(JSON_BYTES) or 0)
        return {"json": json.loads(body[:size]), "behind it": np.frombuffer(body[size:], np.uint8)}
    if kind == "application/x-npy":
        return np.load(io.BytesIO(body))
    if kind == "image/png":
        return _pixels(body)
    if kind.startswith("text/plain; version="):
        return _metrics(body.decode())
    return body.decode().splitlines() if kind.startswith("text/") else body


def _is_partly_compared(answer: Answer) -> bool:
    return answer.header(TYPE).startswith(("text/event-stream", "text/plain; version="))


def _statuses_and_headers(before: Answer, now: Answer, *, named: bool, lengths: bool) -> Iterator[Difference]:
    ignored = NOT_COMPARED | (set() if named else {ID}) | (set() if lengths else {LENGTH})
    if before.status != now.status:
        yield Difference("status", str(before.status), str(now.status))
    old, new = ({name: _header(answer, name) for name, _ in answer.headers} for answer in (before, now))
    for name in sorted({*old, *new} - ignored):
        if old.get(name) != new.get(name):
            yield Difference(f"header {name}", old.get(name, ABSENT), new.get(name, ABSENT))


def _header(answer: Answer, name: str) -> str:
    """All its values, without durations."""
    return _DURATION.sub("dur=...", " | ".join(value for key, value in answer.headers if key == name))


def _events(body: bytes) -> dict[str, Any]:
    """Events by name, steps with their number; without comments."""
    found: dict[str, Any] = {}
    for block in body.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            data = json.loads(lines["data"])
            found[f"step {data['step']}" if lines["event"] == "step" else lines["event"]] = data
    return found


def _metrics(page: str) -> dict[str, Any]:
    """Series by name; of those that count, and do not measure or watch, with their value."""
    found: dict[str, Any] = {}
    for line in page.splitlines():
        if line.startswith("# "):
            _, field, name, *said = line.split(" ", 3)
            found.setdefault(name, {})[field.lower()] = "".join(said)
        elif not _CHANCE.search(line) and (series := _SERIES.fullmatch(line)):
            found[series[1] + (series[2] or "")] = series[3] if _COUNT.fullmatch(series[1]) else "..."
    return found


def _pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image)


def _differing(place: str, old: Any, new: Any, key: str = "") -> Iterator[Difference]:
    if type(old) is not type(new):
        yield Difference(place, _short(old), _short(new))
    elif isinstance(old, dict):
        yield from _of_dicts(place, old, new)
    elif isinstance(old, np.ndarray):
        yield from _of_arrays(place, old, new)
    elif isinstance(old, list) and place == "body" and all(isinstance(line, str) for line in [*old, *new]):
        yield from _of_lines(place, old, new)
    elif isinstance(old, list):
        if len(old) != len(new):
            yield Difference(place, f"{len(old)} entries: {_short(old)}", f"{len(new)} entries: {_short(new)}")
        else:
            for i, pair in enumerate(zip(old, new, strict=True)):
                yield from _differing(f"{place}[{i}]", *pair, key)
    elif old != new and isinstance(old, str):
        if old.startswith(_PNG_TEXT) and new.startswith(_PNG_TEXT):
            yield from _of_arrays(place, *(_pixels(base64.b64decode(text)) for text in (old, new)))
        else:
            before, now = _around(old, new)
            yield Difference(place, before, now, words=key in WORDS)
    elif old != new:
        yield Difference(place, _short(old), _short(new))


def _of_dicts(place: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
    for name in {**old, **new}:
        if name in old and name in new:
            yield from _differing(f"{place}.{name}", old[name], new[name], name)
        elif not name.startswith("step "):  # of a stream, left out by chance
            there = [_short(side[name]) if name in side else ABSENT for side in (old, new)]
            yield Difference(f"{place}.{name}", there[0], there[1])


def _of_arrays(place: str, old: NDArray[Any], new: NDArray[Any]) -> Iterator[Difference]:
    if (old.dtype, old.shape) != (new.dtype, new.shape):
        yield Difference(place, f"{old.dtype} {old.shape}", f"{new.dtype} {new.shape}")
    elif (wrong := ~((old == new) | ((old != old) & (new != new)))).any():
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        most = np.abs(old.astype(np.float64) - new.astype(np.float64)).max()
        where = (
            f"{place}, {int(wrong.sum())} of {wrong.size} values by up to {most:.3g}, the first at {[*map(int, at)]}"
        )
        yield Difference(where, str(old[at]), str(new[at]))


def _of_lines(place: str, old: list[str], new: list[str]) -> Iterator[Difference]:
    """Of a page for people."""
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            texts = _around("\n".join(old[a:b]), "\n".join(new[c:d]))
            yield Difference(f"{place}, line {a + 1}", *texts, words=True)


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST else text[: MOST - 3] + "..."


def _around(old: str, new: str) -> tuple[str, str]:
    """Both, shortened to what differs in them and some characters around it."""
    most = min(len(old), len(new))
    first = next((i for i in range(most) if old[i] != new[i]), most)
    last = next((i for i in range(most - first) if old[-1 - i] != new[-1 - i]), most - first)
    begin = max(0, first - AROUND)
    cut = []
    for text in (old, new):
        end = min(len(text), len(text) - last + AROUND, begin + MOST)
        cut.append("..." * (begin > 0) + text[begin:end] + "..." * (end < len(text)))
    return cut[0], cut[1]
