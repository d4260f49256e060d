"""WS /v1/transcribe: sound in pieces of any size, words while they are said, and every way in which a session ends."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
import weakref
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from app.middleware.api_keys import make_key
from app.tasks.transcribe.socket import QUEUED, _Session
from tests.app.hearing import END, PATIENCE_S, Gate, event, rest, say, session
from tests.app.live import LiveServer, open_server
from tests.app.tasks.test_transcribe import SAID, TEXT, as_wav
from tests.app.test_main import process
from tests.made_sounds import PIECE, RATE, make_hearer_folder, make_hearers, pcm, sound_of


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer but for how long it took."""
    results = [{k: v for k, v in one.items() if k != "real_time_factor"} for one in answer["results"]]
    return {**answer, "results": results}


@pytest.mark.parametrize("size", [1, 333, 2 * PIECE, 1 << 19], ids="{} bytes".format)
def test_the_last_event_is_the_plain_answer_however_the_sound_came(hearers: LiveServer, size: int) -> None:
    said = SAID[:999] if size == 1 else SAID
    with session(hearers, "?model=listener") as line:
        say(line, said, size)
        line.send(END)
        events, code = rest(line)
    assert code == 1000
    assert {one["event"] for one in events[:-1]} <= {"partial"}
    final = events[-1]
    assert final.pop("event") == "final"
    assert final["results"][0]["real_time_factor"] > 0
    assert without_times(final) == without_times(as_wav(hearers, said, "?model=listener").json())


def test_words_are_told_as_soon_as_they_are_said_and_stable_ones_never_change(hearers: LiveServer) -> None:
    with session(hearers) as line:  # of the default model, which needs the whole recording, the twin answers
        said, stable = "", ""
        for word in ("soft", "loud", "soft", "loud", "soft"):
            say(line, sound_of(word, None, None, None, None))
            said = f"{said} {word}".strip()
            while (heard := event(line))["text"] != said:
                assert said.startswith(heard["text"])
            assert heard["stable"].startswith(stable)
            stable = heard["stable"]
        assert stable == "soft loud soft loud"
        line.send(END)
        events, code = rest(line)
    assert code == 1000
    assert (events[-1]["model"], events[-1]["results"][0]["text"]) == ("listener", said)


def test_sound_of_another_rate_says_the_same_at_the_same_times(hearers: LiveServer) -> None:
    with session(hearers, f"?rate={6 * RATE}&alternatives=1") as line:
        say(line, np.repeat(SAID, 6), 1000)
        line.send(END)
        events, _ = rest(line)
    (result,) = events[-1]["results"]
    (plain,) = as_wav(hearers, SAID, "?model=listener").json()["results"]
    assert result["text"] == TEXT
    assert [word["start_s"] for word in result["words"]] == [word["start_s"] for word in plain["words"]]
    assert result["duration_s"] == plain["duration_s"]
    assert len(result["alternatives"]) == 1


