"""POST /v1/denoise on pictures of a model's own size: what is to be expected, and what is drawn, in closed form."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.codecs.images.files import encode_png
from app.codecs.npy import encode_npy
from app.tasks.denoise.schema import DenoiseAnswer
from tests.app.coders import JSON, NPY, PNG, Fault, answered, ask, check_fault, opened, rows_of, text
from tests.app.denoisers import (
    COLOURED,
    MAX_STEPS,
    MOST,
    SIDE,
    STEPS,
    TILE,
    estimated,
    noisy,
    posterior,
)
from tests.app.gate import Gate, post
from tests.app.live import LiveServer, Reply, form
from tests.app.web.test_event_stream import parsed

PATH = "/v1/denoise"
STREAM = "text/event-stream"
SIGMA_255 = 25.5


def send(server: LiveServer, x: NDArray[Any], query: str = "", **headers: str) -> Reply:
    return ask(server, PATH, encode_npy(x), query, kind=NPY, **headers)


def eight_bits(x: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(np.clip(x, 0, 1) * 255), np.uint8)


def test_what_is_to_be_expected_is_the_posterior_mean(denoisers: LiveServer) -> None:
    x = noisy(3, 0.1)
    reply = send(denoisers, x, f"sigma_255={SIGMA_255}", accept=NPY)
    np.testing.assert_allclose(rows_of(reply), posterior(x, 0.1)[0], atol=1e-6)
    assert reply.header("x-sigma-255") == "25.5, 25.5, 25.5"
    assert reply.header("x-model") == "gauss/1"
    answer = answered(send(denoisers, x, f"sigma_255={SIGMA_255}"))
    DenoiseAnswer.model_validate(answer, strict=True)
    assert not {"seed", "steps"} & answer.keys()
    for result, mean in zip(answer["results"], posterior(x, 0.1)[0], strict=True):
        np.testing.assert_array_equal(opened(result["image"]), eight_bits(mean)[..., 0])
        assert (result["sigma_255"], result["estimated"]) == (SIGMA_255, False)
        assert not {"samples", "spread"} & result.keys()


def test_the_noise_is_estimated_where_it_is_not_told(denoisers: LiveServer) -> None:
    x = np.concatenate([noisy(1, sigma) for sigma in (0.05, 0.2, 1.0)])
    for query in ("", "sigma_255=auto"):
        results = answered(send(denoisers, x, query))["results"]
        np.testing.assert_allclose([r["sigma_255"] for r in results], 255 * estimated(x), rtol=1e-4)
        assert all(result["estimated"] for result in results)
    rows = rows_of(send(denoisers, x, accept=NPY))
    for row, one, sigma in zip(rows, x, estimated(x), strict=True):
        np.testing.assert_allclose(row, np.clip(posterior(one, float(sigma))[0], 0, 1), atol=1e-5)


def test_noise_beyond_black_and_white_is_not_cut_off(denoisers: LiveServer) -> None:
    x = noisy(2, 1.0)
    assert x.min() < -1
    assert x.max() > 2
    rows = rows_of(send(denoisers, x, "sigma_255=255", accept=NPY))
    np.testing.assert_allclose(rows, posterior(x, 1.0)[0], atol=1e-6)


def test_the_noise_may_be_told_for_each_picture(denoisers: LiveServer) -> None:
    x = np.repeat(noisy(1, 0.1), 3, axis=0)
    levels = [5.0, 25.5, 250.0]
    in_query = rows_of(send(denoisers, x, "sigma_255=5,25.5,250", accept=NPY))
    body = {"images": [text(encode_png(eight_bits(row))) for row in x], "sigma_255": levels}
    in_json = answered(ask(denoisers, PATH, body))["results"]
    for row, result, one, level in zip(in_query, in_json, x, levels, strict=True):
        np.testing.assert_allclose(row, posterior(one, level / 255)[0], atol=1e-6)
        mean = posterior(eight_bits(one) / 255, level / 255)[0]
        np.testing.assert_array_equal(opened(result["image"]), eight_bits(mean)[..., 0])
        assert result["sigma_255"] == level


def test_every_form_of_body_is_read_as_it_is(denoisers: LiveServer) -> None:
    sent = eight_bits(noisy(2, 0.1))
    body = {"sigma_255": SIGMA_255, "images": [text(encode_png(row)) for row in sent]}
    whole = answered(ask(denoisers, PATH, body))
    np.testing.assert_array_equal(
        opened(whole["results"][1]["image"]), eight_bits(posterior(sent[1] / 255, 0.1)[0])[..., 0]
    )
    nested = answered(ask(denoisers, PATH, {**body, "images": sent[..., 0].tolist()}))
    kind, multipart = form(*[("image", encode_png(row), "a.png") for row in sent], ("sigma_255", b"25.5"))
    in_form = answered(ask(denoisers, PATH, multipart, kind=kind))
    as_rows = answered(send(denoisers, sent, "sigma_255=25.5"))
    alone = answered(ask(denoisers, PATH, encode_png(sent[0]), "sigma_255=25.5", kind=PNG))
    assert whole == nested == in_form == as_rows
    assert alone["results"] == whole["results"][:1]


def test_a_model_with_labels_is_told_that_none_is_known(denoisers: LiveServer) -> None:
    x = noisy(2, 0.1, picture=COLOURED)  # channels first
    sent = x.transpose(0, 2, 3, 1)
    rows = rows_of(send(denoisers, sent, "model=coloured&sigma_255=25.5", accept=NPY))
    np.testing.assert_allclose(rows, posterior(x, 0.1, COLOURED)[0].transpose(0, 2, 3, 1), atol=1e-6)
    sampled = rows_of(send(denoisers, sent, "model=coloured&sigma_255=25.5&samples=3", accept=NPY))
    assert sampled.shape == (2, 3, SIDE, SIDE, 3)
    assert sampled.min() > 0.1  # black is what another label would have made


def test_samples_have_the_posteriors_mean_and_spread(denoisers: LiveServer) -> None:
    x = noisy(2, 0.1)
    query = f"sigma_255=25.5&samples=64&steps={MAX_STEPS}&seed=5"
    sampled = rows_of(send(denoisers, x, query, accept=NPY))
    assert (sampled.dtype, sampled.shape) == (np.dtype(np.float32), (2, 64, SIDE, SIDE, 1))
    mean, deviation = posterior(x, 0.1)
    pixels = sampled.size // 64
    assert np.abs(sampled.mean(axis=1) - mean).max() < 5 * deviation / np.sqrt(64)
    assert abs((sampled.mean(axis=1) - mean).mean()) < 5 * deviation / np.sqrt(64 * pixels)
    assert sampled.std(axis=1, ddof=1).mean() == pytest.approx(deviation, rel=0.04)


def test_what_is_uncertain_is_shown(denoisers: LiveServer) -> None:
    x = noisy(2, 0.1)
    query = "sigma_255=25.5&samples=5&seed=3"
    answer = answered(send(denoisers, x, query))
    DenoiseAnswer.model_validate(answer, strict=True)
    assert (answer["seed"], answer["steps"]) == (3, STEPS)
    sampled = rows_of(send(denoisers, x, query, accept=NPY))
    for result, samples, mean in zip(answer["results"], sampled, posterior(x, 0.1)[0], strict=True):
        np.testing.assert_array_equal(opened(result["image"]), eight_bits(mean)[..., 0])
        np.testing.assert_array_equal([opened(png) for png in result["samples"]], eight_bits(samples)[..., 0])
        spread = samples.std(axis=0)
        reported = [result["spread"]["mean_255"], result["spread"]["max_255"]]
        np.testing.assert_allclose(reported, [255 * spread.mean(), 255 * spread.max()], rtol=1e-4)
        np.testing.assert_array_equal(opened(result["spread"]["image"]), eight_bits(2 * spread)[..., 0])


@pytest.mark.parametrize("accept", [JSON, PNG, NPY])
def test_a_seed_repeats_every_byte(denoisers: LiveServer, accept: str) -> None:
    x = noisy(2, 0.1)
    first, again, other = (send(denoisers, x, f"samples=3&seed={seed}", accept=accept) for seed in (1, 1, 2))
    assert first.status == 200
    assert first.body == again.body
    assert first.body != other.body


def test_a_seed_that_was_chosen_is_told(denoisers: LiveServer) -> None:
    x = noisy(1, 0.1)
    chosen = send(denoisers, x, "samples=2", accept=PNG)
    seed = chosen.header("x-seed")
    assert send(denoisers, x, f"samples=2&seed={seed}", accept=PNG).body == chosen.body
    assert send(denoisers, x, accept=PNG).header("x-seed") is None


def test_samples_are_a_pictures_own_whatever_is_beside_it(denoisers: LiveServer) -> None:
    x = noisy(3, 0.1)
    together = rows_of(send(denoisers, x, "sigma_255=5,50,100&samples=4&seed=9", accept=NPY))
    for i, level in enumerate((5, 50, 100)):
        alone = rows_of(send(denoisers, x[i : i + 1], f"sigma_255={level}&samples=2&seed=9", accept=NPY))
        assert np.abs(together[i, :2] - alone[0]).max() <= 1 / 255


def test_a_page_shows_the_noisy_the_expected_the_drawn_and_the_spread(denoisers: LiveServer) -> None:
    x = noisy(2, 0.1)
    answer = answered(send(denoisers, x, "samples=3&seed=4"))
    page = opened(send(denoisers, x, "samples=3&seed=4", accept=PNG).body)
    step = SIDE + 2
    assert page.shape == (2 * step - 2, 6 * step - 2)
    for i, result in enumerate(answer["results"]):
        shown = [page[i * step : i * step + SIDE, k * step : k * step + SIDE] for k in range(6)]
        np.testing.assert_array_equal(shown[0], eight_bits(x[i])[..., 0])
        for picture, png in zip(
            shown[1:], (result["image"], *result["samples"], result["spread"]["image"]), strict=True
        ):
            np.testing.assert_array_equal(picture, opened(png))


def test_pictures_come_as_a_grid_or_as_pairs(denoisers: LiveServer) -> None:
    x = noisy(4, 0.1)
    clean = eight_bits(posterior(x, 0.1)[0])[..., 0]
    page = opened(send(denoisers, x, "sigma_255=25.5", accept=PNG).body)
    assert page.shape == (2 * SIDE + 2, 2 * SIDE + 2)
    np.testing.assert_array_equal(page[-SIDE:, -SIDE:], clean[3])
    pairs = opened(send(denoisers, x, "sigma_255=25.5&layout=pairs&columns=4", accept=PNG).body)
    assert pairs.shape == (2 * SIDE + 2, 4 * SIDE + 6)
    np.testing.assert_array_equal(pairs[:SIDE, -SIDE:], eight_bits(x[3])[..., 0])
    np.testing.assert_array_equal(pairs[-SIDE:, -SIDE:], clean[3])


def test_the_steps_of_samples_are_streamed(denoisers: LiveServer) -> None:
    x = noisy(2, 0.1)
    query = "samples=3&seed=4&steps=9"
    reply = send(denoisers, x, query, accept=STREAM)
    assert (reply.status, reply.header("content-type")) == (200, f"{STREAM}; charset=utf-8")
    *steps, (last, result) = parsed(reply.body)
    assert last == "result"
    assert result == answered(send(denoisers, x, query))
    assert steps
    for event, step in steps:
        assert (event, step["steps"]) == ("step", 9)
        assert opened(step["preview"]).shape == (2 * SIDE + 2, 3 * SIDE + 4)
    assert steps[-1][1]["step"] == 9
    assert steps[-1][1]["left_s"] == 0


def test_a_stream_that_nobody_reads_any_more_stops_at_its_next_step(
    denoisers: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(denoisers, "gauss", monkeypatch)
    path = f"{PATH}?model=gauss&sigma_255=25.5&samples=2&steps={MAX_STEPS}"
    line = post(denoisers, path, encode_npy(noisy(1, 0.1)), kind=NPY, accept=STREAM)
    for step in range(1, 4):  # the posterior mean, then two steps
        gate.wait()
        gate.go.release()
        if step == 2:
            head = line.recv(1 << 16)
    assert head.startswith(b"HTTP/1.1 200")
    line.close()
    gate.on_loop(denoisers.app.state.registry.catalog.get("gauss").lease().ended())
    gate.open()
    assert len(gate.rows) < 10


IMAGE = text(encode_png(eight_bits(noisy(1, 0.1)[0])))
SMALL = text(encode_png(np.zeros((5, 7, 1), np.uint8)))

# name -> (body, query, accept, status, subject, words that the answer must have)
FAULTS: dict[str, Fault] = {
    "no picture": ({"sigma_255": 5}, "", JSON, 422, "body.image", ("image, images",)),
    "no body": (None, "", JSON, 422, "body", ("a picture",)),
    "another size": ({"image": SMALL}, "", JSON, 422, "body.image", ("7x5", "8x8", "nothing is resized")),
    "pixels of another size": ({"image": [[0] * 7] * 8}, "", JSON, 422, "body.image[0]", ("8 pixels", "7 pixels")),
    "a picture that is none": ({"image": "aGFsbG8="}, "", JSON, 415, "body.image", ("PNG",)),
    "noise of another name": ({"image": IMAGE, "sigma": 5}, "", JSON, 422, "body.sigma", ("did you mean 'sigma_255'",)),
    "noise that is a word": ({"image": IMAGE, "sigma_255": "much"}, "", JSON, 422, "sigma_255", ("'auto'", "'much'")),
    "noise that is an object": ({"image": IMAGE, "sigma_255": {}}, "", JSON, 422, "sigma_255", ("'auto'", "object")),
    "noise that is true": ({"image": IMAGE, "sigma_255": True}, "", JSON, 422, "sigma_255", ("'auto'", "true")),
    "noise that is no number": (
        b'{"image": "", "sigma_255": NaN}'.replace(b'""', json.dumps(IMAGE).encode()),
        "",
        JSON,
        422,
        "sigma_255",
        ("nan", "0.51 to 20400"),
    ),
    "no noise at all": ({"image": IMAGE, "sigma_255": 0}, "", JSON, 422, "sigma_255", ("0.51 to 20400", "is 0")),
    "noise below nothing": ({"image": IMAGE}, "sigma_255=-5", JSON, 422, "sigma_255", ("'auto'", "'-5'")),
    "more noise than the model knows": ({"image": IMAGE}, "sigma_255=30000", JSON, 422, "sigma_255", ("20400",)),
    "one of a list": (
        {"images": [IMAGE, IMAGE], "sigma_255": [5, 1e9]},
        "",
        JSON,
        422,
        "sigma_255[1]",
        ("1e+09", "20400"),
    ),
    "another number of levels": (
        {"images": [IMAGE] * 3, "sigma_255": [5, 6]},
        "",
        JSON,
        422,
        "sigma_255",
        ("2 numbers", "3 pictures"),
    ),
    "noise that no float holds": (
        {"image": IMAGE, "sigma_255": 10**400},
        "",
        JSON,
        422,
        "sigma_255",
        ("more than 40 digits", "20400"),
    ),
    "levels far too many": (
        {"image": IMAGE, "sigma_255": [5] * 9000},
        "",
        JSON,
        422,
        "sigma_255",
        ("9000 numbers", "1 pictures"),
    ),
    "levels far too long": (
        {"image": IMAGE, "sigma_255": "5," * 40000 + "5"},
        "",
        JSON,
        422,
        "sigma_255",
        ("a text of 80001 characters", "'auto'"),
    ),
    "no levels": ({"image": IMAGE, "sigma_255": []}, "", JSON, 422, "sigma_255", ("a list of 0",)),
    "no samples": ({"image": IMAGE, "samples": 0}, "", JSON, 422, "samples", ("1 to 64",)),
    "too many samples": ({"image": IMAGE, "samples": 65}, "", JSON, 422, "samples", ("1 to 64", "65")),
    "too many samples of several": (
        {"images": [IMAGE] * 3, "samples": 64},
        "",
        JSON,
        413,
        "samples",
        ("3 x 64 = 192", "128"),
    ),
    "steps without samples": ({"image": IMAGE, "steps": 3}, "", JSON, 422, "steps", ("belongs to samples",)),
    "a seed without samples": ({"image": IMAGE, "seed": 3}, "", JSON, 422, "seed", ("belongs to samples",)),
    "no steps": ({"image": IMAGE, "samples": 1, "steps": 0}, "", JSON, 422, "steps", (f"1 to {MAX_STEPS}",)),
    "too many steps": ({"image": IMAGE, "samples": 1, "steps": 999}, "", JSON, 422, "steps", ("999", "'gauss'")),
    "a seed below 0": ({"image": IMAGE, "samples": 1, "seed": -1}, "", JSON, 422, "seed", ("9007199254740991",)),
    "samples of a model that cannot draw": (
        {"image": IMAGE, "samples": 1, "model": "quick"},
        "",
        JSON,
        422,
        "samples",
        ("'quick'", "cannot draw"),
    ),
    "samples of a photo": (
        {"image": IMAGE, "samples": 1, "model": "still"},
        "",
        JSON,
        422,
        "samples",
        ("'still'", "cannot draw", "a model that draws: coloured, gauss"),
    ),
    "a stream without samples": ({"image": IMAGE}, "", STREAM, 422, "samples", ("streamed",)),
    "a layout of samples": (
        {"image": IMAGE, "samples": 2, "layout": "pairs"},
        "",
        PNG,
        422,
        "layout",
        ("a row of each picture", "no samples"),
    ),
    "a layout of JSON": ({"image": IMAGE, "layout": "pairs"}, "", JSON, 422, "layout", (PNG,)),
    "an unknown layout": ({"image": IMAGE, "layout": "cycle"}, "", PNG, 422, "layout", ("pictures or pairs",)),
    "columns of rows": ({"image": IMAGE, "columns": 2}, "", NPY, 422, "columns", (PNG,)),
    "more pictures than the limit": ({"images": [IMAGE] * (MOST + 1)}, "", JSON, 413, "images", (str(MOST),)),
    "a model that classifies": ({"image": IMAGE, "model": "shades"}, "", JSON, 422, "model", ("not to denoise",)),
    "an unknown model": ({"image": IMAGE, "model": "gaus"}, "", JSON, 404, "model", ("gauss",)),
    "no such form of answer": ({"image": IMAGE}, "", "image/jpeg", 406, "header.accept", (PNG, NPY, STREAM)),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_what_is_wrong_is_named(denoisers: LiveServer, fault: Fault) -> None:
    check_fault(denoisers, PATH, fault)


def test_a_list_of_levels_that_is_none_is_named(denoisers: LiveServer) -> None:
    for query in ("sigma_255=5,", "sigma_255=5;6", "sigma_255=,5", "sigma_255="):
        assert send(denoisers, noisy(2, 0.1), query).problem(422)["subject"] == "sigma_255"


def test_floats_that_are_grey_levels_are_told_so(denoisers: LiveServer) -> None:
    details = send(denoisers, 255 * noisy(1, 0.1), "model=blur").problem(422)
    assert "pixels from 0 to 1" in details["expected"]
    assert "uint8" in details["expected"]


def test_rows_have_the_models_size(denoisers: LiveServer) -> None:
    details = send(denoisers, np.zeros((2, SIDE, SIDE, 3), np.float32)).problem(422)
    assert (details["expected"], details["got"]) == ("(rows, 8, 8, 1)", "shape (2, 8, 8, 3)")
    details = send(denoisers, np.full((1, SIDE, SIDE), np.nan, np.float32)).problem(422)
    assert details["got"] == "nan"


def test_a_deadline_that_cannot_be_kept_is_told(denoisers: LiveServer) -> None:
    for query in ("", "samples=2", "model=still"):
        send(denoisers, noisy(1, 0.1), query, x_request_deadline_ms="0").problem(504)


def test_a_full_queue_is_told_before_anything_is_read(denoisers: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = denoisers.app.state.registry.catalog.get("gauss")._batchers["denoiser"]
    monkeypatch.setattr(batcher, "max_queued_rows", 0)
    reply = ask(denoisers, PATH, b"no picture", kind=PNG)
    assert reply.problem(429)
    assert reply.header("retry-after")


def test_every_example_answers_200_as_it_stands(denoisers: LiveServer) -> None:
    document = denoisers.get("/openapi.json").json()
    operation = document["paths"][PATH]["post"]
    shown = operation["requestBody"]["content"][JSON]["examples"]
    assert {name.partition(":")[0] for name in shown} == {"gauss", "coloured", "quick", "still", "blur", "darker"}
    for example in shown.values():
        answered(ask(denoisers, PATH, example["value"]))
    golden = opened(shown["gauss: a picture, its noise estimated"]["value"]["image"])
    np.testing.assert_array_equal(golden, eight_bits(noisy(3, 0.1)[0])[..., 0])
    assert "gauss: what may be under the noise" in shown
    assert "quick: what may be under the noise" not in shown


def test_the_landing_page_has_a_command_to_paste(denoisers: LiveServer) -> None:
    page = denoisers.get("/").body.decode()
    assert f"{PATH}?model=blur" in page
    assert f"{PATH}?model=gauss" in page
    assert denoisers.get("/v1/models/blur").json()["plane"]["tile"] == TILE
