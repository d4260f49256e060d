"""POST /v1/reconstruct, as a client sees it: every form of request and of answer, against known answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.core.sampling.latents import SPREAD_OF_98
from app.tasks.reconstruct.schema import ReconstructAnswer
from tests.app.coders import (
    ERRORS,
    JSON,
    MOST,
    NPY,
    PNG,
    SIDE,
    Fault,
    answered,
    ask,
    banded,
    check_fault,
    images,
    levels_of,
    opened,
    rows_of,
    runs,
    striped,
    text,
)
from tests.app.live import LiveServer, Reply, form
from tests.made_models import HIGH, LOGVAR, LOW

PATH = "/v1/reconstruct"
PICTURE = banded(51, 204)
DATA = encode_png(PICTURE)

FORMS: dict[str, Callable[[LiveServer], Reply]] = {
    "raw png": lambda server: ask(server, PATH, DATA, kind=PNG),
    "a file of a form": lambda server: _form(server, ("image", DATA, "a.png")),
    "base64": lambda server: ask(server, PATH, {"image": text(DATA)}),
    "nested pixels": lambda server: ask(server, PATH, {"image": PICTURE.tolist()}),
    "a list of one": lambda server: ask(server, PATH, {"images": [text(DATA)]}),
    "npy rows": lambda server: ask(server, PATH, encode_npy(PICTURE[None]), kind=NPY),
}


def _form(server: LiveServer, *parts: tuple[str, bytes] | tuple[str, bytes, str], **headers: str) -> Reply:
    kind, body = form(*parts)
    return ask(server, PATH, body, kind=kind, **headers)


@pytest.mark.parametrize("send", FORMS.values(), ids=FORMS.keys())
def test_the_same_picture_gets_the_same_answer_in_every_form(
    coders: LiveServer, send: Callable[[LiveServer], Reply]
) -> None:
    answer = answered(send(coders))
    ReconstructAnswer.model_validate(answer, strict=True)
    assert (answer["model"], answer["version"], answer["device"]) == ("plain", "1", "cpu")
    (result,) = answer["results"]
    np.testing.assert_array_equal(opened(result["image"]), PICTURE)
    np.testing.assert_allclose(result["latent"], [0.2, 0.8], rtol=1e-6)
    assert result["error"]["mse"] < 1e-12
    assert "perturbed" not in result


def test_several_pictures_are_answered_in_their_order(coders: LiveServer) -> None:
    pictures = [banded(level, 255 - level) for level in (17, 34, 51)]
    pngs = [encode_png(picture) for picture in pictures]
    by_form = _form(coders, *(("image", png, f"{i}.png") for i, png in enumerate(pngs)))
    by_json = ask(coders, PATH, {"images": [text(png) for png in pngs]})
    by_rows = ask(coders, PATH, encode_npy(np.stack(pictures)), kind=NPY)
    for reply in (by_form, by_json, by_rows):
        np.testing.assert_array_equal(images(answered(reply)["results"]), np.stack(pictures))


def test_the_error_is_that_of_what_the_code_cannot_hold(coders: LiveServer) -> None:
    picture = striped()
    result = answered(ask(coders, PATH, encode_png(picture), kind=PNG))["results"][0]
    np.testing.assert_allclose(result["latent"], [0.5, 0], atol=1e-6)
    assert result["error"]["mse"] == pytest.approx(0.125, abs=1e-6)  # half of the picture, 0.5 away everywhere
    assert result["error"]["psnr_db"] == pytest.approx(10 * np.log10(8), abs=1e-3)


def test_a_perfect_reconstruction_has_no_psnr(coders: LiveServer) -> None:
    result = answered(ask(coders, PATH, encode_png(banded(0, 255)), kind=PNG))["results"][0]
    assert result["error"] == {"mse": 0.0, "psnr_db": None}


@pytest.mark.parametrize(
    ("picture", "at_least_as_bad"),
    [(banded(0, 255), 40), (striped(), 20), (np.maximum(striped(), striped()[::-1]), 0)],
    ids=["no error", "0.125", "0.25"],
)
def test_an_error_is_as_unusual_as_held_out_errors_say(coders: LiveServer, picture: Any, at_least_as_bad: int) -> None:
    result = answered(ask(coders, PATH, encode_png(picture), kind=PNG))["results"][0]
    assert sum(error >= result["error"]["mse"] for error in ERRORS) == at_least_as_bad
    assert result["anomaly"]["p_value"] == pytest.approx((1 + at_least_as_bad) / 41)
    assert result["anomaly"]["held_out_rows"] == 40


def test_a_model_without_held_out_errors_does_not_judge(coders: LiveServer) -> None:
    result = answered(ask(coders, PATH, DATA, "model=normal", kind=PNG))["results"][0]
    assert result["anomaly"] is None


def test_a_variational_model_tells_mean_and_variance_and_decodes_the_mean(coders: LiveServer) -> None:
    result = answered(ask(coders, PATH, DATA, "model=normal", kind=PNG))["results"][0]
    assert "latent" not in result
    np.testing.assert_allclose(result["mu"], [-1.2, 1.2], rtol=1e-6)
    assert result["logvar"] == [LOGVAR, LOGVAR]
    np.testing.assert_array_equal(opened(result["image"]), PICTURE)


def test_channels_come_last_in_the_answer_wherever_the_graph_has_them(coders: LiveServer) -> None:
    picture = banded(10, 60, 110, 160, 210)
    answer = answered(ask(coders, PATH, encode_png(picture), "model=five", kind=PNG))
    np.testing.assert_array_equal(images(answer["results"])[0], picture)
    assert answer["results"][0]["error"]["mse"] < 1e-12
    rows = rows_of(ask(coders, PATH, encode_png(picture), "model=five", kind=PNG, accept=NPY))
    np.testing.assert_allclose(rows[0], picture / 255, atol=1e-6)


def test_rows_are_the_reconstructions_before_rounding(coders: LiveServer) -> None:
    pictures = np.stack([striped(), banded(0, 51)])
    rows = rows_of(ask(coders, PATH, encode_npy(pictures), kind=NPY, accept=NPY))
    assert (rows.dtype, rows.shape) == (np.float32, (2, SIDE, SIDE, 3))
    np.testing.assert_allclose(rows[0, 0], 0.5, atol=1e-6)
    np.testing.assert_allclose(rows[1, -1], 0.2, atol=1e-6)


def test_one_picture_comes_back_as_itself_and_several_as_a_grid(coders: LiveServer) -> None:
    reply = ask(coders, PATH, DATA, kind=PNG, accept=PNG)
    assert (reply.status, reply.header("content-type")) == (200, PNG)
    np.testing.assert_array_equal(opened(reply.body), PICTURE)
    pictures = np.stack([banded(level, level) for level in (0, 51, 102)])
    page = opened(ask(coders, PATH, encode_npy(pictures), kind=NPY, accept=PNG).body)
    assert page.shape == (2 * SIDE + 2, 2 * SIDE + 2, 3)
    np.testing.assert_array_equal(page[:SIDE, SIDE + 2 :], pictures[1])
    np.testing.assert_array_equal(page[SIDE + 2 :, :SIDE], pictures[2])
    page = opened(ask(coders, PATH, encode_npy(pictures), "columns=3", kind=NPY, accept=PNG).body)
    assert page.shape == (SIDE, 3 * SIDE + 4, 3)


def test_pairs_show_each_input_above_its_output(coders: LiveServer) -> None:
    page = opened(ask(coders, PATH, encode_png(striped()), "layout=pairs", kind=PNG, accept=PNG).body)
    assert page.shape == (2 * SIDE + 2, SIDE, 3)
    np.testing.assert_array_equal(page[:SIDE], striped())
    np.testing.assert_array_equal(page[-SIDE:], banded(128, 0))
    body = {"images": [text(encode_png(picture)) for picture in (striped(), PICTURE)], "layout": "pairs", "columns": 2}
    page = opened(ask(coders, PATH, body, accept=PNG).body)
    np.testing.assert_array_equal(page[-SIDE:, -SIDE:], PICTURE)


@pytest.mark.parametrize("model", ["plain", "normal"])
def test_one_number_of_the_code_can_be_moved(coders: LiveServer, model: str) -> None:
    by = [-1.0, 0.0, 2.0]
    body = {"image": text(DATA), "model": model, "perturb": {"dimension": 1, "by": by}}
    result = answered(ask(coders, PATH, body))["results"][0]
    code = result["latent" if model == "plain" else "mu"]
    values = [code[1] + step * (HIGH - LOW) / SPREAD_OF_98 for step in by]
    np.testing.assert_allclose(result["perturbed"]["values"], values, rtol=1e-6)
    np.testing.assert_array_equal(opened(result["image"]), PICTURE)
    for png, value in zip(result["perturbed"]["images"], values, strict=True):
        upper, lower = levels_of([code[0], value], prior=model == "normal")
        np.testing.assert_array_equal(opened(png), banded(upper, lower))


def test_moved_codes_are_a_row_of_each_picture(coders: LiveServer) -> None:
    pictures = [banded(51, 51), banded(102, 102)]
    pngs = [text(encode_png(picture)) for picture in pictures]
    body = {"images": pngs, "perturb": {"dimension": 0, "by": [0, 1, -1, 2]}}
    page = opened(ask(coders, PATH, body, accept=PNG).body)
    assert page.shape == (2 * SIDE + 2, 4 * SIDE + 3 * 2, 3)
    np.testing.assert_array_equal(page[:SIDE, :SIDE], pictures[0])
    np.testing.assert_array_equal(page[-SIDE:, :SIDE], pictures[1])
    rows = rows_of(ask(coders, PATH, body, accept=NPY))
    assert rows.shape == (2, 4, SIDE, SIDE, 3)
    spread = (HIGH - LOW) / SPREAD_OF_98
    np.testing.assert_allclose(rows[:, :, 0, 0, 0], np.add.outer([0.2, 0.4], np.multiply([0, 1, -1, 2], spread)), 1e-5)
    np.testing.assert_allclose(rows[:, :, -1, 0, 0], [[0.2] * 4, [0.4] * 4], rtol=1e-6)


def test_a_code_that_was_told_decodes_to_the_same_bytes(coders: LiveServer) -> None:
    result = answered(ask(coders, PATH, encode_png(banded(77, 131)), kind=PNG))["results"][0]
    again = answered(ask(coders, "/v1/generate", {"latents": [result["latent"]], "model": "plain"}))
    assert again["results"][0] == {"image": result["image"], "latent": result["latent"]}


def test_both_graphs_run_once_and_their_time_is_told(coders: LiveServer) -> None:
    before = [runs(coders, "plain", graph) for graph in ("encoder", "decoder")]
    reply = ask(coders, PATH, encode_npy(np.stack([PICTURE] * 3)), kind=NPY)
    assert [runs(coders, "plain", graph) for graph in ("encoder", "decoder")] == [n + 1 for n in before]
    assert reply.header("x-model") == "plain/1"
    timing = reply.header("server-timing") or ""
    assert [part.split(";")[0] for part in timing.split(", ")] == ["decode", "queue", "run", "rows"]
    assert timing.endswith('"batch of 3"')


def test_more_pictures_than_one_run_takes_are_split_and_joined(coders: LiveServer) -> None:
    levels = np.linspace(0, 255, MOST).astype(np.uint8)  # the model runs 8 at a time
    rows = rows_of(ask(coders, PATH, encode_npy(np.stack([banded(k, 255 - k) for k in levels])), kind=NPY, accept=NPY))
    np.testing.assert_allclose(rows[:, 0, 0, 0], levels / 255, atol=1e-6)
    np.testing.assert_allclose(rows[:, -1, 0, 0], 1 - levels / 255, atol=1e-6)


TEXT = text(DATA)
GOOD = {"dimension": 0, "by": [1]}

# name -> (body, query, accept, status, subject, words that the answer must have)
FAULTS: dict[str, Fault] = {
    "an unknown layout": (DATA, "layout=pair", PNG, 422, "layout", ("'pair'", "pictures or pairs")),
    "a layout of JSON": (DATA, "layout=pairs", JSON, 422, "layout", (PNG,)),
    "a layout of rows": (DATA, "layout=pairs", NPY, 422, "layout", (PNG,)),
    "columns of JSON": (DATA, "columns=2", JSON, 422, "columns", (PNG,)),
    "no columns": (DATA, "columns=0", PNG, 422, "columns", (f"1 to {MOST}",)),
    "too many columns": (DATA, "columns=41", PNG, 422, "columns", (f"1 to {MOST}",)),
    "columns of moved codes": (
        {"image": TEXT, "perturb": GOOD, "columns": 2},
        "",
        PNG,
        422,
        "columns",
        ("no perturb",),
    ),
    "an unknown field": ({"image": TEXT, "pertrub": GOOD}, "", JSON, 422, "body.pertrub", ("did you mean 'perturb'",)),
    "an unknown field of perturb": (
        {"image": TEXT, "perturb": {**GOOD, "dim": 1}},
        "",
        JSON,
        422,
        "body.perturb.dim",
        ("by, dimension",),
    ),
    "perturb without a dimension": (
        {"image": TEXT, "perturb": {"by": [1]}},
        "",
        JSON,
        422,
        "body.perturb.dimension",
        ("missing",),
    ),
    "perturb that is a number": ({"image": TEXT, "perturb": 3}, "", JSON, 422, "body.perturb", ("dimension, by",)),
    "perturb in the query": (DATA, "perturb=3", JSON, 422, "query.perturb", ("unknown",)),
    "a dimension that the code has not": (
        {"image": TEXT, "perturb": {"dimension": 2, "by": [1]}},
        "",
        JSON,
        422,
        "perturb.dimension",
        ("0 to 1", "a latent of 2"),
    ),
    "a dimension below 0": (
        {"image": TEXT, "perturb": {"dimension": -1, "by": [1]}},
        "",
        JSON,
        422,
        "body.perturb.dimension",
        ("greater than or equal to 0",),
    ),
    "no steps": ({"image": TEXT, "perturb": {"dimension": 0, "by": []}}, "", JSON, 422, "body.perturb.by", ("1",)),
    "a step that is NaN": (
        {"image": TEXT, "perturb": {"dimension": 0, "by": [0, float("nan")]}},
        "",
        JSON,
        422,
        "body.perturb.by[1]",
        ("nan", "finite"),
    ),
    "a step out of this world": (
        {"image": TEXT, "perturb": {"dimension": 0, "by": [1e30]}},
        "",
        JSON,
        422,
        "body.perturb.by[0]",
        ("1000",),
    ),
    "more decodings than the limit": (
        {"images": [TEXT] * 8, "perturb": {"dimension": 0, "by": [0, 1, 2, 3, 4]}},
        "",
        JSON,
        413,
        "perturb",
        ("8 x (1 + 5) = 48", "40"),
    ),
    "more pictures than the limit": ({"images": [TEXT] * 41}, "", JSON, 413, "images", ("41", "40")),
    "a model that classifies": (DATA, "model=shades", JSON, 422, "model", ("'shades' is made to classify",)),
    "an unknown model": (DATA, "model=plane", JSON, 404, "model", ("plain",)),
    "an unknown version": (DATA, "version=2", JSON, 404, "version", ("1",)),
    "no body": (b"", "", JSON, 422, "body", ("no body",)),
    "an image cut off": (DATA[:40], "", JSON, 422, "body", ("cut off",)),
    "no such form of answer": (DATA, "", "image/jpeg", 406, "header.accept", (JSON, PNG, NPY)),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_what_is_wrong_is_named(coders: LiveServer, fault: Fault) -> None:
    check_fault(coders, PATH, fault, kind_of_bytes=PNG)


def test_nothing_is_run_for_a_request_that_is_refused(coders: LiveServer) -> None:
    before = [runs(coders, "plain", graph) for graph in ("encoder", "decoder")]
    ask(coders, PATH, {"image": TEXT, "perturb": {"dimension": 2, "by": [1]}}).problem(422)
    ask(coders, PATH, {"images": [TEXT] * 8, "perturb": {"dimension": 0, "by": [0] * 5}}).problem(413)
    assert [runs(coders, "plain", graph) for graph in ("encoder", "decoder")] == before


def test_a_deadline_that_cannot_be_kept_is_told(coders: LiveServer) -> None:
    ask(coders, PATH, DATA, kind=PNG, x_request_deadline_ms="0").problem(504)
