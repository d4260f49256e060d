"""POST /v1/caption, as a client sees it: shades of cells in the order of reading, their probabilities, refusals."""

from __future__ import annotations

import io
import itertools
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.codecs.npy import encode_npy
from app.tasks.caption.schema import CaptionAnswer
from tests.app.live import LiveServer, Reply
from tests.app.texts import LEVELS, SHADES, SHARP

PATH = "/v1/caption"


def scene(*levels: float) -> NDArray[np.uint8]:
    """Four cells of these grey levels, row by row: (4, 4)."""
    cells = np.array(levels, np.uint8).reshape(2, 2)
    return cells.repeat(2, axis=0).repeat(2, axis=1)


def post(server: LiveServer, body: Any, *, kind: str = "application/json", accept: str = "application/json") -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.ask("POST", PATH, data, {"Content-Type": kind, "Accept": accept})


def log_p(level: float) -> NDArray[np.float64]:
    """Log probabilities of the shades for a cell of that grey level, by the definition of the namer."""
    logits = -SHARP * (level - np.array(LEVELS)) ** 2
    found: NDArray[np.float64] = logits - np.log(np.exp(logits).sum())
    return found


MIXED = (20, 255, 100, 160)


def test_a_picture_is_described_with_where_the_model_looked_for_each_word(writers: LiveServer) -> None:
    answer = post(writers, {"image": scene(*MIXED).tolist()}).json()
    CaptionAnswer.model_validate(answer, strict=True)
    assert answer["model"] == "namer"
    (result,) = answer["results"]
    assert (result["text"], result["finish"]) == ("black white dark light", "end")
    best = [log_p(level).max() for level in MIXED]
    assert [one["text"] for one in result["words"]] == ["black", "white", "dark", "light"]
    assert [one["probability"] for one in result["words"]] == pytest.approx(np.exp(best), abs=1e-4)
    looked = np.array([one["attention"] for one in result["words"]])
    np.testing.assert_array_equal(looked, np.eye(4).reshape(4, 2, 2))
    assert result["log_probability"] == pytest.approx(sum(best), abs=1e-3)


def test_evidence_is_what_the_picture_adds_to_a_blank_one(writers: LiveServer) -> None:
    (result,) = post(writers, {"image": scene(*MIXED).tolist()}).json()["results"]
    of_blank = sum(log_p(0)[SHADES.index(word)] for word in result["text"].split())
    assert result["evidence"] == pytest.approx(sum(log_p(level).max() for level in MIXED) - of_blank, abs=1e-2)
    (blank,) = post(writers, {"image": scene(0, 0, 0, 0).tolist()}).json()["results"]
    assert blank["evidence"] == pytest.approx(0, abs=1e-3)


def test_a_beam_finds_the_likeliest_captions_of_all(writers: LiveServer) -> None:
    (result,) = post(writers, {"image": scene(*MIXED).tolist(), "beam": 5, "n_best": 4}).json()["results"]
    of_cells = [log_p(level) for level in MIXED]
    every = itertools.product(range(4), repeat=4)
    want = sorted(((sum(p[k] for p, k in zip(of_cells, ks, strict=True)), ks) for ks in every), reverse=True)[:4]
    found = [result, *result["alternatives"]]
    assert [one["text"] for one in found] == [" ".join(SHADES[k] for k in ks) for _, ks in want]
    assert [one["log_probability"] for one in found] == pytest.approx([p for p, _ in want], abs=1e-3)


