"""POST /v1/generate as a stream of steps, through the whole server; who hangs up or is late stops at the next step."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.core.manifest import Tensors
from app.engine.batcher import Batcher
from tests.app.coders import JSON, answered, ask, opened
from tests.app.drawers import HIGHEST, MEANS, SHADES, SMALL, SPREADS, denoised, make_denoiser_folder
from tests.app.live import LiveServer, open_server
from tests.app.tasks.test_generate_steps import BELOW, CORNER, PATH, as_text, noise
from tests.app.web.test_event_stream import parsed

EVENTS = "text/event-stream"
PATIENCE_S = 20


class Gate:
    """Stands before the runs of a graph and lets them through one by one."""

    def __init__(self, batcher: Batcher) -> None:
        self.rows: list[int] = []
        self.entered = threading.Semaphore(0)
        self._run = batcher._runner.run
        self._go = threading.Semaphore(0)
        self._open = False

    def __call__(self, tensors: Tensors) -> dict[str, NDArray[Any]]:
        self.rows.append(len(tensors["x"]))
        self.entered.release()
        assert self._open or self._go.acquire(timeout=PATIENCE_S)
        return self._run(tensors)

    def let(self, runs: int = 1) -> None:
        self._go.release(runs)

    def open(self) -> None:
        self._open = True
        self._go.release()

    def wait(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_S)


@pytest.fixture
def gate(drawers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    batcher = drawers.app.state.registry.catalog.get("shades")._batchers["denoiser"]
    gate = Gate(batcher)
    monkeypatch.setattr(batcher, "_inline_s", 0.0)  # in its thread: a gate would hold up the event loop
    monkeypatch.setattr(batcher._runner, "run", gate)
    yield gate
    gate.open()


def begin(server: LiveServer, body: dict[str, Any], accept: str = EVENTS) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    content = json.dumps(body).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\nContent-Type: {JSON}\r\n"
    line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return line


def read_event(response: http.client.HTTPResponse) -> tuple[str, Any]:
    lines = []
    while (line := response.readline()) not in (b"\n", b""):
        lines.append(line)
    ((name, data),) = parsed(b"".join(lines) + b"\n")
    return name, data


def test_every_step_shows_what_is_seen_through_the_noise_and_the_result_is_the_answer(
    drawers: LiveServer, gate: Gate
) -> None:
    body = {"seed": 5, "n": 2, "steps": 3, "sampler": "ddim", "label": "dark"}
    with begin(drawers, body) as line, http.client.HTTPResponse(line) as response:
        steps = []
        for step in (1, 2, 3):
            gate.wait()
            gate.let()
            if step == 1:
                response.begin()
                assert response.status == 200
            steps.append(read_event(response)[1])
        name, result = read_event(response)
    assert [(s["step"], s["steps"]) for s in steps] == [(1, 3), (2, 3), (3, 3)]
    assert steps[0]["left_s"] > 0
    assert steps[2]["left_s"] == 0
    assert name == "result"
    gate.let(3)
    assert result == answered(ask(drawers, PATH, body))
    start = HIGHEST * noise_of(drawers, gate, 2, 5)
    plain, labelled = (denoised(start, HIGHEST, MEANS[label], SPREADS[label]) for label in (len(SHADES), 0))
    seen = np.rint(255 * np.clip(plain + 1.5 * (labelled - plain), 0, 1))[..., 0]
    page = opened(steps[0]["preview"])
    assert np.abs(page[:, : SMALL.width] - seen[0]).max() <= 1
    assert np.abs(page[:, SMALL.width + 2 :] - seen[1]).max() <= 1
    last = opened(steps[2]["preview"])
    np.testing.assert_array_equal(last[:, : SMALL.width], opened(result["results"][0]["image"]))


def noise_of(server: LiveServer, gate: Gate, n: int, seed: int) -> NDArray[np.float64]:
    gate.let(1)
    return noise(server, n, seed)


def test_a_preview_has_the_known_pixels(drawers: LiveServer, gate: Gate) -> None:
    gate.open()
    body = {"init_image": as_text(CORNER), "mask": as_text(BELOW), "steps": 2}
    events = parsed(ask(drawers, PATH, body, accept=EVENTS).body)
    for _, data in events[:-1]:
        np.testing.assert_array_equal(opened(data["preview"])[BELOW == 0], CORNER[BELOW == 0])


@pytest.mark.parametrize(
    "body",
    [
        {"model": "waves", "n": 3, "seed": 1},
        {"model": "kinds", "label": 1, "seed": 1},
        {"init_image": as_text(CORNER), "strength": 0, "seed": 1},
        {"init_image": as_text(CORNER), "forward": 4, "seed": 1},
    ],
)
def test_without_steps_there_is_the_result_alone(drawers: LiveServer, body: dict[str, Any]) -> None:
    reply = ask(drawers, PATH, body, accept=EVENTS)
    assert (reply.header("content-type") or "").startswith(EVENTS)
    ((name, result),) = parsed(reply.body)
    assert name == "result"
    assert result == answered(ask(drawers, PATH, body))


def test_bad_input_and_deadlines_have_their_status_in_a_stream_too(drawers: LiveServer) -> None:
    assert ask(drawers, PATH, {"n": 1, "steps": 99}, accept=EVENTS).problem(422)["subject"] == "steps"
    mask = {"init_image": as_text(CORNER), "mask": as_text(BELOW[:8])}
    assert ask(drawers, PATH, mask, accept=EVENTS).problem(422)["subject"] == "mask"
    for accept in (EVENTS, JSON):
        ask(drawers, PATH, {"n": 1}, accept=accept, x_request_deadline_ms="0").problem(504)


@pytest.mark.parametrize("accept", [EVENTS, JSON])
def test_a_client_that_hangs_up_stops_at_its_next_step(drawers: LiveServer, gate: Gate, accept: str) -> None:
    counters = drawers.app.state.registry.catalog.get("shades").counters["denoiser"]
    before = counters.cancelled_running + counters.cancelled_queued
    with begin(drawers, {"n": 1, "sampler": "ancestral", "steps": 1000, "guidance": 0}, accept):
        for _ in range(3):
            gate.wait()
            gate.let()
        gate.wait()  # in its fourth step
    drawers.until(lambda: counters.cancelled_running + counters.cancelled_queued > before)
    gate.let(1)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(ask, drawers, PATH, {"n": 2, "steps": 2, "guidance": 0})
        gate.let(2)
        answered(other.result())
    assert gate.rows == [1, 1, 1, 1, 2, 2]


def test_a_deadline_that_passes_ends_it_at_its_next_step(drawers: LiveServer, gate: Gate) -> None:
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(
            ask,
            drawers,
            PATH,
            {"n": 1, "sampler": "ancestral", "steps": 1000, "guidance": 0},
            x_request_deadline_ms="250",
        )
        gate.wait()
        details = late.result().problem(504)  # while its first step still runs
        gate.let(1)
        assert details["subject"] == "deadline"
        other = pool.submit(ask, drawers, PATH, {"n": 2, "steps": 1, "guidance": 0})
        gate.let(1)
        answered(other.result())
    assert gate.rows == [1, 2]


def test_steps_of_two_requests_share_runs(drawers: LiveServer, gate: Gate) -> None:
    """One has come first; the other joins at the next step, at its own level of noise."""
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, drawers, PATH, {"n": 1, "steps": 6, "seed": 1, "guidance": 0})
        gate.wait()
        second = pool.submit(ask, drawers, PATH, {"n": 2, "steps": 3, "seed": 2, "sampler": "ddim", "guidance": 0})
        queue = drawers.app.state.registry.catalog.get("shades")._batchers["denoiser"]._queue
        drawers.until(lambda: queue.rows == 2)
        gate.let(20)
        answers = [answered(first.result()), answered(second.result())]
    assert sum(answer["evaluations"] for answer in answers) == 9
    assert gate.rows == [1, 3, 3, 3, 1, 1]
    for answer, body in zip(
        answers,
        ({"n": 1, "steps": 6, "guidance": 0}, {"n": 2, "steps": 3, "sampler": "ddim", "guidance": 0}),
        strict=True,
    ):
        alone = answered(ask(drawers, PATH, {**body, "seed": answer["seed"]}))
        for result, wanted in zip(answer["results"], alone["results"], strict=True):
            assert np.abs(opened(result["image"]).astype(int) - opened(wanted["image"])).max() <= 1


def test_a_full_queue_answers_429_in_a_stream_too(drawers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = drawers.app.state.registry.catalog.get("shades")._batchers["denoiser"]
    monkeypatch.setattr(batcher, "max_queued_rows", 0)
    reply = ask(drawers, PATH, {"n": 1}, accept=EVENTS)
    assert reply.problem(429)
    assert reply.header("retry-after")


def test_a_picture_under_a_stream_may_be_base64_or_nested(drawers: LiveServer) -> None:
    for picture in (as_text(CORNER), CORNER.tolist()):
        events = parsed(ask(drawers, PATH, {"init_image": picture, "strength": 0.2}, accept=EVENTS).body)
        assert events[-1][0] == "result"


def test_a_model_that_is_unloaded_goes_on_to_the_end_of_its_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_denoiser_folder(tmp_path, "shades")
    with open_server(tmp_path, model_control=True, poll_s=0) as server:
        batcher = server.app.state.registry.catalog.get("shades")._batchers["denoiser"]
        gate = Gate(batcher)
        monkeypatch.setattr(batcher, "_inline_s", 0.0)
        monkeypatch.setattr(batcher._runner, "run", gate)
        with ThreadPoolExecutor(2) as pool:
            stream = pool.submit(ask, server, PATH, {"n": 1, "steps": 3}, accept=EVENTS)
            gate.wait()
            unloading = pool.submit(server.ask, "POST", "/v2/repository/models/shades/unload")
            server.until(lambda: not server.app.state.registry.catalog.models)
            ask(server, PATH, {"n": 1}).problem(404)
            gate.open()
            assert parsed(stream.result().body)[-1][0] == "result"
            assert unloading.result().status == 200
