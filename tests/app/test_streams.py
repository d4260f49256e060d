"""Streams of events through the whole server: uvicorn, sockets, a denoiser behind a route of the test."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from fastapi import Request, Response

from app.core.manifest import Tensors
from app.core.sampling.samplers import Sampler
from app.engine.batcher import Batcher
from app.web.response.event_stream import EventStream, OnStep
from tests.app.engine.denoisers import LABELS, alone, denoiser_session, sampler
from tests.app.live import LiveServer, open_server
from tests.app.web.test_event_stream import parsed

PATIENCE_S = 20
WIDE = 1 << 18  # bytes of a preview: a few of them fill every buffer on the way


@dataclass
class Studio:
    """A route that samples, and what the test can see of it from outside the server."""

    batcher: Batcher
    finished: dict[int, threading.Event] = field(default_factory=lambda: {n: threading.Event() for n in range(LABELS)})
    closed: dict[int, threading.Event] = field(default_factory=lambda: {n: threading.Event() for n in range(LABELS)})
    encoded: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(LABELS), 0))

    async def answer(
        self,
        request: Request,
        who: int,
        steps: int,
        rows: int = 1,
        wide: int = 10,
        late: bool = False,
        spoilt: bool = False,
    ) -> Response:
        await request.body()

        async def preview(outputs: Tensors) -> str:
            self.encoded[who] += 1
            return "x" * wide

        async def work(on_step: OnStep) -> Mapping[str, Any]:
            deadline = monotonic() - 1 if late else None
            answer = await self.batcher.sample(
                self.watched(who, steps, rows, spoilt), on_step=on_step, deadline=deadline
            )
            self.finished[who].set()
            return {"image": answer.tensors["image"].tolist()}

        return EventStream(work, steps=steps, preview=preview)

    def watched(self, who: int, steps: int, rows: int, spoilt: bool) -> Sampler:
        try:
            if spoilt:  # the second step names a label that the net does not have: the runtime raises
                first = next(sampler(who, steps=steps))
                yield first
                yield {**first, "label": first["label"] + LABELS}
            return (yield from sampler(who, steps=steps, rows=rows, method="ddim"))
        finally:
            self.closed[who].set()


@pytest.fixture(scope="module")
def studio() -> Studio:
    run = denoiser_session().run
    return Studio(Batcher(run, name="m/1/denoiser", max_rows=16, max_queued_rows=100))


@pytest.fixture(scope="module")
def studio_server(models: Path, studio: Studio) -> Iterator[LiveServer]:
    with open_server(models) as server:
        server.app.add_api_route("/sample", studio.answer, methods=["POST"], response_model=None)
        server.app.add_api_route("/end", studio.batcher.close, methods=["POST"])
        yield server
        assert server.ask("POST", "/end").status == 200


def begin(server: LiveServer, query: str, *, receive_bytes: int = 0) -> tuple[http.client.HTTPResponse, socket.socket]:
    """The answer's head has come; nothing more is read until the test reads it."""
    line = socket.socket()
    if receive_bytes:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    line.settimeout(PATIENCE_S)
    line.connect(("127.0.0.1", server.port))
    line.sendall(f"POST /sample?{query} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
    response = http.client.HTTPResponse(line)
    response.begin()
    return response, line


def test_a_stream_comes_through_the_whole_server(studio_server: LiveServer) -> None:
    reply = studio_server.ask("POST", "/sample?who=1&steps=5&rows=2")
    assert reply.status == 200
    assert (reply.header("content-type") or "").startswith("text/event-stream")
    assert reply.header("cache-control") == "no-store"
    assert reply.header("x-accel-buffering") == "no"
    assert reply.header("x-request-id")
    events = parsed(reply.body)
    assert events[-1][0] == "result"
    expected = alone(sampler(1, steps=5, rows=2, method="ddim"), denoiser_session().run)
    np.testing.assert_allclose(events[-1][1]["image"], expected, rtol=0, atol=1e-5)
    steps = [data["step"] for name, data in events if name == "step"]
    assert steps == sorted(set(steps))
    assert set(steps) <= set(range(1, 6))


def test_a_reader_that_stops_reading_holds_up_nobody_and_still_gets_its_result(
    studio_server: LiveServer, studio: Studio
) -> None:
    response, line = begin(studio_server, f"who=2&steps=2000&wide={WIDE}", receive_bytes=4096)
    with line, response:
        other = studio_server.ask("POST", "/sample?who=3&steps=4")
        assert parsed(other.body)[-1][0] == "result"
        assert studio.finished[2].wait(PATIENCE_S), "nobody has read its events, and it goes on to its end"
        events = parsed(response.read())
    steps = [data["step"] for name, data in events if name == "step"]
    assert steps == sorted(set(steps))
    assert 0 < len(steps) < 200, "what does not fit into the buffers of the line is never sent"
    assert studio.encoded[2] == len(steps), "nor made"
    assert events[-1][0] == "result"
    assert np.array(events[-1][1]["image"]).shape == (1, 4, 4)


@pytest.mark.parametrize("reads", [True, False])
def test_a_client_that_hangs_up_in_the_stream_stops_at_its_next_step(
    studio_server: LiveServer, studio: Studio, reads: bool
) -> None:
    who = 4 + reads
    before = studio.batcher.counters.cancelled_queued + studio.batcher.counters.cancelled_running
    response, line = begin(studio_server, f"who={who}&steps=100000&wide={10 if reads else WIDE}", receive_bytes=4096)
    if reads:
        assert response.readline() == b"event: step\n"
    response.close()
    line.close()
    assert studio.closed[who].wait(PATIENCE_S)
    assert not studio.finished[who].is_set()
    other = studio_server.ask("POST", "/sample?who=6&steps=4")
    assert parsed(other.body)[-1][0] == "result"
    after = studio.batcher.counters.cancelled_queued + studio.batcher.counters.cancelled_running
    assert after == before + 1


def test_what_fails_before_its_first_step_is_answered_with_its_status(studio_server: LiveServer) -> None:
    assert "101 rows" in studio_server.ask("POST", "/sample?who=7&steps=4&rows=101").problem(413)["detail"]
    assert studio_server.ask("POST", "/sample?who=7&steps=4&late=true").problem(504)["type"] == "/errors/too-late"


def test_what_fails_later_is_told_in_the_stream(studio_server: LiveServer) -> None:
    reply = studio_server.ask("POST", "/sample?who=8&steps=3&spoilt=true")
    assert reply.status == 200
    events = parsed(reply.body)
    assert [name for name, _ in events] == ["step", "error"]
    reported = events[1][1]
    assert (reported["type"], reported["status"]) == ("/errors/inference-failed", 500)
    assert reported["request_id"] == reply.header("x-request-id")