def test_several_pictures_are_each_described_as_alone(writers: LiveServer) -> None:
    scenes = [scene(*MIXED), scene(255, 255, 0, 0), scene(90, 80, 70, 60)]
    rows = encode_npy(np.stack(scenes)[..., None])
    several = post(writers, rows, kind="application/x-npy").json()["results"]
    assert several == [post(writers, {"image": one.tolist()}).json()["results"][0] for one in scenes]


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_caption_of_at_most_so_many_words_is_answered_as_these_words(writers: LiveServer, most: int) -> None:
    (result,) = post(writers, {"image": scene(*MIXED).tolist(), "max_words": most}).json()["results"]
    assert (result["text"], result["finish"]) == (" ".join(["black", "white", "dark"][:most]), "length")
    best = sum(log_p(level).max() for level in MIXED[:most])
    assert [one["text"] for one in result["words"]] == result["text"].split()
    assert result["log_probability"] == pytest.approx(best, abs=1e-3)
    assert result["log_probability"] == pytest.approx(
        sum(np.log(one["probability"]) for one in result["words"]), abs=1e-3
    )
    of_blank = sum(log_p(0)[SHADES.index(word)] for word in result["text"].split())
    assert result["evidence"] == pytest.approx(best - of_blank, abs=1e-2)


@pytest.mark.parametrize("most", [1, 2])
def test_captions_of_at_most_so_many_words_are_the_likeliest_ones_and_each_is_another(
    writers: LiveServer, most: int
) -> None:
    n = 4 if most == 1 else 5
    body = {"image": scene(100, 140, 60, 200).tolist(), "max_words": most, "n_best": n, "beam": 5}
    (result,) = post(writers, body).json()["results"]
    of_cells = [log_p(level) for level in (100, 140)[:most]]
    every = itertools.product(range(4), repeat=most)
    want = sorted(((sum(p[k] for p, k in zip(of_cells, ks, strict=True)), ks) for ks in every), reverse=True)[:n]
    found = [result, *result["alternatives"]]
    assert [one["text"] for one in found] == [" ".join(SHADES[k] for k in ks) for _, ks in want]
    assert [one["log_probability"] for one in found] == pytest.approx([p for p, _ in want], abs=1e-3)
    assert {one["finish"] for one in found} == {"length"}


@pytest.mark.parametrize("most", [4, 5])
def test_a_caption_that_ends_within_its_words_is_not_cut(writers: LiveServer, most: int) -> None:
    body = {"image": scene(*MIXED).tolist()}
    assert post(writers, body | {"max_words": most}).json() == post(writers, body).json()


def test_other_forms_of_a_caption_of_at_most_so_many_words_have_these_words(writers: LiveServer) -> None:
    body = {"image": scene(*MIXED).tolist(), "max_words": 1}
    assert post(writers, body, accept="text/plain").body == b"black\n"
    assert Image.open(io.BytesIO(post(writers, body, accept="image/png").body)).size == (112, 112 + 16)  # one panel
    blocks = post(writers, body, accept="text/event-stream").body.decode().strip().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["event: token", "event: final"]
    final = json.loads(blocks[-1].splitlines()[1].removeprefix("data: "))
    assert final == post(writers, body).json()
    assert json.loads(blocks[0].splitlines()[1].removeprefix("data: "))["text"] == "black"


def test_a_word_of_several_tokens_is_written_to_its_end(writers: LiveServer) -> None:
    body = {"image": scene(0, 85, 255, 85).tolist(), "model": "parts"}
    (whole,) = post(writers, body).json()["results"]
    assert [one["text"] for one in whole["words"]] == ["darkish", "lightish"]
    (cut,) = post(writers, body | {"max_words": 1}).json()["results"]
    assert (cut["text"], cut["finish"], cut["words"]) == ("darkish", "length", whole["words"][:1])
    assert cut["log_probability"] == pytest.approx(log_p(0).max() + log_p(85).max(), abs=1e-3)
    blocks = post(writers, body | {"max_words": 1}, accept="text/event-stream").body.decode().strip().split("\n\n")
    pieces = [json.loads(block.splitlines()[1].removeprefix("data: "))["text"] for block in blocks[:-1]]
    assert pieces == ["dark", "ish"]


def test_texts_that_other_tokens_write_alike_are_answered_once(writers: LiveServer) -> None:
    body = {"image": scene(0, 120, 255, 130).tolist(), "model": "parts", "beam": 5, "n_best": 5}
    (result,) = post(writers, body).json()["results"]
    texts = [one["text"] for one in (result, *result["alternatives"])]
    assert texts[0] == "darkish lightish"
    assert len(set(texts)) == len(texts) < 5


