"""What counts as the same answer of two builds, what as another one, and what as the same in other words."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest

from tests.bench.differences import ABSENT, Answer, Difference, differences
from tests.bench.processes import ROOT
from tests.bench.recorded import npy, picture, text
from tests.bench.same import Compared, requests, words

JSON, PNG, EVENTS = "application/json", "image/png", "text/event-stream; charset=utf-8"


def answer(body: bytes | object, kind: str = JSON, status: int = 200, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, list({"content-type": kind, "content-length": str(len(data)), **named}.items()), data)


def unlike(before: Answer, now: Answer, *, named: bool = True) -> list[tuple[str, str, str, bool]]:
    return [(d.place, d.before, d.now, d.words) for d in differences(before, now, named=named)]


def test_a_status_a_header_and_a_value_are_told_by_their_places() -> None:
    before = answer({"results": [{"p": 0.5}, {"p": 1}]}, x_model="a/1")
    now = answer({"results": [{"p": 0.5}, {"p": 1.5}], "more": None}, status=201, x_device="cpu")
    assert unlike(before, before) == []
    assert unlike(before, now) == [
        ("status", "200", "201", False),
        ("header x-device", ABSENT, "cpu", False),
        ("header x-model", "a/1", ABSENT, False),
        ("body.results[1].p", "1", "1.5", False),
        ("body.more", ABSENT, "null", False),
    ]


def test_texts_for_people_are_words_and_others_are_values() -> None:
    before = answer(
        {"detail": "there is no body", "subject": "body", "type": "/errors/a"}, "application/problem+json", 422
    )
    now = answer(
        {"detail": "the body is empty", "subject": "image", "type": "/errors/a"}, "application/problem+json", 422
    )
    assert unlike(before, now) == [
        ("body.detail", "there is no body", "the body is empty", True),
        ("body.subject", "body", "image", False),
    ]
    page, other = answer(b"<h1>A</h1>\n<p>b", "text/html"), answer(b"<h1>A</h1>\n<p>c", "text/html")
    assert unlike(page, other) == [("body, line 2", "<p>b", "<p>c", True)]


def test_what_a_clock_decides_is_no_difference() -> None:
    before = answer(
        {"loaded_at": "today", "load_s": 0.25, "a": 1}, server_timing="decode;dur=0.2, rows;desc=1", date="x"
    )
    now = answer(
        {"loaded_at": "yesterday", "load_s": 11, "a": 1}, server_timing="decode;dur=9.25, rows;desc=1", date="y"
    )
    assert unlike(before, now) == []
    more = answer({"loaded_at": "yesterday", "load_s": 11, "a": 1}, server_timing="decode;dur=9.25, rows;desc=2")
    assert [place for place, *_ in unlike(before, more)] == ["header server-timing"]
    late = [answer({"error": f"about {ms} ms"}, status=503) for ms in (1.25, 99.5)]
    assert unlike(*late) == []


def test_an_id_of_the_servers_own_is_no_difference_one_that_was_asked_for_is() -> None:
    before = answer({"request_id": "a1", "n": 1}, x_request_id="a1")
    now = answer({"request_id": "b2", "n": 1}, x_request_id="b2")
    assert unlike(before, now, named=False) == []
    assert [place for place, *_ in unlike(before, now)] == ["header x-request-id", "body.request_id"]


def stream(steps: dict[int, str], result: object) -> Answer:
    said = [("step", {"step": step, "left_s": 0.1 * step, "preview": seen}) for step, seen in steps.items()]
    lines = [f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in [*said, ("result", result)]]
    return Answer(200, [("content-type", EVENTS)], (": waiting\n\n" + "".join(lines)).encode())


def test_of_a_stream_the_events_are_compared_that_both_have_sent() -> None:
    whole = stream({1: "a", 2: "b", 3: "c"}, {"image": "x"})
    assert unlike(whole, stream({3: "c"}, {"image": "x"})) == []
    assert unlike(whole, stream({1: "a", 3: "d"}, {"image": "y"})) == [
        ("body.step 3.preview", "c", "d", False),
        ("body.result.image", "x", "y", False),
    ]
    assert unlike(whole, Answer(200, whole.headers, whole.body.partition(b"event: result")[0])) == [
        ("body.result", '{"image": "x"}', ABSENT, False)
    ]


@pytest.mark.parametrize("zipped", [False, True])
def test_the_bytes_of_the_same_values_are_a_difference(zipped: bool) -> None:
    texts = [b'{"a": 1, "b": 2}', b'{"b": 2, "a": 1}']
    kept: dict[str, Any] = {"content_encoding": "gzip"} if zipped else {}
    before, now = (answer(gzip.compress(body) if zipped else body, **kept, content_length="0") for body in texts)
    assert [place for place, *_ in unlike(before, now)] == ["body, the bytes of the same values"]
    other = answer(gzip.compress(texts[0], 1), content_encoding="gzip", content_length="0")
    if zipped:
        assert [place for place, *_ in unlike(before, other)] == ["body, how it is compressed"]


def test_arrays_and_pictures_are_told_by_how_far_they_are_apart() -> None:
    dark, light = np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)
    light[2, 3] = 7
    told = ", 1 of 20 values by up to 7, the first at [2, 3]"
    for kind, make in ((PNG, picture), ("application/x-npy", npy)):
        before, now = (answer(make(rows), kind, content_length="0") for rows in (dark, light))
        assert unlike(before, now) == [(f"body{told}", "0", "7", False)]
    before, now = (answer({"image": text(picture(rows))}, content_length="0") for rows in (dark, light))
    assert unlike(before, now) == [(f"body.image{told}", "0", "7", False)]


def test_of_figures_those_that_count_are_compared_with_their_values() -> None:
    page = '# HELP lectern_requests_total {}\nlectern_requests_total{{path="/a"}} {}\nlectern_seconds_sum {}\n'
    before, now = (
        answer(page.format(*said).encode(), "text/plain; version=1.0.0", content_length="0")
        for said in (("Requests.", 3.0, 0.25), ("All requests.", 4.0, 0.5))
    )
    assert unlike(before, now) == [
        ("body.lectern_requests_total.help", "Requests.", "All requests.", True),
        ('body.lectern_requests_total{path="/a"}', "3.0", "4.0", False),
    ]


def test_a_long_text_is_shown_around_what_differs() -> None:
    before, now = ("so " * 100 + word + " on" * 100 for word in ("it goes", "we go"))
    ((_, old, new, _),) = unlike(answer({"summary": before}), answer({"summary": now}))
    assert "it goes on" in old
    assert "we go on" in new
    assert max(len(old), len(new)) < 170


def test_a_change_of_words_is_listed_once_with_all_its_places() -> None:
    asked = requests(ROOT / "models")[:2]
    change = Difference("body.detail", "told", "said", words=True)
    compared = [Compared(i, request, 200, [change]) for i, request in enumerate(asked, 1)]
    assert list(words(compared)) == [("told", "said")]
    assert len(words(compared)["told", "said"]) == 2


def test_the_requests_are_the_same_at_every_call_and_ask_every_task() -> None:
    asked = requests(ROOT / "models")
    assert asked == requests(ROOT / "models")
    good = {request.path.partition("?")[0] for request in asked if request.status == 200}
    assert {
        f"/v1/{task}" for task in ("classify", "regress", "reconstruct", "generate", "denoise", "translate")
    } <= good
    assert {404, 405, 406, 413, 415, 422, 503, 504} <= {request.status for request in asked}
