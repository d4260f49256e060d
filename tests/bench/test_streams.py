"""Streams at once: what counts as an answer, when it is late, and how many are held."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from math import inf
from pathlib import Path

import pytest

from tests.app.live import open_server
from tests.bench.microphones import BINARY, Microphone, frame
from tests.bench.mixture import Send, Truth
from tests.bench.sound_forms import cued, last_event, words
from tests.bench.streams import END, Answered, Owed, Stream, held, searched, table
from tests.made_sounds import PIECE, make_hearers, pcm, sound_of

OWED = Owed(pieces=(0, 2, 3), messages=(b"a", b"b", b"c"), text="a b")


def answered(streams: int, p95_ms: float, broken: int = 0) -> Answered:
    return Answered(streams, 10, p95_ms / 2, p95_ms, broken, 0.1, 1.0, 0.1, 0.5)


def test_an_answer_is_late_from_when_its_piece_was_due_and_infinitely_where_it_never_comes() -> None:
    stream = Stream(start=10.0, came=[(10.05, 1, b"a"), (11.94, 5, b"b")], text="a b")
    assert stream.waits_ms(OWED, pieces=4) == [pytest.approx(50), pytest.approx(1300), inf]
    assert stream.waits_ms(OWED, pieces=3) == [pytest.approx(50), pytest.approx(1300)]  # what comes after the end
    assert not stream.is_right(OWED)
    stream.came.append((12.0, 5, b"c"))
    assert stream.is_right(OWED)
    stream.came[1] = (11.94, 5, b"other")
    assert not stream.is_right(OWED)


def test_the_most_that_are_held_are_found_by_doubling_and_halving() -> None:
    measured = []

    def measure(count: int) -> Answered:
        measured.append(count)
        return answered(count, 0.5 * count)

    found = searched(measure, (60.0, 100.0))
    assert measured[:5] == [1, 32, 64, 128, 256]
    assert 200 / 1.2 <= held(found, 100.0) <= 200
    assert 120 / 1.2 <= held(found, 60.0) <= 120
    assert len(measured) <= 10


def test_a_number_with_a_broken_stream_is_not_held_nor_is_a_larger_one() -> None:
    found = {1: answered(1, 5), 32: answered(32, 6, broken=1), 64: answered(64, 7)}
    assert held(found, 60.0) == 1
    assert held({1: answered(1, 70)}, 60.0) == 0
    shown = "\n".join(table({"one": {1: answered(1, 5), 32: answered(32, 6)}, "two": found}))
    assert "| one | 2.5, 5.0 ms | 3.0, 6.0 ms | 1.00 ms | 32 | 32 |" in shown
    assert "held at 60 ms, times those: 32.00 of 'two'" in shown


def test_a_microphone_is_told_what_it_says(tmp_path: Path) -> None:
    make_hearers(tmp_path)
    stream = Stream()

    async def speak(port: int, model: str) -> None:
        make = partial(Microphone, f"/v1/transcribe?model={model}", stream.hear)
        line = (await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port))[1]
        await line.opened
        for word in ("soft", "loud"):
            line.send(frame(BINARY, pcm(sound_of(word, None)[:PIECE])))
        line.send(END)
        await line.ended

    with open_server(tmp_path) as live:
        asyncio.run(speak(live.port, "listener"))
    assert stream.text == "soft loud"
    assert [json.loads(message)["text"] for _, _, message in stream.came][-1] == "soft loud"


def test_a_microphone_that_is_refused_says_how() -> None:
    async def refused() -> None:
        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            make = partial(Microphone, "/", lambda message, now: None)
            line = (await asyncio.get_running_loop().create_connection(make, "127.0.0.1", port))[1]
            with pytest.raises(ConnectionError, match="403 Forbidden"):
                await line.opened

    asyncio.run(refused())


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_a_frame_is_what_the_servers_own_library_reads(size: int) -> None:
    from websockets.frames import Frame
    from websockets.streams import StreamReader

    reader = StreamReader()
    data = bytes(range(256)) * (size // 256 + 1)
    reader.feed_data(frame(BINARY, data[:size]))
    parsing = Frame.parse(reader.read_exact, mask=True)
    with pytest.raises(StopIteration) as end:
        next(parsing)
    assert end.value.value.data == data[:size]


def test_the_first_answer_is_the_truth_where_nothing_else_is() -> None:
    send = Send("clip", "POST", "/", {}, b"", truth=Truth(), reads=words)
    first, other = (json.dumps({"results": [{"text": text}]}).encode() for text in ("one", "two"))
    assert send.is_right(200, first)
    assert send.is_right(200, first)
    assert not send.is_right(200, other)
    assert not send.is_right(500, first)


def test_words_are_read_of_subtitles_and_of_the_last_event() -> None:
    assert cued(b"WEBVTT\n\n00:00.000 --> 00:01.000\nplace red\n\n00:01.000 --> 00:02.000\nnow\n") == "place red now"
    assert cued(b"1\n00:00:00,000 --> 00:00:01,000\nplace red\n") == "place red"
    stream = b'event: partial\ndata: {"text": "a"}\n\nevent: final\ndata: {"results": [{"text": "a b"}]}\n\n'
    assert last_event(words)(stream) == "a b"
