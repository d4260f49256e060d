"""POST /v1/label-frames through the whole server, with graphs of which every answer is known."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from tests.app.codecs.clips import film, grey, moving
from tests.app.codecs.files import saved, scene
from tests.app.live import LiveServer, Reply, form
from tests.app.web.test_event_stream import parsed
from tests.made_clips import CHANGES, LABELS, RATE, frames_of, piecewise, whole

PATH = "/v1/label-frames"
LEVELS = (128, 128, 128, 28, 28, 28, 28, 228, 228, 228, 228, 128)
PNG = moving("PNG", (128, 28, 228, 128), (120, 160, 160, 40))  # the same; a writer merges what is alike
FRAMES = frames_of(LEVELS)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def send(server: LiveServer, kind: str, body: bytes, query: str = "", **headers: str) -> Reply:
    named = {k.replace("_", "-"): v for k, v in headers.items()}
    return server.ask("POST", PATH + (f"?{query}" if query else ""), body, {"Content-Type": kind, **named})


def send_json(server: LiveServer, value: Any, **headers: str) -> Reply:
    return send(server, "application/json", json.dumps(value).encode(), **headers)


def send_form(server: LiveServer, *parts: tuple[str, bytes] | tuple[str, bytes, str]) -> Reply:
    return send(server, *form(*parts))


def framed(probabilities: np.ndarray, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """What the answer says of these frames."""
    return [
        {
            "index": k,
            "time_s": k / RATE,
            "label": labels[row.argmax()],
            "probability": pytest.approx(row.max(), abs=1e-4),
        }
        for k, row in enumerate(probabilities)
    ]


def check(answer: dict[str, Any], *, came: int, duration_s: float = 0.48) -> None:
    """The answer of "watcher" to LEVELS."""
    assert answer["frames"] == framed(whole(LEVELS), LABELS)
    assert answer["segments"] == [
        {"label": "dark", "start_s": 0.12, "end_s": 0.28, "probability": pytest.approx(1, abs=1e-4)},
        {"label": "light", "start_s": 0.28, "end_s": 0.44, "probability": pytest.approx(1, abs=1e-4)},
    ]
    assert answer["text"] == "dark light"
    assert (answer["duration_s"], answer["frames_in"]) == (duration_s, came)
    assert (answer["model"], answer["version"], answer["device"]) == ("watcher", "1", "cpu")


FORMS: dict[str, tuple[int, Callable[[LiveServer], Reply]]] = {
    "a raw animated png": (4, lambda server: send(server, "image/png", PNG)),
    "a file of a form": (4, lambda server: send_form(server, ("video", PNG, "clip.png"))),
    "a form with options": (4, lambda server: send_form(server, ("video", PNG), ("model", b"watcher"))),
    "base64": (4, lambda server: send_json(server, {"video": text(PNG), "model": "watcher"})),
    "a data URL": (4, lambda server: send_json(server, {"video": "data:image/png;base64," + text(PNG)})),
    "pictures of a form": (
        12,
        lambda server: send_form(server, *[("image", encode_png(frame), f"{k}.png") for k, frame in enumerate(FRAMES)]),
    ),
    "pictures as base64": (12, lambda server: send_json(server, {"images": [text(encode_png(f)) for f in FRAMES]})),
    "nested pixels": (12, lambda server: send_json(server, {"images": FRAMES[..., 0].tolist()})),
    "an array": (12, lambda server: send(server, "application/x-npy", encode_npy(FRAMES))),
    "an array without channels": (12, lambda server: send(server, "application/x-npy", encode_npy(FRAMES[..., 0]))),
    "an array of larger frames": (
        12,
        lambda server: send(server, "application/x-npy", encode_npy(FRAMES.repeat(3, axis=1).repeat(3, axis=2))),
    ),
}


@pytest.mark.parametrize(("came", "ask"), FORMS.values(), ids=FORMS.keys())
def test_every_form_of_request_gives_the_same_answer(
    watchers: LiveServer, came: int, ask: Callable[[LiveServer], Reply]
) -> None:
    answer = ask(watchers)
    assert answer.status == 200, answer.body
    assert answer.header("x-model") == "watcher/1"
    check(answer.json(), came=came)


@pytest.mark.parametrize("kind", ["avif", "webp", "gif"])
def test_every_format_of_clip_is_taken(watchers: LiveServer, kind: str) -> None:
    clip = moving(kind.upper(), (128, 28, 228, 128), (120, 160, 160, 40))
    answer = send(watchers, f"image/{kind}", clip).json()
    assert [frame["label"] for frame in answer["frames"]] == [LABELS[k] for k in whole(LEVELS).argmax(axis=1)]
    assert (answer["text"], answer["duration_s"], answer["frames_in"]) == ("dark light", 0.48, 4)


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_films_are_taken_where_pyav_is_and_answer_415_where_it_is_not(watchers: LiveServer, kind: str) -> None:
    try:
        import av
    except ImportError:
        head = b"\0\0\0\x20ftypisom" if kind == "mp4" else b"\x1a\x45\xdf\xa3"
        send(watchers, f"video/{kind}", head + bytes(50)).assert_refused(415, "body", ["extra 'media'", "AVIF"])
        return
    times = [40 * k for k in range(12)]
    answer = send(watchers, f"video/{kind}", film(av, kind, LEVELS, times)).json()
    assert answer["text"] == "dark light"
    assert answer["frames_in"] == 12


def test_a_still_picture_is_a_clip_of_one_frame(watchers: LiveServer) -> None:
    answer = send(watchers, "image/png", saved(grey(90)), "model=follower").json()
    assert [frame["label"] for frame in answer["frames"]] == ["lighter"]  # than black
    assert answer["frames_in"] == 1


@pytest.mark.parametrize("lasts_ms", [1, 19, 21, 30, 59, 61, 151])
def test_no_time_is_behind_the_end_of_the_clip(watchers: LiveServer, lasts_ms: int) -> None:
    """At 25 frames a second a clip ends anywhere between two frames."""
    for count in (2, 5):
        clip = moving("PNG", (128, *[228, 28] * (count // 2))[:count], (lasts_ms,) * count)
        answer = send(watchers, "image/png", clip).json()
        duration_s = answer["duration_s"]
        assert duration_s == pytest.approx(count * lasts_ms / 1000, abs=1e-3)
        assert all(0 <= frame["time_s"] < duration_s for frame in answer["frames"])
        assert all(0 <= one["start_s"] < one["end_s"] <= duration_s for one in answer["segments"])
        cues = send(watchers, "image/png", clip, Accept="text/vtt").body.decode()
        ends = [line.split(" --> ")[1] for line in cues.splitlines() if " --> " in line]
        assert all(float(end.split(":")[-1]) <= round(duration_s, 3) for end in ends)


def test_a_model_without_a_grammar_has_segments_of_its_frames_and_no_text(watchers: LiveServer) -> None:
    levels = (0, 100, 200, 200, 200, 100, 100)
    answer = send(watchers, "application/x-npy", encode_npy(frames_of(levels)), "model=follower").json()
    assert answer["frames"] == framed(piecewise(levels), CHANGES)
    assert [(one["label"], one["start_s"], one["end_s"]) for one in answer["segments"]] == [
        ("lighter", 0.04, 0.12),
        ("darker", 0.2, 0.24),
    ]
    assert answer["text"] is None


# Forms of answer.


@pytest.mark.parametrize(("model", "known"), [("watcher", whole), ("follower", piecewise)])
def test_as_an_array_the_answer_is_all_probabilities(watchers: LiveServer, model: str, known: Any) -> None:
    answer = send(watchers, "image/png", PNG, f"model={model}", accept="application/x-npy")
    assert answer.header("content-type") == "application/x-npy"
    probabilities = np.load(io.BytesIO(answer.body))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, known(LEVELS), atol=1e-4)


def test_as_subtitles_the_answer_is_its_segments(watchers: LiveServer) -> None:
    answer = send(watchers, "image/png", PNG, accept="text/vtt")
    assert answer.header("content-type") == "text/vtt; charset=utf-8"
    assert answer.body.decode() == (
        "WEBVTT\n\n00:00:00.120 --> 00:00:00.280\ndark\n\n00:00:00.280 --> 00:00:00.440\nlight\n\n"
    )


def test_a_stream_has_an_event_for_each_frame_and_ends_with_the_plain_answer(watchers: LiveServer) -> None:
    plain = send(watchers, "image/png", PNG, "model=follower")
    answer = send(watchers, "image/png", PNG, "model=follower", accept="text/event-stream")
    assert answer.status == 200
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"
    *frames, (name, final) = parsed(answer.body)
    assert [event for event, _ in frames] == ["frame"] * len(LEVELS)
    assert [frame for _, frame in frames] == plain.json()["frames"]
    assert (name, final) == ("final", plain.json())


def test_a_model_that_needs_the_whole_clip_names_its_twin_in_place_of_a_stream(watchers: LiveServer) -> None:
    answer = send(watchers, "image/png", PNG, "model=watcher", accept="text/event-stream")
    answer.assert_refused(409, "model", ["'watcher' needs the whole clip", "'follower'"])


def test_a_stream_of_no_named_model_is_of_the_default_s_twin(watchers: LiveServer) -> None:
    answer = send(watchers, "image/png", PNG, accept="text/event-stream")
    assert parsed(answer.body)[-1][1]["model"] == "follower"


def test_clips_of_different_length_at_once_are_answered_as_each_alone(watchers: LiveServer) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, length).tolist() for length in (1, 2, 3, 5, 8, 13, 21, 34, 50) * 3]

    def ask(levels: list[int]) -> np.ndarray:
        body = encode_npy(frames_of(levels))
        answer = send(watchers, "application/x-npy", body, accept="application/x-npy")
        assert answer.status == 200, answer.body
        return np.asarray(np.load(io.BytesIO(answer.body)))

    with ThreadPoolExecutor(9) as pool:
        for levels, got in zip(clips, pool.map(ask, clips), strict=True):
            np.testing.assert_allclose(got, whole(levels), atol=1e-3)


# Wrong requests.

WRONG: dict[str, tuple[Callable[[LiveServer], Reply], int, str, list[str]]] = {
    "no body": (lambda server: send(server, "image/avif", b""), 422, "body", ["there is no body"]),
    "a jpeg": (
        lambda server: send(server, "image/jpeg", saved(scene(), "JPEG")),
        415,
        "header.content-type",
        ["video/mp4"],
    ),
    "a jpeg that says it is an avif": (
        lambda server: send(server, "image/avif", saved(scene(), "JPEG")),
        415,
        "body",
        ["a JPEG picture", "animated AVIF"],
    ),
    "text": (lambda server: send(server, "video/webm", b"hello, world"), 415, "body", ["text"]),
    "two clips": (
        lambda server: send_form(server, ("video", PNG, "a"), ("video", PNG, "b")),
        422,
        "video",
        ["2 clips", "one"],
    ),
    "a clip and a picture": (
        lambda server: send_form(server, ("video", PNG, "a"), ("image", PNG, "b")),
        422,
        "form.image",
        ["clips and pictures"],
    ),
    "a clip as a picture": (
        lambda server: send_form(server, ("image", PNG, "a")),
        422,
        "image[0]",
        ["has 4 frames", "a still picture"],
    ),
    "both in json": (
        lambda server: send_json(server, {"video": text(PNG), "images": [text(PNG)]}),
        422,
        "body.images",
        ["exactly one of video, image, images"],
    ),
    "a number as a clip": (lambda server: send_json(server, {"video": 7}), 422, "body.video", ["base64 of a clip"]),
    "no base64": (lambda server: send_json(server, {"video": "?"}), 422, "body.video", ["not base64"]),
    "an unknown field": (lambda server: send_json(server, {"vidoe": ""}), 422, "body.vidoe", ["'video'"]),
    "a sound": (lambda server: send_form(server, ("sound", b"RIFF", "a")), 422, "form.sound", ["video"]),
    "too many pictures": (
        lambda server: send_json(server, {"images": [[[0] * 8] * 8] * 51}),
        413,
        "images",
        ["51 frames", "50"],
    ),
    "too long": (
        lambda server: send(server, "image/gif", moving("GIF", (10, 90), 2000)),
        413,
        "body",
        ["lasts 4.000 s, which are 100 frames at 25 a second", "50"],
    ),
    "too many frames": (
        lambda server: send(server, "image/gif", moving("GIF", (10, 90) * 501, 10)),
        413,
        "body",
        ["more than 1000 frames"],
    ),
    "too many pixels": (
        lambda server: send(server, "image/webp", moving("WEBP", (10, 90), 40, size=(1001, 1000))),
        413,
        "body",
        ["1001x1000"],
    ),
    "another model": (lambda server: send(server, "image/png", PNG, "model=nobody"), 404, "model", ["nobody"]),
    "html": (lambda server: send(server, "image/png", PNG, accept="text/html"), 406, "header.accept", ["text/vtt"]),
}


@pytest.mark.parametrize(("ask", "status", "subject", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_named(
    watchers: LiveServer, ask: Callable[[LiveServer], Reply], status: int, subject: str, words: list[str]
) -> None:
    ask(watchers).assert_refused(status, subject, words)


@pytest.mark.parametrize("kind", ["avif", "webp", "gif", "png"])
def test_hostile_clips_are_refused_and_the_next_request_is_answered(watchers: LiveServer, kind: str) -> None:
    clip = moving(kind.upper(), (128, 28, 228, 128), 40)
    for hostile in (clip[:20], clip[: len(clip) // 2], clip[:-30], clip[:40] + bytes(len(clip) - 40), clip[:40] * 50):
        answer = send(watchers, f"image/{kind}", hostile)
        assert answer.status in (200, 413, 415, 422), answer.body  # 200 where only the end is missing
        if answer.status != 200:
            answer.problem(answer.status)
    check(send(watchers, "image/png", PNG).json(), came=4)


# Where it is described.


def test_its_examples_in_the_document_answer_200(watchers: LiveServer) -> None:
    document = watchers.get("/openapi.json").json()
    operation = document["paths"][PATH]["post"]
    assert "409" in operation["responses"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    assert len(examples) == 4
    for example in examples.values():
        assert send_json(watchers, example["value"]).status == 200


def test_the_document_allows_as_many_frames_as_the_model_takes(watchers: LiveServer) -> None:
    document = watchers.get("/openapi.json").json()
    form = document["paths"][PATH]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    body = document["components"]["schemas"]["LabelFramesRequest"]
    assert (body["properties"]["images"]["maxItems"], form["properties"]["image"]["maxItems"]) == (50, 50)
    frames = [[[0] * 8] * 8] * 51
    assert send_json(watchers, {"images": frames[:50]}).status == 200
    assert send_json(watchers, {"images": frames}).status == 413


def test_the_landing_page_has_its_commands(watchers: LiveServer) -> None:
    page = watchers.get("/").body.decode()
    assert "Label the frames of clips" in page
    assert "curl -F video=@clip.avif" in page
    assert watchers.get("/health/ready").json()["defaults"] == {"label-frames": "watcher"}
