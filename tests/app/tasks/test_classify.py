"""POST /v1/classify, as a client sees it: every form of request and of answer, against known answers."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from tests.app.live import DIGITS, SHADES, LiveServer, Reply, grey, strokes
from tests.made_models import brightness_probabilities

LEVEL = 170
PICTURE = grey(LEVEL)
PNG = encode_png(PICTURE)
KNOWN = brightness_probabilities(PICTURE[None], len(SHADES))[0]

FORMS: dict[str, Callable[[LiveServer], Reply]] = {
    "raw png": lambda server: server.send("image/png", PNG),
    "raw png with a parameter and capitals": lambda server: server.send("Image/PNG; charset=binary", PNG),
    "a png that says it is a jpeg": lambda server: server.send("image/jpeg", PNG),
    "raw bmp": lambda server: server.send("image/bmp", saved("BMP")),
    "raw tiff": lambda server: server.send("image/tiff", saved("TIFF")),
    "raw gif": lambda server: server.send("image/gif", saved("GIF")),
    "raw webp": lambda server: server.send("image/webp", saved("WEBP", lossless=True)),
    "raw avif": lambda server: server.send("image/avif", saved("AVIF", quality=100)),
    "a file of a form": lambda server: server.send_form(("image", PNG, "a.png")),
    "a form's file with no known ending": lambda server: server.send_form(("images", PNG, "picture")),
    "base64": lambda server: server.send_json({"image": text(PNG)}),
    "a data URL": lambda server: server.send_json({"image": "data:image/png;base64," + text(PNG)}),
    "nested pixels": lambda server: server.send_json({"image": PICTURE.tolist()}),
    "a list of one": lambda server: server.send_json({"images": [PICTURE.tolist()]}),
    "npy rows": lambda server: server.send("application/x-npy", encode_npy(PICTURE[None])),
}


def saved(form: str, **options: bool) -> bytes:
    out = io.BytesIO()
    Image.fromarray(PICTURE).save(out, form, **options)
    return out.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("ask", FORMS.values(), ids=FORMS.keys())
def test_the_same_picture_gets_the_same_answer_in_every_form(
    server: LiveServer, ask: Callable[[LiveServer], Reply]
) -> None:
    reply = ask(server)
    assert reply.status == 200, reply.body
    answer = reply.json()
    assert (answer["model"], answer["version"], answer["device"]) == ("shades", "1", "cpu")
    (result,) = answer["results"]
    assert list(result["probabilities"]) == list(SHADES)
    np.testing.assert_allclose(list(result["probabilities"].values()), KNOWN, atol=1e-5)
    best = int(KNOWN.argmax())
    assert (result["label"], result["index"]) == (SHADES[best], best)
    assert result["top_k"][0] == {key: result[key] for key in ("label", "index", "probability")}
    assert [score["index"] for score in result["top_k"]] == np.argsort(-KNOWN, kind="stable")[:5].tolist()


def test_several_pictures_are_answered_in_their_order(server: LiveServer) -> None:
    levels = [13, 242, 115]
    pngs = [encode_png(grey(level)) for level in levels]
    want = [int(brightness_probabilities(grey(level)[None], 10)[0].argmax()) for level in levels]
    assert len(set(want)) == 3
    by_form = server.send_form(*(("image", png, f"{i}.png") for i, png in enumerate(pngs)))
    by_json = server.send_json({"images": [text(png) for png in pngs]})
    by_rows = server.send("application/x-npy", encode_npy(np.stack([grey(level) for level in levels])))
    for reply in (by_form, by_json, by_rows):
        assert [result["index"] for result in reply.json()["results"]] == want


def test_more_rows_than_one_run_takes_are_split_and_joined(server: LiveServer) -> None:
    levels = np.linspace(0, 255, 20).astype(np.uint8)  # the model runs 8 at a time
    rows = np.stack([grey(int(level)) for level in levels])
    reply = server.send("application/x-npy", encode_npy(rows), accept="application/x-npy")
    got = np.load(io.BytesIO(reply.body))
    assert (got.dtype, got.shape) == (np.float32, (20, 10))
    np.testing.assert_allclose(got, brightness_probabilities(rows, 10), atol=1e-4)


def test_a_digit_is_classified_by_the_model_that_is_named(server: LiveServer) -> None:
    rows = strokes()
    for version, labels in (("1", ("paper", "ink")), ("2", DIGITS)):
        known = brightness_probabilities(rows, len(labels))
        reply = server.send("application/x-npy", encode_npy(rows), f"model=digits&version={version}")
        answer = reply.json()
        assert (answer["model"], answer["version"]) == ("digits", version)
        assert [result["label"] for result in answer["results"]] == [labels[k] for k in known.argmax(axis=1)]


def test_the_latest_version_answers_where_none_is_named(server: LiveServer) -> None:
    assert server.send("application/x-npy", encode_npy(strokes()), "model=digits").json()["version"] == "2"


def test_options_are_taken_from_the_query_from_json_and_from_a_form(server: LiveServer) -> None:
    pixels = strokes()[0, :, :, 0].tolist()
    png = encode_png(strokes()[0])
    replies = [
        server.send_json({"image": pixels}, "model=digits&version=1&top_k=1"),
        server.send_json({"image": pixels, "model": "digits", "version": "1", "top_k": 1}),
        server.send_json({"image": pixels, "model": "digits", "version": None}, "version=1&top_k=1"),
        server.send_form(("model", b"digits"), ("image", png, "a.png"), ("version", b"1"), ("top_k", b"1")),
    ]
    for reply in replies:
        assert reply.status == 200, reply.body
        answer = reply.json()
        assert (answer["model"], answer["version"]) == ("digits", "1")
        assert len(answer["results"][0]["top_k"]) == 1


@pytest.mark.parametrize("top_k", [1, 3, 10])
def test_top_k_lists_that_many_labels_best_first(server: LiveServer, top_k: int) -> None:
    scores = server.send("image/png", PNG, f"top_k={top_k}").json()["results"][0]["top_k"]
    assert len(scores) == top_k
    values = [score["probability"] for score in scores]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("application/*", "application/json"),
        ("text/html, application/x-npy;q=0.5, */*;q=0.1", "application/x-npy"),
        ("application/x-npy", "application/x-npy"),
        ("application/json;q=0.2, application/x-npy;q=0.3", "application/x-npy"),
        ("application/json;q=0, */*", "application/x-npy"),
    ],
)
def test_accept_chooses_the_form_of_the_answer(server: LiveServer, accept: str, kind: str) -> None:
    reply = server.send("image/png", PNG, accept=accept)
    assert (reply.status, reply.header("content-type")) == (200, kind)


def test_the_answer_tells_where_the_time_went_and_who_answered(server: LiveServer) -> None:
    reply = server.send("image/png", PNG)
    metric = r"[a-z]+(;dur=[0-9]+\.[0-9]+|;desc=\"batch of [0-9]+\")"
    timing = reply.header("server-timing") or ""
    assert re.fullmatch(rf"{metric}(, {metric})*", timing)
    assert [part.split(";")[0] for part in timing.split(", ")] == ["decode", "queue", "run", "rows"]
    assert reply.header("x-model") == "shades/1"
    assert reply.header("x-device") == "cpu"


def test_a_large_photo_is_read_too(server: LiveServer) -> None:
    out = io.BytesIO()
    Image.fromarray(np.full((1500, 2000, 3), LEVEL, np.uint8)).save(out, "JPEG", quality=95)
    result = server.send("image/jpeg", out.getvalue()).json()["results"][0]
    assert result["index"] == int(KNOWN.argmax())


def test_pixels_need_not_be_as_many_as_the_bytes(server: LiveServer) -> None:
    png = encode_png(np.full((600, 800, 3), LEVEL, np.uint8))
    assert len(png) < 32 << 10 < 600 * 800
    assert server.send("image/png", png).json()["results"][0]["index"] == int(KNOWN.argmax())


def test_requests_at_once_get_each_their_own_answer(server: LiveServer) -> None:
    levels = [int(level) for level in np.linspace(0, 255, 40)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda level: server.send("image/png", encode_png(grey(level))), levels))
    got = [reply.json()["results"][0]["index"] for reply in replies]
    assert got == [int(brightness_probabilities(grey(level)[None], 10)[0].argmax()) for level in levels]
