"""POST /v1/transcribe: the words that a sound was made of, in every form of body and of answer, and what is refused.

Sounds and models are of `tests/made_sounds.py`: what is said in a sound is known by how it was made.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from app.codecs.npy import encode_npy
from app.tasks.transcribe.schema import TranscribeAnswer
from app.web.request import sounds
from app.web.request.payload import SMALL_BODY
from tests.app.live import LiveServer, Reply, form
from tests.made_sounds import (
    FRAME_S,
    MAX_S,
    RATE,
    WORD_FRAMES,
    level,
    sound_of,
    wav,
)

PATH = "/v1/transcribe"
SAID = sound_of(None, "soft", None, "soft", "loud")
TEXT = "soft soft loud"
WORD_S = WORD_FRAMES * FRAME_S
JSON = "application/json"
LATE_MS = "600"
MODELS = ("hearer", "listener")


def ask(server: LiveServer, kind: str, body: bytes, query: str = "", **headers: str) -> Reply:
    return server.ask("POST", PATH + query, body, {"Content-Type": kind, **headers})


def as_wav(server: LiveServer, samples: NDArray[np.floating[Any]], query: str = "", **headers: str) -> Reply:
    return ask(server, "audio/wav", wav(samples), query, **headers)


def results(reply: Reply) -> list[dict[str, Any]]:
    assert reply.status == 200, reply.body
    return TranscribeAnswer.model_validate_json(reply.body, strict=True).model_dump()["results"]


def texts(reply: Reply) -> list[str]:
    return [result["text"] for result in results(reply)]


def b64(samples: NDArray[np.floating[Any]]) -> str:
    return base64.b64encode(wav(samples)).decode()


@pytest.mark.parametrize("model", MODELS)
def test_words_have_the_times_at_which_they_were_said(hearers: LiveServer, model: str) -> None:
    (result,) = results(as_wav(hearers, SAID, f"?model={model}"))
    assert result["text"] == TEXT
    assert result["duration_s"] == pytest.approx(5 * WORD_S)
    starts = [WORD_S, 3 * WORD_S, 4 * WORD_S]
    assert [word["start_s"] for word in result["words"]] == pytest.approx(starts)
    assert [word["end_s"] for word in result["words"]] == pytest.approx([start + WORD_S for start in starts])
    assert min(word["probability"] for word in result["words"]) > 0.99
    assert not result["noise"]
    assert result["real_time_factor"] > 0


@pytest.mark.parametrize("kind", ["audio/wav", "audio/x-wav", "audio/flac", "audio/webm;codecs=opus"])
def test_a_raw_file_is_read_as_what_it_is_whatever_it_is_called(hearers: LiveServer, kind: str) -> None:
    assert texts(ask(hearers, kind, wav(SAID))) == [TEXT]


def test_no_file_of_sound_is_read_on_the_event_loop(hearers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    on_loop = []
    read = sounds.recordings

    def recordings(*args: Any, **options: Any) -> Any:
        try:
            on_loop.append(asyncio.get_running_loop())
        except RuntimeError:
            on_loop.append(None)
        return read(*args, **options)

    monkeypatch.setattr(sounds, "recordings", recordings)
    silence = io.BytesIO()  # fewer bytes than of a picture that is read there
    soundfile.write(silence, np.zeros(8000 * 10), 8000, format="FLAC")
    assert len(silence.getvalue()) < SMALL_BODY
    head = {"Content-Type": "audio/flac"}
    assert hearers.ask("POST", "/v1/transcribe", silence.getvalue(), head).status == 200
    assert on_loop == [None]


def test_several_files_of_a_form_are_answered_in_their_order(hearers: LiveServer) -> None:
    files = [("sound", wav(sound_of(word)), f"{word}.wav") for word in ("loud", "soft", "loud")]
    kind, body = form(*files, ("model", b"hearer"), ("alternatives", b"1"))
    answer = ask(hearers, kind, body)
    assert texts(answer) == ["loud", "soft", "loud"]
    assert [len(result["alternatives"]) for result in results(answer)] == [1, 1, 1]


def test_json_has_one_recording_or_several(hearers: LiveServer) -> None:
    one = json.dumps({"sound": b64(SAID), "model": "hearer"}).encode()
    several = json.dumps({"sounds": [b64(sound_of("loud")), f"data:audio/wav;base64,{b64(SAID)}"]}).encode()
    assert texts(ask(hearers, JSON, one)) == [TEXT]
    assert texts(ask(hearers, JSON, several)) == ["loud", TEXT]


@pytest.mark.parametrize("model", MODELS)
def test_numbers_are_samples_at_the_model_s_own_rate(hearers: LiveServer, model: str) -> None:
    rows = np.stack([sound_of("loud", None), sound_of(None, "soft")])
    assert texts(ask(hearers, "application/x-npy", encode_npy(SAID), f"?model={model}")) == [TEXT]
    assert texts(ask(hearers, "application/x-npy", encode_npy(rows), f"?model={model}")) == ["loud", "soft"]


def test_a_file_of_another_rate_and_two_channels_says_the_same(hearers: LiveServer) -> None:
    twice = np.repeat(SAID, 2)  # each sample twice: the same sound at twice the rate
    assert texts(ask(hearers, "audio/wav", wav(twice, 2 * RATE))) == [TEXT]


@pytest.mark.parametrize("model", MODELS)
def test_recordings_of_different_length_say_together_what_each_says_alone(hearers: LiveServer, model: str) -> None:
    sounds = [sound_of("soft"), SAID, sound_of(None, "loud", None), sound_of("loud", "soft", None, "soft", frames=7)]
    alone = [results(as_wav(hearers, sound, f"?model={model}"))[0] for sound in sounds]
    kind, body = form(*(("sound", wav(sound), "a.wav") for sound in sounds))
    together = results(ask(hearers, kind, body, f"?model={model}"))
    for one, other in zip(alone, together, strict=True):
        assert one["words"] == other["words"]
        assert one["duration_s"] == other["duration_s"]


@pytest.mark.parametrize("model", MODELS)
def test_a_recording_shorter_than_any_frame_is_answered(hearers: LiveServer, model: str) -> None:
    (result,) = results(ask(hearers, "application/x-npy", encode_npy(np.zeros(1, np.float32)), f"?model={model}"))
    assert (result["text"], result["words"], result["noise"]) == ("", [], True)


def test_a_long_recording_is_cut_at_pauses_and_no_word_is_lost(hearers: LiveServer) -> None:
    words = ["soft", "loud", "soft", "soft", "loud", "loud"] * 2
    sound = np.concatenate([sound_of(None, word, None) for word in words])
    (result,) = results(as_wav(hearers, sound))
    assert len(sound) / RATE > MAX_S
    assert result["text"] == " ".join(words)
    starts = [word["start_s"] for word in result["words"]]
    assert starts == pytest.approx([(3 * i + 1) * WORD_S for i in range(len(words))], abs=FRAME_S)
    assert result["alternatives"][0]["text"] == result["text"]
    assert len(result["alternatives"]) == 3


def test_alternatives_of_a_long_recording_are_all_different_and_the_best_first(hearers: LiveServer) -> None:
    unsure = np.concatenate([sound_of(None, None), level(0.16, 1), sound_of(None, None)])  # a word, or none
    sound = np.tile(unsure, 8)
    assert len(sound) / RATE > MAX_S
    (result,) = results(as_wav(hearers, sound, "?alternatives=10"))
    texts = [one["text"] for one in result["alternatives"]]
    assert len(set(texts)) == len(texts) > 3
    assert texts[0] == result["text"] == " ".join(word["text"] for word in result["words"])
    probabilities = [one["probability"] for one in result["alternatives"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) <= 1 + 1e-6
    (alone,) = results(as_wav(hearers, sound, "?alternatives=1"))
    assert (alone["text"], alone["alternatives"]) == (result["text"], result["alternatives"][:1])


def test_silence_and_what_is_half_one_word_and_half_another_are_noise(hearers: LiveServer) -> None:
    for sound, text in ((sound_of(None, None), ""), (level(0.501, 1), "loud")):
        (result,) = results(as_wav(hearers, np.concatenate([sound_of(None), sound, sound_of(None)])))
        assert result["text"] == text
        assert result["noise"] is True


def test_alternatives_are_the_best_readings_and_as_many_as_wished(hearers: LiveServer) -> None:
    unsure = np.concatenate([sound_of(None, "soft", None), level(0.505, 1), sound_of(None)])
    for n in (0, 1, 2, 10):
        (result,) = results(as_wav(hearers, unsure, f"?alternatives={n}"))
        assert result["text"] == "soft loud"
        assert len(result["alternatives"]) <= n
        assert [one["text"] for one in result["alternatives"][:2]] == ["soft loud", "soft soft"][: min(n, 2)]
    shares = [one["probability"] for one in result["alternatives"][:2]]
    assert shares[0] > shares[1] > 0.1
    assert sum(shares) == pytest.approx(1, abs=0.01)


def test_text_is_a_line_for_each_recording(hearers: LiveServer) -> None:
    reply = as_wav(hearers, SAID, Accept="text/plain")
    assert (reply.body, reply.header("content-type")) == (f"{TEXT}\n".encode(), "text/plain; charset=utf-8")
    kind, body = form(("sound", wav(SAID), "a.wav"), ("sound", wav(sound_of(None)), "b.wav"))
    assert ask(hearers, kind, body, Accept="text/plain").body == f"{TEXT}\n\n".encode()


def test_subtitles_show_the_words_when_they_are_said(hearers: LiveServer) -> None:
    srt = as_wav(hearers, SAID, Accept="application/x-subrip")
    assert srt.header("content-type") == "application/x-subrip; charset=utf-8"
    assert srt.body == b"1\n00:00:00,200 --> 00:00:01,000\nsoft soft loud\n\n"
    vtt = as_wav(hearers, SAID, Accept="text/vtt")
    assert vtt.header("content-type") == "text/vtt; charset=utf-8"
    assert vtt.body == b"WEBVTT\n\n00:00:00.200 --> 00:00:01.000\nsoft soft loud\n\n"
    assert as_wav(hearers, sound_of(None), Accept="text/vtt").body == b"WEBVTT\n\n"


@pytest.mark.parametrize("accept", ["application/x-subrip", "text/vtt", "text/event-stream"])
def test_subtitles_and_events_are_of_one_recording(hearers: LiveServer, accept: str) -> None:
    kind, body = form(("sound", wav(SAID), "a.wav"), ("sound", wav(SAID), "b.wav"))
    refused = ask(hearers, kind, body, Accept=accept)
    refused.assert_refused(422, "sounds", ["2 recordings", accept, "text/plain"])


def nested(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


NPY = "application/x-npy"
LOUD = encode_npy(np.full(800, 900.0, np.float32))
WRONG: dict[str, tuple[str, bytes, str, int, str, tuple[str, ...]]] = {
    "no body": ("audio/wav", b"", "", 422, "body", ("no body", "a recording")),
    "no file": ("audio/wav", b"hello, this is text", "", 415, "body", ("WAV",)),
    "a picture": ("image/png", b"\x89PNG", "", 415, "header.content-type", ("image/png", "audio/wav")),
    "cut off": ("audio/wav", wav(SAID)[:30], "", 422, "body", ()),
    "no samples": ("audio/wav", wav(SAID[:0]), "", 422, "body", ("sample",)),
    "too long": ("audio/wav", wav(np.zeros(13 * RATE)), "", 413, "body", ("13.0 s", "12 s")),
    "numbers too long": (NPY, encode_npy(np.zeros((2, 7 * RATE), np.float32)), "", 413, "body", ("14.0 s",)),
    "numbers in three axes": (NPY, encode_npy(np.zeros((1, 2, 3), np.float32)), "", 422, "body", ("(1, 2, 3)",)),
    "numbers of integers": (NPY, encode_npy(np.zeros(800, np.int16)), "", 422, "body", ("int16", "float32")),
    "numbers too loud": (NPY, LOUD, "", 422, "body", ("900", "-1 to 1")),
    "no number": (NPY, encode_npy(np.full(8, np.nan, np.float32)), "", 422, "body[0]", ("nan",)),
    "no base64": (JSON, nested(sound="!"), "", 422, "body.sound", ("a sound file in standard base64",)),
    "a number for a file": (JSON, nested(sounds=[7]), "", 422, "body.sounds[0]", ("base64", "7")),
    "both": (JSON, nested(sound="", sounds=[""]), "", 422, "body.sounds", ("'sound'", "'sounds'")),
    "neither": (JSON, nested(alternatives=1), "", 422, "body.sound", ("'sound' or 'sounds'",)),
    "a picture in JSON": (JSON, nested(image=""), "", 422, "body.image", ("sound",)),
    "too many alternatives": ("audio/wav", wav(SAID), "?alternatives=11", 422, "alternatives", ("0 to 10",)),
    "unknown option": ("audio/wav", wav(SAID), "?top_k=1", 422, "query.top_k", ("alternatives",)),
    "unknown model": ("audio/wav", wav(SAID), "?model=ear", 404, "model", ("'ear'", "hearer")),
    "a model that classifies": ("audio/wav", wav(SAID), "?model=meter", 422, "model", ("classify",)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_refused_by_name(hearers: LiveServer, case: str) -> None:
    kind, body, query, status, subject, words = WRONG[case]
    ask(hearers, kind, body, query).assert_refused(status, subject, words)


def test_forms_of_wrong_files_are_refused_by_name(hearers: LiveServer) -> None:
    many = [("sound", wav(sound_of("soft")), "a.wav")] * 9
    for parts, status, subject, words in (
        ([("alternatives", b"1")], 422, "form.sound", ["'sound'"]),
        ([("image", b"x", "a.png")], 422, "form.image", ["sound"]),
        (many, 413, "sounds", ["9 recordings", "at most 8"]),
        ([("sound", wav(np.zeros(7 * RATE)), "a.wav")] * 2, 413, "sounds", ["14.0 s", "12 s"]),
        ([("sound", wav(SAID), "a.wav"), ("sound", b"no sound", "b.wav")], 415, "sound[1]", ["WAV"]),
    ):
        kind, body = form(*parts)
        ask(hearers, kind, body).assert_refused(status, subject, words)


def test_no_form_of_answer_is_no_answer(hearers: LiveServer) -> None:
    as_wav(hearers, SAID, Accept="image/png").assert_refused(406, "header.accept", ["application/x-subrip"])
    refused = as_wav(hearers, SAID, "?alternatives=2", Accept="text/plain")
    refused.assert_refused(422, "alternatives", ["text/plain", "application/json"])


def test_the_landing_page_shows_how_to_ask(hearers: LiveServer) -> None:
    page = hearers.get("/").body.decode()
    assert "Transcribe sound" in page
    assert "curl -F sound=@recording.wav" in page


def test_a_model_s_card_says_how_sound_becomes_its_input_and_which_model_streams(hearers: LiveServer) -> None:
    card = hearers.get("/v1/models/hearer").json()
    assert card["sound"] == {"rate": RATE, "max_s": MAX_S}
    assert (card["transcription"]["twin"], card["transcription"]["step_s"]) == ("listener", FRAME_S)
    assert hearers.get("/v1/models/meter").json()["transcription"] is None


@pytest.mark.parametrize("word", ["soft", "loud"])
def test_sound_is_classified_as_pictures_are(hearers: LiveServer, word: str) -> None:
    (result,) = hearers.send("audio/wav", wav(sound_of(word))).json()["results"]
    assert result["label"] == word
    assert result["probabilities"][word] > 0.99


def test_several_sounds_of_different_length_are_classified_in_their_order(hearers: LiveServer) -> None:
    sounds = [sound_of("loud"), sound_of("soft", frames=9), sound_of("loud", frames=2)]
    expected = ["loud", "soft", "loud"]
    kind, body = form(*(("sound", wav(sound), "a.wav") for sound in sounds))
    assert [one["label"] for one in hearers.send(kind, body).json()["results"]] == expected
    answer = hearers.send_json({"sounds": [b64(sound) for sound in sounds], "top_k": 1})
    assert [one["label"] for one in answer.json()["results"]] == expected
    rows = np.stack([sound_of("soft"), sound_of("loud")])
    assert [one["label"] for one in hearers.send(NPY, encode_npy(rows)).json()["results"]] == ["soft", "loud"]


def test_what_a_classifier_of_sound_does_not_take_is_refused_by_name(hearers: LiveServer) -> None:
    long = sound_of("loud", frames=round(MAX_S / FRAME_S) + 1)
    hearers.send("audio/wav", wav(long)).assert_refused(422, "body", ["4.0 s", "at most 4 s", "meter"])
    picture = hearers.send("image/png", b"\x89PNG\r\n\x1a\n", "model=meter")
    picture.assert_refused(415, "body", ["sound", "pictures"])
    kind, body = form(("sound", wav(SAID), "a.wav"), ("image", b"x", "b.png"))
    hearers.send(kind, body).assert_refused(422, "form.image", ["one kind"])


@pytest.mark.parametrize(
    ("model", "accept", "slow", "words"),
    [
        ("hearer", JSON, "recognize.cut", "pauses were being looked for until the deadline"),
        ("hearer", JSON, "recognize.transcript", "words were being searched until the deadline"),
        ("listener", "text/event-stream", "live.transcript", "words were being searched until the deadline"),
    ],
)
def test_whatever_takes_long_is_not_waited_for_beyond_the_deadline(
    hearers: LiveServer, monkeypatch: pytest.MonkeyPatch, model: str, accept: str, slow: str, words: str
) -> None:
    go = threading.Event()

    def wait(*values: Any, **named: Any) -> Any:
        assert go.wait(20)
        raise AssertionError("nobody needs it any more")

    monkeypatch.setattr(f"app.web.speech.{slow}", wait)
    long = np.tile(SAID, 6)  # longer than the model takes at once
    try:
        late = as_wav(hearers, long, f"?model={model}", Accept=accept, **{"X-Request-Deadline-Ms": LATE_MS})
    finally:
        go.set()
    assert words in late.body.decode()
    assert '"status":504' in late.body.decode()
