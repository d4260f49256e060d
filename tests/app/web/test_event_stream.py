"""Streams of events, against a fake server whose `send` and `receive` are gated."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.core.errors import Busy, InferenceFailed
from app.core.manifest import Tensors
from app.web.request.trace import TRACE, Trace
from app.web.response.event_stream import EventStream, OnStep
from tests.in_loop import in_loop


def parsed(stream: bytes) -> list[tuple[str, Any]]:
    """(event, JSON) of everything, by the rules of EventSource; comments as ("", text)."""
    assert stream.endswith(b"\n\n"), "an event that no empty line ends is never dispatched"
    found: list[tuple[str, Any]] = []
    for block in stream.decode("utf-8").removesuffix("\n\n").split("\n\n"):
        event, data = "message", []
        for line in block.split("\n"):
            field, colon, value = line.partition(":")
            assert colon, line
            value = value.removeprefix(" ")
            if not field:
                found.append(("", value))
            elif field == "event":
                event = value
            else:
                assert field == "data"
                data.append(value)
        if data:
            found.append((event, json.loads("\n".join(data))))
    return found


class Line:
    """A client's line: reads while `reading` is set, hangs up when `hung_up` is."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.reading.set()
        self.hung_up = asyncio.Event()
        self.head: Message = {}
        self.body = b""
        self.ended = False
        self.writes = asyncio.Semaphore(0)
        self.waiting = asyncio.Event()

    async def receive(self) -> Message:
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        assert not self.ended
        if message["type"] == "http.response.start":
            assert not self.head
            self.head = message
            return
        assert self.head
        self.body += message["body"]
        self.ended = not message["more_body"]
        self.writes.release()
        if not self.reading.is_set():
            self.waiting.set()
            await self.reading.wait()

    async def written(self, times: int = 1) -> None:
        for _ in range(times):
            await asyncio.wait_for(self.writes.acquire(), 10)

    def serve(self, stream: EventStream) -> asyncio.Task[None]:
        scope = {"type": "http", TRACE: Trace("the-id")}
        return asyncio.ensure_future(stream(scope, self.receive, self.send))

    @property
    def events(self) -> list[tuple[str, Any]]:
        return parsed(self.body)


def outputs(step: int) -> Tensors:
    return {"y": np.array([step])}


async def preview(tensors: Tensors) -> Any:
    return {"seen": int(tensors["y"][0])}


def stream(work: Callable[[OnStep], Awaitable[Mapping[str, Any]]], **options: Any) -> EventStream:
    return EventStream(work, **({"steps": 4, "preview": preview} | options))


def until_cancelled(cancelled: asyncio.Event) -> Callable[[OnStep], Awaitable[Mapping[str, Any]]]:
    """Work that ends with its first step and sets the event when it is cancelled."""

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        on_step(1, outputs(1))
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return {}

    return work


async def four(on_step: OnStep) -> Mapping[str, Any]:
    for step in (1, 2, 3, 4):
        on_step(step, outputs(step))
        for _ in range(5):  # turns of the loop, for a reader that keeps up
            await asyncio.sleep(0)
    return {"image": "ÄÖ\n\r\u2028"}


@in_loop
async def test_every_step_then_the_result() -> None:
    line = Line()
    await line.serve(stream(four))
    names = [name for name, _ in line.events]
    assert names == ["step", "step", "step", "step", "result"]
    steps = [data for name, data in line.events if name == "step"]
    assert [(s["step"], s["steps"], s["preview"]) for s in steps] == [(n, 4, {"seen": n}) for n in (1, 2, 3, 4)]
    assert steps[0]["left_s"] >= 0
    assert steps[3]["left_s"] == 0
    assert line.events[-1][1] == {"image": "ÄÖ\n\r\u2028"}
    assert line.ended


@in_loop
async def test_the_head_lets_nobody_store_or_buffer_it() -> None:
    line = Line()
    await line.serve(stream(four, preview=None))
    headers = {key.decode(): value.decode() for key, value in line.head["headers"]}
    assert line.head["status"] == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"
    assert "content-length" not in headers
    assert "preview" not in line.events[0][1]


