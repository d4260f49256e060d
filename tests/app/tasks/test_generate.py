"""POST /v1/generate, as a client sees it: every way to come by pictures, against known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from app.codecs.images.files import encode_png
from app.core.sampling.latents import sample_prior
from app.tasks.generate.schema import GenerateAnswer
from tests.app.coders import (
    JSON,
    MOST,
    NPY,
    PNG,
    SIDE,
    Fault,
    answered,
    ask,
    at_once,
    banded,
    check_fault,
    images,
    levels_of,
    opened,
    rows_of,
    runs,
    text,
)
from tests.app.live import LiveServer
from tests.made_models import HIGH, LOW

PATH = "/v1/generate"


def pictures_of(codes: Any, *, prior: bool = True) -> Any:
    return np.stack([banded(*levels) for levels in levels_of(codes, prior=prior)])


def test_latents_are_decoded(coders: LiveServer) -> None:
    codes = [[0.0, 1.0], [-1.5, 0.5], [2.0, -2.0]]
    answer = answered(ask(coders, PATH, {"latents": codes}))
    GenerateAnswer.model_validate(answer, strict=True)
    assert (answer["model"], answer["version"], answer["device"]) == ("normal", "1", "cpu")
    assert [result["latent"] for result in answer["results"]] == codes
    np.testing.assert_array_equal(images(answer["results"]), pictures_of(codes))
    assert not {"seed", "interpolation", "grid"} & answer.keys()


def test_whole_numbers_are_latents_too(coders: LiveServer) -> None:
    assert answered(ask(coders, PATH, {"latents": [[0, 1]]}))["results"][0]["latent"] == [0, 1]


@pytest.mark.parametrize("seed", [0, 7, 2**53 - 1])
def test_draws_are_of_the_seed_and_of_nothing_else(coders: LiveServer, seed: int) -> None:
    answer = answered(ask(coders, PATH, {"n": 5, "seed": seed}))
    assert answer["seed"] == seed
    codes = np.float32([result["latent"] for result in answer["results"]])
    np.testing.assert_array_equal(codes, sample_prior(5, 2, seed))
    np.testing.assert_array_equal(images(answer["results"]), pictures_of(codes))
    fewer = answered(ask(coders, PATH, None, f"n=2&seed={seed}"))
    assert fewer["results"] == answer["results"][:2]


@pytest.mark.parametrize("accept", [JSON, PNG, NPY])
def test_the_same_seed_gives_the_same_bytes(coders: LiveServer, accept: str) -> None:
    first, again, other = (
        ask(coders, PATH, {"n": 3, "seed": seed, "model": "five"}, accept=accept) for seed in (3, 3, 4)
    )
    assert first.status == 200
    assert first.body == again.body
    assert first.body != other.body


def test_a_seed_that_was_chosen_for_the_client_is_told_and_can_be_asked_for(coders: LiveServer) -> None:
    chosen = ask(coders, PATH, None, "n=2", accept=PNG)
    seed = chosen.header("x-seed")
    assert seed != ask(coders, PATH, None, "n=2", accept=PNG).header("x-seed")
    assert ask(coders, PATH, None, f"n=2&seed={seed}", accept=PNG).body == chosen.body
    answer = answered(ask(coders, PATH, {"n": 2}))
    assert answered(ask(coders, PATH, {"n": 2, "seed": answer["seed"]})) == answer


def test_everything_may_stand_in_the_query(coders: LiveServer) -> None:
    whole = answered(ask(coders, PATH, {"n": 2, "seed": 5, "model": "five", "version": "1"}))
    assert answered(ask(coders, PATH, None, "n=2&seed=5&model=five&version=1")) == whole
    assert answered(ask(coders, PATH, {"n": 2, "seed": None}, "seed=5&model=five")) == whole
    empty = coders.ask("POST", f"{PATH}?n=2&seed=5&model=five", b"", {"Content-Type": "text/plain"})
    assert answered(empty) == whole  # there is nothing that could be of that type


def test_the_way_between_two_latents_is_straight_without_a_prior(coders: LiveServer) -> None:
    answer = answered(ask(coders, PATH, {"model": "plain", "between": [[0, 1], [1, 0.5]], "frames": 5}))
    assert answer["interpolation"] == "linear"
    codes = [[0, 1], [0.25, 0.875], [0.5, 0.75], [0.75, 0.625], [1, 0.5]]
    assert [result["latent"] for result in answer["results"]] == codes
    np.testing.assert_array_equal(images(answer["results"]), pictures_of(codes, prior=False))


def test_with_a_normal_prior_it_is_an_arc(coders: LiveServer) -> None:
    answer = answered(ask(coders, PATH, {"between": [[2, 0], [0, 2]], "frames": 3}))
    assert answer["interpolation"] == "spherical"
    codes = [[2, 0], [math.sqrt(2), math.sqrt(2)], [0, 2]]
    np.testing.assert_allclose([result["latent"] for result in answer["results"]], codes, atol=1e-6)
    assert len(answered(ask(coders, PATH, {"between": [[2, 0], [0, 2]]}))["results"]) == 9


@pytest.mark.parametrize("model", ["plain", "normal"])
def test_the_way_between_two_pictures_begins_and_ends_with_them(coders: LiveServer, model: str) -> None:
    ends = [banded(51, 204), banded(255, 0)]
    body = {"model": model, "between": [text(encode_png(end)) for end in ends], "frames": 4}
    answer = answered(ask(coders, PATH, body))
    pictures = images(answer["results"])
    np.testing.assert_array_equal(pictures[[0, -1]], ends)
    if model == "plain":
        codes = np.linspace([0.2, 0.8], [1, 0], 4)
        np.testing.assert_allclose([result["latent"] for result in answer["results"]], codes, atol=1e-6)


def test_a_plane_shows_the_quantiles_of_the_prior_like_axes(coders: LiveServer) -> None:
    answer = answered(ask(coders, PATH, {"grid": {"side": 4}}))
    assert answer["grid"] == {"side": 4, "dimensions": [0, 1]}
    codes = np.array([result["latent"] for result in answer["results"]]).reshape(4, 4, 2)
    shares = [[0.5 * (1 + math.erf(z / math.sqrt(2))) for z in axis] for axis in (codes[0, :, 0], codes[:, 0, 1])]
    np.testing.assert_allclose(shares, [[0.125, 0.375, 0.625, 0.875], [0.875, 0.625, 0.375, 0.125]], atol=1e-6)
    assert (codes[:, :, 0] == codes[0, :, 0]).all()
    assert (codes[:, :, 1] == codes[:, :1, 1]).all()
    np.testing.assert_array_equal(images(answer["results"]), pictures_of(codes.reshape(16, 2)))


def test_without_a_prior_it_goes_over_what_held_out_rows_have(coders: LiveServer) -> None:
    answer = answered(ask(coders, PATH, {"model": "plain", "grid": {"side": 3}}))
    codes = np.array([result["latent"] for result in answer["results"]]).reshape(3, 3, 2)
    np.testing.assert_array_equal(codes[0, :, 0], [LOW, 0.5, HIGH])
    np.testing.assert_array_equal(codes[:, 0, 1], [HIGH, 0.5, LOW])


def test_of_larger_latents_two_dimensions_are_shown_and_the_others_rest(coders: LiveServer) -> None:
    answer = answered(ask(coders, PATH, {"model": "five", "grid": {"side": 2, "dimensions": [4, 1]}}))
    codes = np.array([result["latent"] for result in answer["results"]])
    z = 0.6744898  # the upper quartile of the normal distribution
    wanted = [[0, z, 0, 0, -z], [0, z, 0, 0, z], [0, -z, 0, 0, -z], [0, -z, 0, 0, z]]
    np.testing.assert_allclose(codes, wanted, atol=1e-6)


def test_pictures_come_as_a_grid_near_a_square_or_as_wide_as_asked(coders: LiveServer) -> None:
    def shape(body: dict[str, Any], query: str = "") -> tuple[int, ...]:
        page = opened(ask(coders, PATH, body, query, accept=PNG).body)
        return (page.shape[1] + 2) // (SIDE + 2), (page.shape[0] + 2) // (SIDE + 2)

    assert shape({"n": 1}) == (1, 1)
    assert shape({"n": 10}) == (4, 3)
    assert shape({"n": 10}, "columns=5") == (5, 2)
    assert shape({"n": 10, "columns": 40}) == (10, 1)
    assert shape({"grid": {"side": 3}}) == (3, 3)
    assert shape({"grid": {"side": 4}}, "columns=8") == (8, 2)
    assert shape({"between": [[0, 0], [1, 1]], "frames": 7}) == (7, 1)


def test_a_page_has_the_pictures_in_their_order(coders: LiveServer) -> None:
    codes = [[-2.0, -2.0], [-1.0, 1.0], [0.0, 0.0], [1.0, 2.0]]
    page = opened(ask(coders, PATH, {"latents": codes}, accept=PNG).body)
    pictures = pictures_of(codes)
    np.testing.assert_array_equal(page[:SIDE, SIDE + 2 :], pictures[1])
    np.testing.assert_array_equal(page[SIDE + 2 :, :SIDE], pictures[2])
    assert (page[SIDE : SIDE + 2] == 255).all()


def test_rows_are_the_pictures_before_rounding(coders: LiveServer) -> None:
    rows = rows_of(ask(coders, PATH, {"latents": [[0.1, -0.1, 0, 1, 9]], "model": "five"}, accept=NPY))
    assert (rows.dtype, rows.shape) == (np.float32, (1, SIDE, SIDE, 3))
    np.testing.assert_allclose(rows[0, [0, 8, 15, 20, 31], 5, 2], [0.525, 0.475, 0.5, 0.75, 1], atol=1e-6)


def test_the_encoder_runs_for_pictures_alone(coders: LiveServer) -> None:
    before = runs(coders, "five", "encoder"), runs(coders, "five", "decoder")
    for body in (
        {"n": 3},
        {"latents": [[0] * 5]},
        {"between": [[0] * 5, [1] * 5]},
        {"grid": {"side": 2}},
    ):
        answered(ask(coders, PATH, {**body, "model": "five"}))
    assert runs(coders, "five", "encoder") == before[0]
    assert runs(coders, "five", "decoder") >= before[1] + 4
    ends = [text(encode_png(banded(1, 2, 3, 4, 5)))] * 2
    answered(ask(coders, PATH, {"between": ends, "frames": 2, "model": "five"}))
    assert runs(coders, "five", "encoder") == before[0] + 1


def test_beside_strangers_pictures_stay_their_own(coders: LiveServer) -> None:
    alone = {seed: rows_of(ask(coders, PATH, {"n": 2, "seed": seed}, accept=NPY)) for seed in range(24)}
    shared = 0
    for _ in range(20):  # all of them are sent before any is answered; how many share a run is for the batcher to say
        for seed, (head, body) in enumerate(at_once(coders, PATH, [{"n": 2, "seed": seed} for seed in alone])):
            got = np.frombuffer(body[-alone[seed].nbytes :], np.float32).reshape(alone[seed].shape)
            assert np.abs(got - alone[seed]).max() <= 1 / 255
            shared += b'"batch of 2"' not in head
        if shared:
            break
    assert shared


PICTURE = text(encode_png(banded(1, 2)))

# name -> (body, query, accept, status, subject, words that the answer must have)
FAULTS: dict[str, Fault] = {
    "nothing": (None, "", JSON, 422, "body", ("one of latents, n, between, grid", "none of them")),
    "an empty object": ({}, "", JSON, 422, "body", ("none of them",)),
    "a model alone": (None, "model=normal", JSON, 422, "body", ("none of them",)),
    "n and latents": ({"n": 1, "latents": [[0, 0]]}, "", JSON, 422, "n", ("latents and n",)),
    "n in the query and a grid": ({"grid": {"side": 2}}, "n=1", JSON, 422, "grid", ("n and grid",)),
    "n twice": ({"n": 1}, "n=2", JSON, 422, "body.n", ("more than once",)),
    "a seed of latents": ({"latents": [[0, 0]], "seed": 1}, "", JSON, 422, "seed", ("seed belongs to n",)),
    "frames of n": ({"n": 2, "frames": 3}, "", JSON, 422, "frames", ("frames belongs to between",)),
    "an unknown field": ({"n": 1, "sed": 1}, "", JSON, 422, "body.sed", ("did you mean 'seed'",)),
    "an unknown parameter": (None, "n=1&grid=3", JSON, 422, "query.grid", ("unknown", "seed")),
    "a draw from a plain autoencoder": (
        {"n": 1, "model": "plain"},
        "",
        JSON,
        422,
        "n",
        ("no prior", "latents, between, grid"),
    ),
    "a plane of one number": (
        {"grid": {"side": 2}, "model": "one"},
        "",
        JSON,
        422,
        "grid",
        ("a latent of 1", "latents, between"),
    ),
    "no pictures": ({"n": 0}, "", JSON, 422, "n", (f"1 to {MOST}",)),
    "too many": ({"n": 41}, "", JSON, 422, "n", (f"1 to {MOST}", "41")),
    "a fraction of a picture": ({"n": 1.5}, "", JSON, 422, "body.n", ("integer", "1.5")),
    "a seed below 0": ({"n": 1, "seed": -1}, "", JSON, 422, "seed", ("0 to 9007199254740991",)),
    "a seed that JSON cannot hold": ({"n": 1, "seed": 2**53}, "", JSON, 422, "seed", ("9007199254740991",)),
    "a seed that is a text": ({"n": 1, "seed": "7"}, "", JSON, 422, "body.seed", ("integer", "'7'")),
    "a latent too short": ({"latents": [[0, 0], [0]]}, "", JSON, 422, "body.latents[1]", ("has 1 number,", "has 2")),
    "one latent where a list of them belongs": ({"latents": [0, 0]}, "", JSON, 422, "body.latents[0]", ("list",)),
    "no latents": ({"latents": []}, "", JSON, 422, "body.latents", ("1",)),
    "an empty latent": ({"latents": [[]]}, "", JSON, 422, "body.latents[0]", ("1",)),
    "more latents than the limit": ({"latents": [[0, 0]] * 41}, "", JSON, 413, "latents", ("41", "40")),
    "NaN": ({"latents": [[0, float("nan")]]}, "", JSON, 422, "body.latents[0][1]", ("nan", "finite")),
    "infinity": ({"latents": [[float("-inf"), 0]]}, "", JSON, 422, "body.latents[0][0]", ("-inf", "finite")),
    "a number that runs over": ({"latents": [[1e300, 0]]}, "", JSON, 422, "body.latents[0][0]", ("1000000",)),
    "a text in a latent": ({"latents": [["0", 0]]}, "", JSON, 422, "body.latents[0][0]", ("number", "'0'")),
    "a boolean in a latent": ({"latents": [[True, 0]]}, "", JSON, 422, "body.latents[0][0]", ("number", "true")),
    "between one": ({"between": [[0, 0]]}, "", JSON, 422, "body.between", ("2",)),
    "between three": ({"between": [[0, 0]] * 3}, "", JSON, 422, "body.between", ("2",)),
    "between a picture and a latent": (
        {"between": [PICTURE, [0, 0]]},
        "",
        JSON,
        422,
        "body.between",
        ("two pictures or two latents",),
    ),
    "between latents of another length": (
        {"between": [[0, 0], [0, 0, 0]]},
        "",
        JSON,
        422,
        "body.between[1]",
        ("3 numbers", "2"),
    ),
    "NaN at an end": ({"between": [[0, 0], [float("nan"), 0]]}, "", JSON, 422, "body.between[1][0]", ("finite",)),
    "an end that is a number": ({"between": [1, [0, 0]]}, "", JSON, 422, "body.between[0]", ("list",)),
    "an end that is no base64": ({"between": [PICTURE, "***"]}, "", JSON, 422, "body.between[1]", ("base64",)),
    "an end that is no picture": ({"between": ["aGFsbG8=", PICTURE]}, "", JSON, 415, "body.between[0]", ("PNG",)),
    "one frame": ({"between": [[0, 0], [1, 1]], "frames": 1}, "", JSON, 422, "frames", ("2 to 64",)),
    "65 frames": ({"between": [[0, 0], [1, 1]], "frames": 65}, "", JSON, 422, "frames", ("2 to 64", "65")),
    "more frames than pictures are made": (
        {"between": [[0, 0], [1, 1]], "frames": 41},
        "",
        JSON,
        413,
        "frames",
        ("41", "40"),
    ),
    "a grid that is a number": ({"grid": 3}, "", JSON, 422, "body.grid", ("side, dimensions",)),
    "a grid without a side": ({"grid": {}}, "", JSON, 422, "body.grid.side", ("missing",)),
    "a grid of one": ({"grid": {"side": 1}}, "", JSON, 422, "body.grid.side", ("2",)),
    "a grid larger than the limit": ({"grid": {"side": 7}}, "", JSON, 413, "grid", ("7 x 7 = 49", "40")),
    "a grid of three dimensions": (
        {"grid": {"side": 2, "dimensions": [0, 1, 2]}},
        "",
        JSON,
        422,
        "body.grid.dimensions",
        ("2",),
    ),
    "a dimension that the latent has not": (
        {"grid": {"side": 2, "dimensions": [0, 2]}},
        "",
        JSON,
        422,
        "grid.dimensions[1]",
        ("0 to 1", "a latent of 2"),
    ),
    "one dimension twice": (
        {"grid": {"side": 2, "dimensions": [1, 1]}},
        "",
        JSON,
        422,
        "grid.dimensions",
        ("differ",),
    ),
    "an unknown field of a grid": (
        {"grid": {"side": 2, "sides": 2}},
        "",
        JSON,
        422,
        "body.grid.sides",
        ("did you mean 'side'",),
    ),
    "columns of JSON": ({"n": 1, "columns": 1}, "", JSON, 422, "columns", (PNG,)),
    "columns of rows": ({"n": 1, "columns": 1}, "", NPY, 422, "columns", (PNG,)),
    "no columns": ({"n": 1, "columns": 0}, "", PNG, 422, "columns", (f"1 to {MOST}",)),
    "a model that classifies": ({"n": 1, "model": "shades"}, "", JSON, 422, "model", ("made to classify",)),
    "an unknown model": ({"n": 1, "model": "norma"}, "", JSON, 404, "model", ("normal",)),
    "an unknown version": ({"n": 1, "version": "3"}, "", JSON, 404, "version", ("1",)),
    "a list": ([1], "", JSON, 422, "body", ("object",)),
    "no JSON": (b"n=1", "", JSON, 422, "body", ("JSON",)),
    "a field twice": (b'{"n": 1, "n": 2}', "", JSON, 422, "body.n", ("more than once",)),
    "more numbers than anyone asks for": (
        b'{"latents": [[' + b"0," * 20_000 + b"0]]}",
        "",
        JSON,
        413,
        "body",
        ("values",),
    ),
    "no such form of answer": ({"n": 1}, "", "image/jpeg", 406, "header.accept", (JSON, PNG, NPY)),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_what_is_wrong_is_named(coders: LiveServer, fault: Fault) -> None:
    check_fault(coders, PATH, fault)


@pytest.mark.parametrize("kind", ["image/png", "application/x-www-form-urlencoded", ""])
def test_a_body_is_json(coders: LiveServer, kind: str) -> None:
    details = coders.ask("POST", PATH, b'{"n": 1}', {"Content-Type": kind} if kind else {}).problem(415)
    assert details["subject"] == "header.content-type"
    assert details["expected"] == JSON
    assert "image/png" not in details["detail"].replace(repr(kind), "")


def test_a_deadline_that_cannot_be_kept_is_told(coders: LiveServer) -> None:
    ask(coders, PATH, {"n": 1}, x_request_deadline_ms="0").problem(504)


def test_every_example_answers_200_as_it_stands(coders: LiveServer) -> None:
    document = coders.get("/openapi.json").json()
    shown = {}
    for path in ("/v1/reconstruct", PATH):
        examples = document["paths"][path]["post"]["requestBody"]["content"][JSON]["examples"]
        for name, example in examples.items():
            shown[name] = answered(ask(coders, path, example["value"]))
    assert {name.partition(":")[0] for name in shown} == {"plain", "normal", "five", "one"}
    assert "seed" in shown["normal: three draws from the prior"]
    assert "plain: three draws from the prior" not in shown


def test_a_full_queue_refuses_only_what_would_wait_in_it(coders: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = coders.app.state.registry.catalog.get("normal")._batchers["encoder"]
    monkeypatch.setattr(encoder, "max_queued_rows", 0)
    reply = ask(coders, PATH, {"between": [PICTURE, PICTURE]})
    assert reply.problem(429)
    assert reply.header("retry-after")
    ask(coders, "/v1/reconstruct", {"image": PICTURE, "model": "normal"}).problem(429)
    answered(ask(coders, PATH, {"n": 1}))
