"""POST /v1/classify with texts, as a client sees it: known labels, what each word adds, and what is refused."""

from __future__ import annotations

import json
from math import exp
from typing import Any

import numpy as np
import pytest

from app.codecs.npy import encode_npy
from app.tasks.classify.schema import ClassifyAnswer
from tests.app.live import LiveServer, Reply
from tests.app.texts import SPECIAL, WEIGHTS
from tests.made_models import grey_of

PATH = "/v1/classify"


def post(server: LiveServer, body: Any, *, kind: str = "application/json", accept: str = "*/*") -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.ask("POST", PATH, data, {"Content-Type": kind, "Accept": accept})


def good(text: str) -> float:
    """The probability of "good", by the words' weights."""
    return 1 / (1 + exp(-sum(WEIGHTS.get(word, 0.0) for word in text.lower().split())))


def test_a_text_is_labelled_by_its_words(writers: LiveServer) -> None:
    answer = post(writers, {"text": "A good film"}).json()
    ClassifyAnswer.model_validate(answer, strict=True)
    (result,) = answer["results"]
    assert (answer["model"], result["label"], result["unknown"], result["truncated"]) == ("teller", "good", [], False)
    assert result["probability"] == pytest.approx(good("a good film"), abs=1e-6)


def test_texts_of_different_length_are_each_labelled_as_alone(writers: LiveServer) -> None:
    texts = ["bad", "not a bad film film film", "a fine fine fine fine film", "film"]
    several = post(writers, {"text": texts}).json()["results"]
    assert [one["probabilities"]["good"] for one in several] == pytest.approx([good(text) for text in texts], abs=1e-6)
    alone = [post(writers, {"text": text}).json()["results"][0] for text in texts]
    assert several == alone


@pytest.mark.parametrize("special", SPECIAL)
def test_a_special_token_in_a_text_is_an_unknown_word(writers: LiveServer, special: str) -> None:
    answer = post(writers, {"text": [f"a bad film {special}", f"{special} a bad film", "a bad film"]}).json()
    assert [one["probabilities"]["good"] for one in answer["results"]] == pytest.approx([good("a bad film")] * 3)
    assert [one["unknown"] for one in answer["results"]] == [[special.strip("</>")], [special.strip("</>")], []]


@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=utf-8"])
def test_a_plain_text_is_the_body(writers: LiveServer, kind: str) -> None:
    answer = post(writers, "a good film, caf\u00e9".encode(), kind=kind).json()
    assert answer["results"][0]["unknown"] == ["caf\u00e9"]
    assert answer["results"] == post(writers, {"text": "a good film, caf\u00e9"}).json()["results"]


def test_a_column_of_texts_is_answered_line_by_line(writers: LiveServer) -> None:
    rows = b'id,Text\r\n1,"a good film"\r\n2,"a bad, bad film"\r\n'
    answer = post(writers, rows, kind="text/csv").json()
    assert [one["label"] for one in answer["results"]] == ["good", "bad"]
    lines = post(writers, rows, kind="text/csv", accept="text/csv").body.decode().splitlines()
    assert lines[0] == "label,probability of bad,probability of good,unknown,truncated"
    assert [line.split(",")[0] for line in lines[1:]] == ["good", "bad"]
    assert lines[1].endswith(",,false")


def test_each_words_weight_is_what_its_label_loses_without_it(writers: LiveServer) -> None:
    text = "not a good film"
    (result,) = post(writers, {"text": text, "explain": True}).json()["results"]
    assert result["label"] == "good"
    words = text.split()
    want = [good(text) - good(" ".join(words[:i] + words[i + 1 :])) for i in range(4)]
    assert [one["text"] for one in result["words"]] == words
    assert [one["weight"] for one in result["words"]] == pytest.approx(want, abs=1e-6)
    assert [text[one["start"] : one["end"]] for one in result["words"]] == words
    assert result["probability"] == pytest.approx(good(text), abs=1e-6)


def test_the_only_word_of_a_text_is_weighed_against_an_unknown_one(writers: LiveServer) -> None:
    (result,) = post(writers, {"text": "good", "explain": True}).json()["results"]
    assert result["words"][0]["weight"] == pytest.approx(good("good") - 0.5, abs=1e-6)


