"""POST /v1/audio/transcriptions, asked by the unmodified client `openai`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from app.middleware.api_keys import make_key
from tests.app.live import LiveServer, form, open_server
from tests.app.tasks.test_transcribe import SAID, TEXT, as_wav
from tests.made_sounds import make_hearers, wav

PATH = "/v1/audio/transcriptions"
FILE = ("said.wav", wav(SAID))
CUES = ("00:00:00.200 --> 00:00:01.000\nsoft soft loud",)
WORD_CUES = (
    "00:00:00.200 --> 00:00:00.400\nsoft",
    "00:00:00.600 --> 00:00:00.800\nsoft",
    "00:00:00.800 --> 00:00:01.000\nloud",
)


def client_of(server: LiveServer, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(hearers: LiveServer) -> Iterator[openai.OpenAI]:
    with client_of(hearers) as opened:
        yield opened


def create(client: openai.OpenAI, **wanted: Any) -> Any:
    return client.audio.transcriptions.create(**({"model": "hearer", "file": FILE} | wanted))


def test_json_is_the_text(client: openai.OpenAI) -> None:
    answer = create(client)
    assert answer.text == TEXT
    assert answer.usage.type == "duration"
    assert answer.usage.seconds == pytest.approx(1.0)


def test_verbose_json_has_segments_and_where_asked_for_words(client: openai.OpenAI) -> None:
    answer = create(client, response_format="verbose_json", language="en")
    assert (answer.text, answer.language, answer.duration, answer.words) == (TEXT, "en", 1.0, None)
    (segment,) = answer.segments
    assert (segment.text, segment.start, segment.end, segment.tokens) == (TEXT, 0.2, 1.0, [0, 0, 1])
    assert segment.avg_logprob > -0.01
    both = create(client, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert [(word.word, word.start, word.end) for word in both.words] == [
        ("soft", 0.2, 0.4),
        ("soft", 0.6, 0.8),
        ("loud", 0.8, 1.0),
    ]
    assert len(both.segments) == 1
    assert create(client, response_format="verbose_json", timestamp_granularities=["word"]).segments is None


def test_json_has_times_where_they_are_asked_for(client: openai.OpenAI) -> None:
    extra = create(client, timestamp_granularities=["word", "segment"]).model_extra
    assert [word["word"] for word in extra["words"]] == TEXT.split()
    assert [segment["text"] for segment in extra["segments"]] == [TEXT]


def test_text_srt_and_vtt_are_those_of_transcribe(client: openai.OpenAI, hearers: LiveServer) -> None:
    for form_, accept in (("text", "text/plain"), ("srt", "application/x-subrip"), ("vtt", "text/vtt")):
        assert create(client, response_format=form_).encode() == as_wav(hearers, SAID, Accept=accept).body


@pytest.mark.parametrize("times", [["segment"], ["word"], ["word", "segment"]])
def test_subtitles_have_segments_or_words(client: openai.OpenAI, times: list[Any]) -> None:
    cues = WORD_CUES if times == ["word"] else CUES
    vtt = create(client, response_format="vtt", timestamp_granularities=times)
    assert vtt == "WEBVTT\n\n" + "".join(f"{cue}\n\n" for cue in cues)
    srt = create(client, response_format="srt", timestamp_granularities=times)
    numbered = (f"{number}\n{cue}\n\n" for number, cue in enumerate(cues, 1))
    assert srt == "".join(numbered).replace(".", ",")


def test_a_stream_tells_the_text_piece_by_piece_and_then_whole(client: openai.OpenAI) -> None:
    events = list(create(client, model="listener", stream=True))
    assert "".join(event.delta for event in events[:-1]) == TEXT
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert (events[-1].type, events[-1].text) == ("transcript.text.done", TEXT)


def test_what_makes_no_difference_is_taken(client: openai.OpenAI) -> None:
    ignored = {"language": "en", "prompt": "soft, loud", "temperature": 0.7, "chunking_strategy": "auto"}
    assert create(client, **ignored).text == TEXT


WRONG: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], str, str]] = {
    "another's model": ({"model": "whisper-1"}, openai.NotFoundError, "model", "hearer, listener, meter"),
    "a model that classifies": ({"model": "meter"}, openai.BadRequestError, "model", "classify"),
    "no sound": ({"file": ("a.wav", b"text")}, openai.BadRequestError, "file", "WAV"),
    "a stream of a whole recording": ({"stream": True}, openai.BadRequestError, "model", "'listener'"),
    "a stream of subtitles": (
        {"stream": True, "model": "listener", "response_format": "srt"},
        openai.BadRequestError,
        "stream",
        "srt",
    ),
    "times in text": (
        {"response_format": "text", "timestamp_granularities": ["word"]},
        openai.BadRequestError,
        "timestamp_granularities[]",
        "text",
    ),
    "an unknown form": ({"response_format": "xml"}, openai.BadRequestError, "response_format", "verbose_json"),
    "an unknown granularity": (
        {"timestamp_granularities": ["letter"]},
        openai.BadRequestError,
        "timestamp_granularities[]",
        "word, segment",
    ),
    "too warm": ({"temperature": 1.5}, openai.BadRequestError, "temperature", "a number from 0 to 1"),
    "no temperature": ({"temperature": "warm"}, openai.BadRequestError, "temperature", "'warm'"),
    "what is not done": ({"include": ["logprobs"]}, openai.BadRequestError, "include[]", "response_format"),
    "too long": ({"file": ("a.wav", wav(SAID.repeat(13)))}, openai.APIStatusError, "file", "12 s"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_raises_the_client_s_own_error(client: openai.OpenAI, case: str) -> None:
    wanted, error, param, words = WRONG[case]
    with pytest.raises(error) as refused:
        create(client, **wanted)
    body = refused.value.body
    assert isinstance(body, dict)
    assert body["param"] == param
    assert words in body["message"]
    assert body["type"] == "invalid_request_error"
    assert refused.value.status_code == (413 if case == "too long" else 404 if case == "another's model" else 400)


def test_a_key_is_asked_for(tmp_path: Path) -> None:
    make_hearers(tmp_path)
    key, digest = make_key()
    with open_server(tmp_path, api_keys=(digest,)) as server:
        with client_of(server) as stranger, pytest.raises(openai.AuthenticationError):
            create(stranger)
        with client_of(server, key) as known:
            assert create(known).text == TEXT


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([("model", b"hearer")], "file"),
        ([("file", wav(SAID), "a.wav")], "model"),
        ([("file", wav(SAID), "a.wav"), ("model", b"hearer"), ("model", b"hearer")], "model"),
        ([("file", wav(SAID), "a.wav"), ("model", b"hearer"), ("stream", b"maybe")], "stream"),
    ],
)
def test_a_form_that_is_not_whole_is_refused_by_field(hearers: LiveServer, parts: list[Any], param: str) -> None:
    kind, body = form(*parts)
    reply = hearers.ask("POST", PATH, body, {"Content-Type": kind})
    assert (reply.status, reply.json()["error"]["param"]) == (400, param)


def test_what_is_no_form_and_no_page_has_the_protocol_s_own_errors(hearers: LiveServer) -> None:
    for reply, status in (
        (hearers.ask("POST", PATH, wav(SAID), {"Content-Type": "audio/wav"}), 400),
        (hearers.ask("POST", PATH, b""), 400),
        (hearers.get(PATH), 405),
        (hearers.get("/v1/audio/speech"), 404),
    ):
        assert reply.status == status
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
