"""text/event-stream of POST /v1/transcribe: words while they are heard, and in the end the plain answer."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from tests.app.gate import post, received
from tests.app.hearing import PATIENCE_S, Gate
from tests.app.live import LiveServer, form, open_server
from tests.app.tasks.test_transcribe import PATH, SAID, TEXT, as_wav
from tests.app.tasks.test_transcribe_socket import without_times
from tests.app.web.test_event_stream import parsed
from tests.made_sounds import make_hearer_folder, sound_of, wav

EVENTS = "text/event-stream"


def stream(server: LiveServer, query: str = "?model=listener") -> list[tuple[str, Any]]:
    reply = as_wav(server, SAID, query, Accept=EVENTS)
    assert (reply.status, reply.header("content-type")) == (200, "text/event-stream; charset=utf-8")
    return parsed(reply.body)


def test_the_last_event_is_the_plain_answer(hearers: LiveServer) -> None:
    events = stream(hearers)
    assert [name for name, _ in events[:-1]] == ["partial"] * (len(events) - 1)
    name, final = events[-1]
    plain = as_wav(hearers, SAID, "?model=listener").json()
    assert (name, without_times(final)) == ("final", without_times(plain))


def test_each_piece_is_told_while_the_next_is_to_come(hearers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(hearers, monkeypatch)
    line = http.client.HTTPConnection("127.0.0.1", hearers.port, timeout=PATIENCE_S)
    said = sound_of("soft", None, None, None, None, None, "loud", None)
    headers = {"Content-Type": "audio/wav", "Accept": EVENTS}
    line.request("POST", f"{PATH}?model=listener", wav(said), headers)
    gate.wait()
    gate.go.release()
    gate.wait()  # the second piece waits, and of the first one is told
    answer = line.getresponse()

    def event() -> list[tuple[str, Any]]:
        return parsed(b"".join([answer.readline() for _ in range(3)]))

    assert event() == [("partial", {"text": "soft", "stable": ""})]
    for _ in range(5):
        gate.go.release()
        gate.wait()
    ((name, heard),) = event()
    assert (name, heard["stable"]) == ("partial", "soft")
    gate.open()
    events = parsed(answer.read())
    line.close()
    assert events[-1][1]["results"][0]["text"] == "soft loud"


def test_streams_at_different_places_share_runs(hearers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(hearers, monkeypatch)
    lines = [post(hearers, f"{PATH}?model=listener", wav(SAID), kind="audio/wav", accept=EVENTS)]
    gate.wait()
    lines += [post(hearers, f"{PATH}?model=listener", wav(SAID), kind="audio/wav", accept=EVENTS) for _ in range(2)]
    hearers.until(lambda: gate.batcher._queue.rows == 2)
    gate.open()
    for line in lines:
        body = received(line)
        assert json.dumps(TEXT).encode() in body
        assert b"event: final" in body
    assert gate.rows[0] == 1
    assert gate.rows[1] == 3


def test_a_client_that_hangs_up_takes_no_further_run(hearers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(hearers, monkeypatch)
    line = post(hearers, f"{PATH}?model=listener", wav(SAID), kind="audio/wav", accept=EVENTS)
    gate.wait()
    line.close()
    hearers.until(lambda: gate.model._lease.count == 0)
    gate.open()
    assert as_wav(hearers, SAID, "?model=listener").status == 200
    assert len(gate.rows) == 1 + 5  # its one, and those of the whole recording of five pieces


def test_a_model_of_whole_recordings_names_its_twin_and_lets_it_answer_where_none_was_named(
    hearers: LiveServer,
) -> None:
    refused = as_wav(hearers, SAID, "?model=hearer", Accept=EVENTS)
    refused.assert_refused(409, "model", ["'hearer'", "ask 'listener', which streams"])
    name, final = stream(hearers, "")[-1]
    assert (name, final["model"]) == ("final", "listener")


def test_without_a_twin_that_is_loaded_there_is_no_stream(tmp_path: Path) -> None:
    make_hearer_folder(tmp_path, "alone", twin=None)
    make_hearer_folder(tmp_path, "half")
    with open_server(tmp_path, default_models={"transcribe": "half"}) as server:
        as_wav(server, SAID, Accept=EVENTS).assert_refused(409, "model", ["'half'", "'listener'"])
        refused = as_wav(server, SAID, "?model=alone", Accept=EVENTS)
        refused.assert_refused(409, "model", ["a model that streams", "application/json"])


def test_recordings_of_different_length_share_a_run_and_say_what_each_says_alone(
    hearers: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(hearers, monkeypatch, "hearer")
    first = post(hearers, PATH, wav(SAID), kind="audio/wav", accept="text/plain")
    gate.wait()
    sounds = [sound_of("loud", None, "soft"), SAID, sound_of(None, "soft", None, "loud")]
    kind, body = form(*(("sound", wav(sound), "a.wav") for sound in sounds))
    several = post(hearers, PATH, body, kind=kind, accept="text/plain")
    hearers.until(lambda: gate.batcher._queue.rows == len(sounds))
    gate.open()
    assert received(first).endswith(f"{TEXT}\n".encode())
    assert received(several).endswith(f"\r\n\r\nloud soft\n{TEXT}\nsoft loud\n".encode())
    assert gate.rows == [1, 3]


@pytest.mark.parametrize("model", ["hearer", "listener"])
def test_of_a_client_that_hangs_up_no_recording_is_left_in_the_queue(
    hearers: LiveServer, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    gate = Gate(hearers, monkeypatch, model)
    first = post(hearers, f"{PATH}?model={model}", wav(SAID), kind="audio/wav", accept="text/plain")
    gate.wait()
    kind, body = form(*[("sound", wav(SAID), "a.wav")] * 3)
    line = post(hearers, f"{PATH}?model={model}", body, kind=kind)
    hearers.until(lambda: gate.batcher._queue.rows == 3)
    line.close()
    hearers.until(lambda: gate.batcher._queue.rows == 0)
    gate.open()
    assert received(first).endswith(f"{TEXT}\n".encode())
    hearers.until(lambda: gate.model._lease.count == 0)
    assert set(gate.rows) == {1}