def test_as_plain_text_each_caption_is_a_line(writers: LiveServer) -> None:
    scenes = [scene(*MIXED).tolist(), scene(0, 0, 0, 0).tolist()]
    reply = post(writers, {"images": scenes}, accept="text/plain")
    assert reply.body.decode() == "black white dark light\nblack black black black\n"


def test_a_picture_has_a_panel_for_each_word_that_is_light_where_the_model_looked(writers: LiveServer) -> None:
    reply = post(writers, {"image": scene(255, 255, 255, 255).tolist()}, accept="image/png")
    page = np.asarray(Image.open(io.BytesIO(reply.body)).convert("RGB")).astype(int)
    side, gap, line = 112, 2, 16
    assert page.shape == (2 * side + 2 * line + gap, 3 * side + 2 * gap, 3)
    for panel in range(4):
        top, left = panel // 3 * (side + line + gap), panel % 3 * (side + gap)
        corners = [page[top + y, left + x].mean() for y in (10, side - 10) for x in (10, side - 10)]
        assert int(np.argmax(corners)) == panel
        assert max(corners) > 240 > 100 > sorted(corners)[-2]
        assert page[top + side : top + side + line, left : left + side].min() < 100  # the word below
    several = post(writers, {"images": [scene(*MIXED).tolist()] * 2}, accept="image/png")
    assert Image.open(io.BytesIO(several.body)).size[1] > 2 * page.shape[0]


def test_a_stream_has_an_event_for_each_token_and_ends_with_the_plain_answer(writers: LiveServer) -> None:
    body = {"image": scene(*MIXED).tolist()}
    blocks = post(writers, body, accept="text/event-stream").body.decode().strip().split("\n\n")
    events = [(a.removeprefix("event: "), json.loads(b.removeprefix("data: "))) for a, b in map(str.splitlines, blocks)]
    assert [name for name, _ in events] == ["token"] * 4 + ["final"]
    assert events[-1][1] == post(writers, body).json()
    assert "".join(data["text"] for _, data in events[:-1]) == "black white dark light"
    np.testing.assert_array_equal([data["attention"] for _, data in events[:-1]], np.eye(4))


@pytest.mark.parametrize(
    ("body", "accept", "status", "words"),
    [
        ({"image": [[0] * 4] * 4, "max_words": 7}, "application/json", 422, ["max_words", "1 to 6"]),
        ({"image": [[0] * 4] * 4, "beam": 6}, "application/json", 422, ["beam", "1 to 5"]),
        ({"image": [[0] * 4] * 4, "beam": 2}, "text/event-stream", 422, ["beam is 2"]),
        ({"image": [[0] * 4] * 4, "n_best": 2}, "text/plain", 422, ["no n_best", "has the best text alone"]),
        ({"image": [[0] * 4] * 4, "n_best": 2}, "image/png", 422, ["no n_best", "has the best text alone"]),
        ({"images": [[[0] * 4] * 4] * 2}, "text/event-stream", 422, ["2 pictures", "at most 1"]),
        ({"images": [[[0] * 4] * 4] * 17}, "image/png", 422, ["17 pictures", "at most 16"]),
        ({"images": [[[0] * 4] * 4] * 5, "beam": 5}, "application/json", 413, ["5 inputs with a beam of 5"]),
        ({"images": [[[0] * 4] * 4] * 21}, "application/json", 413, ["21 pictures"]),
        ({"image": [[0] * 4] * 4, "model": "shades"}, "application/json", 422, ["made to classify, not to caption"]),
        ({"image": "text"}, "application/json", 415, []),
    ],
)
def test_what_cannot_be_described_is_refused(
    writers: LiveServer, body: Any, accept: str, status: int, words: list[str]
) -> None:
    post(writers, body, accept=accept).assert_refused(status, None, words)