@in_loop
async def test_a_slow_reader_holds_nothing_up_and_gets_the_newest_step_and_the_result() -> None:
    line, encoded = Line(), []
    line.reading.clear()
    finished = asyncio.Event()

    async def count(tensors: Tensors) -> Any:
        encoded.append(int(tensors["y"][0]))

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        on_step(1, outputs(1))
        await line.waiting.wait()
        for step in range(2, 1001):
            on_step(step, outputs(step))
            await asyncio.sleep(0)
        finished.set()
        await two_more.wait()
        return {"done": True}

    two_more = asyncio.Event()
    served = line.serve(stream(work, steps=1000, preview=count))
    await asyncio.wait_for(finished.wait(), 10)  # the reader has not read one event to its end
    line.reading.set()
    await line.written(2)
    two_more.set()
    await served
    assert [data.get("step", "end") for _, data in line.events] == [1, 1000, "end"]
    assert encoded == [1, 1000]


@in_loop
async def test_the_result_waits_for_a_reader_that_comes_back() -> None:
    line = Line()
    line.reading.clear()
    served = line.serve(stream(four))
    await line.waiting.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not line.ended
    line.reading.set()
    await served
    assert line.events[-1][0] == "result"


@in_loop
async def test_a_client_that_hangs_up_cancels_the_work() -> None:
    line, cancelled = Line(), asyncio.Event()

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        on_step(1, outputs(1))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return {}

    served = line.serve(stream(work))
    await line.written()
    line.hung_up.set()
    with pytest.raises(ClientDisconnect):
        await served
    assert cancelled.is_set()
    assert [name for name, _ in line.events] == ["step"]


@in_loop
async def test_a_client_that_hangs_up_without_reading_cancels_the_work_too() -> None:
    line, cancelled = Line(), asyncio.Event()
    line.reading.clear()

    served = line.serve(stream(until_cancelled(cancelled)))
    await line.waiting.wait()
    line.hung_up.set()
    await asyncio.wait_for(cancelled.wait(), 10)  # while `send` is still held up
    line.reading.set()  # as uvicorn does for a line that is gone
    with pytest.raises(ClientDisconnect):
        await served


@in_loop
async def test_work_that_fails_before_its_first_step_is_an_answer_with_a_status() -> None:
    line = Line()

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        raise Busy("full", retry_after_s=3)

    with pytest.raises(Busy):
        await line.serve(stream(work))
    assert not line.head


@in_loop
async def test_work_that_fails_later_is_an_event_with_a_problem() -> None:
    line = Line()

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        on_step(1, outputs(1))
        await line.written()
        raise InferenceFailed("m/1/g: the model failed", subject="m")

    await line.serve(stream(work))
    assert line.ended
    name, reported = line.events[-1]
    assert name == "error"
    assert reported == {
        "type": "/errors/inference-failed",
        "title": "The model could not be run",
        "status": 500,
        "detail": "m/1/g: the model failed",
        "request_id": "the-id",
        "subject": "m",
    }


@in_loop
async def test_what_nobody_foresaw_goes_to_the_log_alone() -> None:
    line, heard = Line(), Heard()

    async def break_down(tensors: Tensors) -> Any:
        if tensors["y"][0] == 2:
            raise RuntimeError("a secret")

    logger = logging.getLogger("app.web.response.event_stream")
    logger.addHandler(heard)
    try:
        await line.serve(stream(four, preview=break_down))
    finally:
        logger.removeHandler(heard)
    assert [name for name, _ in line.events] == ["step", "error"]
    assert line.events[-1][1]["status"] == 500
    assert b"secret" not in line.body
    assert "the-id" in heard.texts[0]


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@in_loop
async def test_a_server_that_stops_cancels_the_work() -> None:
    line, cancelled = Line(), asyncio.Event()

    served = line.serve(stream(until_cancelled(cancelled)))
    await line.written()
    served.cancel()
    await asyncio.wait([served], timeout=10)
    assert served.cancelled()
    assert cancelled.is_set()


@in_loop
async def test_silence_is_broken_by_comments() -> None:
    line, go_on = Line(), asyncio.Event()

    async def work(on_step: OnStep) -> Mapping[str, Any]:
        on_step(1, outputs(1))
        await go_on.wait()
        return {}

    served = line.serve(stream(work, heartbeat_s=0.001))
    await line.written(4)
    go_on.set()
    await served
    assert line.events[0][0] == "step"
    assert line.events[1:4] == [("", "waiting")] * 3
    assert line.events[-1] == ("result", {})