def test_a_long_text_is_cut_and_says_so(writers: LiveServer) -> None:
    (result,) = post(writers, {"text": "a " * 16 + "good"}).json()["results"]
    assert result["truncated"]
    assert result["probabilities"]["good"] == pytest.approx(0.5)


def test_pictures_are_still_labelled_beside_texts(writers: LiveServer) -> None:
    image = [[grey_of(2, 3)] * 28 for _ in range(28)]
    assert post(writers, {"image": image}).json()["model"] == "shades"


@pytest.mark.parametrize(
    ("body", "status", "subject", "words"),
    [
        ({"text": ""}, 422, "body.text", ["no text"]),
        ({"text": " \n"}, 422, "body.text", ["say nothing"]),
        ({"text": []}, 422, "body.text", ["one text or more"]),
        ({"text": None}, 422, "body.text", ["null", "a text"]),
        ({"text": 7}, 422, "body.text", ["7", "a text"]),
        ({"text": ["good", ["bad"]]}, 422, "body.text[1]", ["a list of 1", "a text"]),
        ({"text": "a\u0000b"}, 422, "body.text[1]", ["a control character, U+0000"]),
        ({"text": "x" * 201}, 413, "body.text", ["201 characters", "200"]),
        ({"text": "x" * 1_000_000}, 413, "body.text", ["1000000 characters", "200"]),
        ({"text": ["good"] * 10_000}, 413, None, ["10000 texts", "at most 20"]),
        ({"text": "good", "image": "x"}, 422, "body.text", ["image and text"]),
        ({"text": "good", "model": "shades"}, 422, "body.text", ["takes pictures", "not texts"]),
        ({"image": "x", "model": "teller"}, 422, "body.image", ["takes texts, as JSON under 'text'", "not pictures"]),
        ({"image": "x", "explain": True}, 422, "explain", ["weighs words", "shades"]),
        ({"text": "a " * 20, "explain": True}, 413, "explain", ["20 words", "at most 19"]),
        (b'{"text": "\\ud800"}', 422, "body", ["not JSON"]),
        (b'{"text": "\xff"}', 422, "body", ["not JSON"]),
    ],
)  # fmt: skip
def test_what_cannot_be_labelled_is_refused_by_name(
    writers: LiveServer, body: Any, status: int, subject: str | None, words: list[str]
) -> None:
    post(writers, body).assert_refused(status, subject, words)


@pytest.mark.parametrize("accept", ["text/csv", "application/x-npy"])
def test_weights_of_words_have_no_place_in_rows_of_probabilities(writers: LiveServer, accept: str) -> None:
    body = {"text": "a good film", "explain": True}
    post(writers, body, accept=accept).assert_refused(422, "explain", ["no explain", accept])
    assert post(writers, body | {"explain": False}, accept=accept).status == 200


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"\xff\xfe", "text/plain", 422, ["not UTF-8", "byte 0xff at 0"]),
        (b"good", "text/plain; charset=utf-16", 415, ["charset 'utf-16'"]),
        (b"", "text/plain", 422, ["no body"]),
        (b"text,text\ngood,bad\n", "text/csv", 422, ["one column 'text'"]),
        (b"text\n", "text/csv", 422, ["no rows"]),
        (b"text\n" + b"good\n" * 21, "text/csv", 413, ["more than 20 rows"]),
        (b"a,b\n1,2\n", "text/csv", 404, ["classify with table input"]),
    ],
)
def test_plain_texts_and_columns_that_are_none_are_refused(
    writers: LiveServer, body: bytes, kind: str, status: int, words: list[str]
) -> None:
    post(writers, body, kind=kind).assert_refused(status, None, words)


@pytest.mark.parametrize("rows", [np.zeros((2, 4), np.float32), np.zeros((2, 4), np.int64), np.zeros((0, 3), np.uint8)])
def test_rows_of_numbers_are_no_texts(writers: LiveServer, rows: np.ndarray[Any, Any]) -> None:
    body, kind = encode_npy(rows), {"Content-Type": "application/x-npy"}
    details = writers.ask("POST", f"{PATH}?model=teller", body, kind).problem(415)
    assert (details["subject"], details["got"]) == ("body", "rows as application/x-npy")
    assert details["detail"].startswith("model 'teller' takes texts")