def test_pieces_of_different_sessions_share_one_run(hearers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(hearers, monkeypatch)
    with session(hearers) as one, session(hearers) as two, session(hearers) as three:
        say(one, sound_of("soft", None)[:PIECE])
        gate.wait()
        say(two, sound_of("loud", None)[:PIECE])
        say(three, sound_of("soft", None)[:PIECE])
        hearers.until(lambda: gate.batcher._queue.rows == 2)
        gate.open()
        assert [event(line)["text"] for line in (one, two, three)] == ["soft", "loud", "soft"]
        assert gate.rows[:2] == [1, 2]
        for line in (one, two, three):
            line.send(END)
        assert [rest(line)[0][-1]["results"][0]["text"] for line in (one, two, three)] == ["soft", "loud", "soft"]


def test_a_client_that_leaves_frees_its_place(hearers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(hearers, monkeypatch)
    with session(hearers) as stays:
        with session(hearers) as leaves:
            say(stays, SAID[:PIECE])
            gate.wait()
            say(leaves, SAID[:PIECE])
            hearers.until(lambda: gate.batcher._queue.rows == 1)
            leaves.socket.close()
            hearers.until(lambda: gate.batcher._queue.rows == 0)
        gate.open()
        say(stays, SAID[PIECE:])
        stays.send(END)
        assert rest(stays)[0][-1]["results"][0]["text"] == TEXT
    assert set(gate.rows) == {1}
    hearers.until(lambda: gate.model._lease.count == 0)


def test_sound_that_waits_is_freed_when_its_client_leaves(hearers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the collector: an error that holds its own task would keep the sound of each session until it comes by.
    gate = Gate(hearers, monkeypatch)
    sessions: list[weakref.ref[Any]] = []
    begin = _Session.__init__

    def begun(session_: _Session, *args: Any) -> None:
        begin(session_, *args)
        sessions.append(weakref.ref(session_))

    monkeypatch.setattr(_Session, "__init__", begun)
    gc.disable()
    try:
        with suppress(ConnectionClosed), session(hearers) as line:
            say(line, sound_of("soft", None)[:PIECE])
            gate.wait()
            say(line, sound_of("soft", "loud", "soft"), 100)
            line.socket.close()
        gate.open()
        hearers.until(lambda: bool(sessions) and sessions[0]() is None)
    finally:
        gc.enable()


def test_whoever_sends_faster_than_is_heard_is_not_read_from(
    hearers: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(hearers, monkeypatch)
    taken, sent = 0, []
    hang_up = asyncio.Event()

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        if taken == 1:
            return {"type": "websocket.connect"}
        if hang_up.is_set():
            return {"type": "websocket.disconnect", "code": 1001}
        return {"type": "websocket.receive", "bytes": pcm(SAID[:PIECE])}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/transcribe", "query_string": b"", "headers": [], "root_path": ""}
    serving = asyncio.run_coroutine_threadsafe(hearers.app(scope, receive, send), hearers.loop)
    gate.wait()
    most = 1 + 1 + QUEUED + 1  # to connect; in the run; waiting; in the reader's hand
    hearers.until(lambda: taken == most)
    turns = iter(range(100))
    hearers.until(lambda: next(turns) == 99)
    assert taken == most
    hearers.loop.call_soon_threadsafe(hang_up.set)
    gate.open()
    serving.result(PATIENCE_S)
    assert taken > most
    hearers.until(lambda: gate.model._lease.count == 0)


REFUSED: dict[str, tuple[str, Any, int, int, str, str]] = {
    "a model of whole recordings": ("?model=hearer", END, 409, 1008, "model", "ask 'listener', which streams"),
    "a model that classifies": ("?model=meter", END, 422, 1008, "model", "classify"),
    "an unknown model": ("?model=ear", END, 404, 1008, "model", "'ear'"),
    "an unknown option": ("?speed=2", END, 422, 1008, "query.speed", "alternatives, model, rate, version"),
    "a rate of nothing": ("?rate=1", END, 422, 1008, "rate", "1000 to"),
    "an unknown event": ("", '{"event": "stop"}', 422, 1008, "message", '{"event": "end"}'),
    "no JSON": ("", "[" * 5000, 422, 1008, "message", "samples in a binary message"),
    "no sound": ("", END, 422, 1008, "message", "sound before the end"),
    "more than a session may have": ("", pcm(np.zeros(12 * RATE + 1)), 413, 1009, "message", "12 s"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_session_ends_with_a_problem_and_a_code(hearers: LiveServer, case: str) -> None:
    query, message, status, code, subject, words = REFUSED[case]
    with session(hearers, query) as line:
        with suppress(ConnectionClosed):  # some are refused before that
            line.send(message)
        events, closed = rest(line)
    problem = events[-1]
    assert (problem["event"], problem["status"], problem["subject"]) == ("error", status, subject)
    assert words in problem["detail"]
    assert closed == code


def test_a_message_that_is_larger_than_any_piece_is_not_taken(hearers: LiveServer) -> None:
    with session(hearers) as line:
        line.send(bytes((1 << 20) + 1))
        assert rest(line)[1] == 1009


def test_a_model_that_does_not_stream_and_has_no_twin_is_to_be_posted_to(tmp_path: Path) -> None:
    make_hearer_folder(tmp_path)
    with open_server(tmp_path) as server, session(server) as line:
        events, code = rest(line)
    assert (events[-1]["status"], code) == (409, 1008)
    assert events[-1]["detail"].endswith("'listener', which streams, is not loaded here; post it a whole recording")


def test_a_client_that_is_still_sending_what_is_too_large_reads_why_it_is_not_taken(hearers: LiveServer) -> None:
    with session(hearers, compression=None) as line:
        line.send(bytes(32 << 20))  # more than lies in the buffers between them
        assert rest(line) == ([], 1009)
        assert line.close_reason == f"frame with {32 << 20} bytes exceeds limit of {1 << 20} bytes"
    hearers.until(lambda: hearers.app.state.registry.catalog.get("listener")._lease.count == 0)


def test_text_that_is_no_utf_8_is_the_clients_fault(hearers: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    with session(hearers) as line:
        line.send(b"ab\xff", text=True)
        assert rest(line) == ([], 1007)
        assert line.close_reason == "invalid start byte at position 2"
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []


def test_sound_after_the_end_is_refused(hearers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(hearers, monkeypatch)
    with session(hearers) as line:
        say(line, SAID)
        line.send(END)
        gate.wait()
        say(line, SAID[:1])
        events, code = rest(line)
        gate.open()
    assert (events[-1]["status"], events[-1]["subject"], code) == (422, "message", 1008)


def test_a_full_queue_and_a_run_that_fails_end_a_session_with_their_problems(
    hearers: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = hearers.app.state.registry.catalog.get("listener")._batchers["streamer"]
    with monkeypatch.context() as patched:
        patched.setattr(batcher, "max_queued_rows", 0)
        with session(hearers) as line:
            events, code = rest(line)
        assert (events[-1]["status"], code) == (429, 1013)

    def fail(tensors: Any) -> Any:
        raise ValueError("of the runtime")

    monkeypatch.setattr(batcher._runner, "run", fail)
    with session(hearers) as line:
        say(line, SAID)
        events, code = rest(line)
    assert (events[-1]["status"], code) == (500, 1011)
    assert "of the runtime" not in json.dumps(events)


def test_a_silent_client_is_not_waited_for(tmp_path: Path) -> None:
    make_hearers(tmp_path)
    with open_server(tmp_path, body_timeout_s=0.05) as server, session(server) as line:
        events, code = rest(line)
    assert (events[-1]["status"], events[-1]["detail"], code) == (408, "nothing came for 0.05 s", 1008)


def test_a_server_that_shuts_down_says_what_it_has_heard(tmp_path: Path) -> None:
    make_hearers(tmp_path)
    with open_server(tmp_path) as server:
        line = session(server)
        opened = line.__enter__()
        say(opened, SAID)
        while event(opened)["text"] != TEXT:
            pass
    events, code = rest(opened)
    line.__exit__(None, None, None)
    assert (events[-1]["event"], events[-1]["results"][0]["text"], code) == ("final", TEXT, 1012)


def test_a_session_in_which_nothing_was_said_yet_ends_by_the_servers_fault_when_it_shuts_down(tmp_path: Path) -> None:
    make_hearers(tmp_path)
    with open_server(tmp_path) as server:
        line = session(server)
        opened = line.__enter__()
        server.until(lambda: server.app.state.registry.catalog.get("listener")._lease.count == 1)
    events, code = rest(opened)
    line.__exit__(None, None, None)
    assert (events[-1]["status"], code) == (503, 1012)
    assert "shutting down" in events[-1]["detail"]


def test_a_key_is_asked_of_a_session_as_of_a_request(tmp_path: Path) -> None:
    make_hearers(tmp_path)
    key, digest = make_key()
    with open_server(tmp_path, api_keys=(digest,)) as server:
        with pytest.raises(InvalidStatus) as refused, session(server):
            pass
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body or b"")["type"] == "/errors/unauthorized"
        with session(server, additional_headers={"Authorization": f"Bearer {key}"}) as line:
            say(line, SAID)
            line.send(END)
            assert rest(line)[0][-1]["event"] == "final"


@pytest.mark.parametrize(("allowed", "opens"), [((), False), (("https://a.example",), True), (("*",), True)])
def test_a_page_of_another_origin_opens_a_session_where_it_may_send_requests(
    tmp_path: Path, allowed: tuple[str, ...], opens: bool
) -> None:
    make_hearers(tmp_path)
    with open_server(tmp_path, cors_origins=allowed) as server:
        with session(server, origin=server.url):
            pass  # a page of its own
        with (
            nullcontext() if opens else pytest.raises(InvalidStatus, match="403"),
            session(server, origin="https://a.example"),
        ):
            pass


def test_while_the_server_shuts_down_no_session_begins(hearers: LiveServer) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/transcribe", "query_string": b"", "headers": [], "root_path": ""}
    asyncio.run(hearers.app.state.shutdown(scope, receive, send))
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 503)


def test_sessions_are_counted_apart_from_requests_and_their_connections_end(hearers: LiveServer) -> None:
    def figure(line: str) -> float:
        page = hearers.get("/metrics").body.decode()
        return sum(float(one.rpartition(" ")[2]) for one in page.splitlines() if one.startswith(line))

    counted = 'lectern_requests_total{method="GET",path="/v1/transcribe (WebSocket)",status="101"}'
    before, open_before = figure(counted), figure("lectern_open_connections")
    with session(hearers) as line:
        assert line.response is not None
        assert line.response.headers["x-request-id"]
        assert figure("lectern_open_connections") == open_before + 1
        say(line, SAID)
        line.send(END)
        rest(line)
    hearers.until(lambda: hearers.app.state.registry.catalog.get("listener")._lease.count == 0)
    assert figure(counted) == before + 1
    assert figure("lectern_open_connections") == open_before


def test_an_offer_to_talk_otherwise_is_ignored_where_there_is_no_web_socket(hearers: LiveServer) -> None:
    offer = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "a"}
    assert hearers.ask("GET", "/health/live", headers=offer).status == 200
    assert hearers.ask("GET", "/v1/transcribe", headers={"Connection": "Upgrade", "Upgrade": "h2c"}).status == 405
    wrong = hearers.ask("GET", "/v1/transcribe", headers=offer)
    assert wrong.status == 400


@pytest.mark.parametrize(
    ("query", "headers", "body"),
    [
        ("?model=" + "a" * 50_000, {}, None),
        ("", {"Cookie": "a" * 9_000}, None),
        ("", {f"X-{i}": "a" for i in range(150)}, None),
        ("", {}, b"hello"),
    ],
    ids=["a long query", "a long header", "many headers", "a body"],
)
def test_an_offer_that_the_library_would_not_answer_is_answered_as_if_it_were_none(
    hearers: LiveServer, query: str, headers: dict[str, str], body: bytes | None
) -> None:
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    offer = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    assert hearers.ask("GET", f"/v1/transcribe{query}", body, {**offer, **headers}).status == 405


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signal that asks a process to end")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_process_that_is_asked_to_end_says_what_it_has_heard(tmp_path: Path, workers: int) -> None:
    make_hearers(tmp_path)
    flags = ("--models", str(tmp_path), "--device", "cpu", "--log-level", "warning", "--workers", str(workers))
    with process(*flags) as (started, _, port), connect(f"ws://127.0.0.1:{port}/v1/transcribe") as line:
        say(line, SAID)
        while event(line)["text"] != TEXT:
            pass
        started.send_signal(signal.SIGTERM)
        events, code = rest(line)
        assert (events[-1]["event"], events[-1]["results"][0]["text"], code) == ("final", TEXT, 1012)
        _, errors = started.communicate(timeout=PATIENCE_S)
    assert (started.returncode, errors) == (0, "")
