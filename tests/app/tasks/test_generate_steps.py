"""POST /v1/generate of models that draw in steps, against what is known of normal distributions in closed form."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.codecs.images.files import encode_png
from app.core.example_commands import example_commands
from app.tasks.generate.schema import GenerateAnswer
from tests.app.coders import JSON, NPY, PNG, answered, ask, at_once, images, opened, rows_of, text
from tests.app.drawers import COLOUR, HIGHEST, LOWEST, MEANS, SHADES, SMALL, SPREADS, arrived, denoised
from tests.app.live import LiveServer

PATH = "/v1/generate"
NOTHING = len(SHADES)  # stands for no label
SIDES = (SMALL.height, SMALL.width)


def generated(server: LiveServer, **body: Any) -> NDArray[Any]:
    """The pictures as numbers, (n, H, W, C)."""
    return rows_of(ask(server, PATH, body, accept=NPY))


def noise(server: LiveServer, n: int, seed: int) -> NDArray[np.float64]:
    """The noise that a seed begins with, read off one step without any spread to speak of: D(x) is affine in x."""
    one = np.float64(generated(server, n=n, seed=seed, steps=1, sampler="ddim", guidance=0))
    mean, spread = MEANS[NOTHING], SPREADS[NOTHING]
    return (one - mean) * (spread**2 + HIGHEST**2) / spread**2 / HIGHEST + mean / HIGHEST


def model_counters(server: LiveServer, model: str = "shades") -> Any:
    return server.app.state.registry.catalog.get(model).counters["denoiser"]


def test_the_noise_of_a_seed_is_standard_normal_and_its_own_for_each_picture(drawers: LiveServer) -> None:
    found = noise(drawers, 30, 5)
    assert abs(found.mean()) < 0.05
    assert abs(found.std() - 1) < 0.05
    assert abs(np.corrcoef(found.reshape(30, -1)) - np.eye(30)).max() < 0.4
    assert np.abs(found - noise(drawers, 30, 6)).max() > 1


@pytest.mark.parametrize("sampler", ["heun", "multistep", "euler", "ddim"])
def test_every_exact_sampler_arrives_where_the_flow_leads(drawers: LiveServer, sampler: str) -> None:
    """dx/dsigma = (x - D(x, sigma)) / sigma has a known solution for a normal distribution."""
    start = HIGHEST * noise(drawers, 4, 9)
    steps, close = {"heun": (200, 2e-3), "multistep": (32, 0.02), "euler": (64, 0.05), "ddim": (64, 0.05)}[sampler]
    got = generated(drawers, n=4, seed=9, sampler=sampler, steps=steps, guidance=0)
    wanted = np.clip(arrived(start, HIGHEST, MEANS[NOTHING], SPREADS[NOTHING]), 0, 1)
    assert np.abs(got - wanted).max() < close


@pytest.mark.parametrize("sampler", ["ancestral", "heun", "multistep"])
@pytest.mark.parametrize("label", range(len(SHADES)))
def test_pictures_have_the_moments_of_their_label(drawers: LiveServer, sampler: str, label: int) -> None:
    steps = 400 if sampler == "ancestral" else 30  # of first order, and only in distribution
    got = generated(drawers, n=20, label=SHADES[label], guidance=1, sampler=sampler, steps=steps, seed=1)
    assert abs(got.mean() - MEANS[label]) < 0.01
    assert abs(got.std() / SPREADS[label] - 1) < 0.1


def test_guidance_goes_on_from_the_plain_answer_past_that_of_the_label(drawers: LiveServer) -> None:
    start = HIGHEST * noise(drawers, 2, 3)
    plain = denoised(start, HIGHEST, MEANS[NOTHING], SPREADS[NOTHING])
    labelled = denoised(start, HIGHEST, MEANS[0], SPREADS[0])
    for weight in (0, 0.5, 1, 1.5):
        got = generated(drawers, n=2, seed=3, steps=1, label="dark", guidance=weight)
        np.testing.assert_allclose(got, plain + weight * (labelled - plain), atol=1e-5)
    default = generated(drawers, n=2, seed=3, steps=1, label="dark")
    np.testing.assert_array_equal(default, got)


def test_labels_that_are_not_named_are_drawn_by_the_seed_and_told(drawers: LiveServer) -> None:
    answer = answered(ask(drawers, PATH, {"n": 40, "seed": 5, "guidance": 1}))
    reported = [result["label"] for result in answer["results"]]
    assert (
        min(reported.count(label) for label in SHADES) >= 4
    )  # 13 of each on average, fewer than 4 by chance in 1 of 1,000
    fewer = answered(ask(drawers, PATH, {"n": 7, "seed": 5, "guidance": 1}))
    assert [result["label"] for result in fewer["results"]] == reported[:7]
    named = answered(ask(drawers, PATH, {"labels": reported, "seed": 5, "guidance": 1}))
    assert named["results"] == answer["results"]


def test_guidance_of_0_draws_without_a_label_and_says_so(drawers: LiveServer) -> None:
    for body in ({}, {"label": "dark"}):
        answer = answered(ask(drawers, PATH, {"n": 2, "seed": 3, "steps": 1, "guidance": 0, **body}))
        assert [result["label"] for result in answer["results"]] == [None, None]


def test_guidance_asks_for_every_row_twice_and_without_a_label_once(drawers: LiveServer) -> None:
    counters = model_counters(drawers)
    for body, rows in (({"label": 1}, 2), ({"label": 1, "guidance": 1}, 1), ({}, 2), ({"label": 1, "guidance": 0}, 1)):
        runs, before = counters.runs, sum(rows * runs for rows, runs in enumerate(counters.runs_of_rows))
        answer = answered(ask(drawers, PATH, {"n": 3, **body}))
        assert answer["evaluations"] == 6
        assert counters.runs - runs == 6
        assert sum(rows * runs for rows, runs in enumerate(counters.runs_of_rows)) - before == 6 * 3 * rows


def test_the_answer_says_how_it_was_drawn(drawers: LiveServer) -> None:
    answer = answered(ask(drawers, PATH, {"labels": ["dark", 2], "seed": 8}))
    GenerateAnswer.model_validate(answer, strict=True)
    reported = {name: answer[name] for name in ("seed", "sampler", "steps", "evaluations", "guidance")}
    assert reported == {"seed": 8, "sampler": "multistep", "steps": 6, "evaluations": 6, "guidance": 1.5}
    assert [result["label"] for result in answer["results"]] == ["dark", "light"]
    assert "strength" not in answer
    answer = answered(ask(drawers, PATH, None, "n=1&sampler=heun&steps=5"))
    assert (answer["steps"], answer["evaluations"], answer["guidance"]) == (5, 9, 1.5)
    assert answer["results"][0]["label"] in SHADES
    query = answered(ask(drawers, PATH, None, "label=light&guidance=2.5&seed=3&sampler=ddim&steps=2"))
    assert query == answered(
        ask(drawers, PATH, {"label": 2, "guidance": 2.5, "seed": 3, "sampler": "ddim", "steps": 2})
    )


def test_a_model_without_labels_and_with_its_channels_first(drawers: LiveServer) -> None:
    answer = answered(ask(drawers, PATH, {"model": "colours", "n": 2, "seed": 4}))
    assert (answer["sampler"], answer["steps"], answer["guidance"]) == ("ddim", 5, None)
    assert "label" not in answer["results"][0]
    assert images(answer["results"]).shape == (2, COLOUR.height, COLOUR.width, 3)


@pytest.mark.parametrize("sampler", ["ancestral", "heun", "multistep", "consistency"])
@pytest.mark.parametrize("accept", [JSON, PNG, NPY])
def test_the_same_seed_gives_the_same_bytes(drawers: LiveServer, accept: str, sampler: str) -> None:
    body = {"n": 3, "sampler": sampler, "steps": 4, "label": "middle"}
    first, again, other = (ask(drawers, PATH, {**body, "seed": seed}, accept=accept) for seed in (3, 3, 4))
    assert first.status == 200
    assert first.body == again.body
    assert first.body != other.body
    assert first.header("x-seed") == "3"


@pytest.mark.parametrize("sampler", ["ancestral", "consistency", "multistep"])
def test_a_picture_of_a_seed_does_not_depend_on_how_many_there_are(drawers: LiveServer, sampler: str) -> None:
    many, few = (generated(drawers, n=n, seed=21, sampler=sampler, steps=4) for n in (7, 3))
    np.testing.assert_allclose(many[:3], few, atol=1e-6)


def test_beside_strangers_pictures_stay_their_own(drawers: LiveServer) -> None:
    bodies = [{"n": 2, "seed": s, "label": s % 3, "steps": 4 + s % 5, "sampler": "ancestral"} for s in range(12)]
    alone = [generated(drawers, **body) for body in bodies]
    counters = model_counters(drawers)
    for _ in range(20):
        runs = counters.runs
        for wanted, (_, got) in zip(alone, at_once(drawers, PATH, bodies), strict=True):
            rows = np.frombuffer(got[-wanted.nbytes :], np.float32).reshape(wanted.shape)
            assert np.abs(rows - wanted).max() <= 1 / 255
        if counters.runs - runs < sum(body["steps"] for body in bodies):
            return  # they have shared runs
    pytest.fail("no run was ever shared")


# A picture to begin with.

CORNER = np.zeros(SIDES, np.uint8)
CORNER[:3, :4] = 201  # no digit's picture has its ink there
CORNER[1, 1] = 77
BELOW = np.zeros(SIDES, np.uint8)
BELOW[SIDES[0] // 2 :] = 255


def as_text(pixels: NDArray[np.uint8]) -> str:
    return text(encode_png(pixels))


def test_without_strength_a_picture_stays_as_it_is_to_the_byte(drawers: LiveServer) -> None:
    answer = answered(ask(drawers, PATH, {"init_image": as_text(CORNER), "strength": 0}))
    assert (answer["strength"], answer["evaluations"]) == (0, 0)
    np.testing.assert_array_equal(opened(answer["results"][0]["image"]), CORNER)
    (nested,) = answered(ask(drawers, PATH, {"init_image": CORNER.tolist(), "strength": 0}))["results"]
    np.testing.assert_array_equal(opened(nested["image"]), CORNER)


def test_a_picture_of_another_size_is_read_as_the_model_reads_any(drawers: LiveServer) -> None:
    large = np.zeros((50, 40), np.uint8)
    large[5:35, 5:15] = 255  # an upright stroke, to be brought into the box and its middle
    (read,) = answered(ask(drawers, PATH, {"init_image": as_text(large), "strength": 0}))["results"]
    pixels = opened(read["image"])
    ink = np.argwhere(pixels > 100)
    assert (ink.max(axis=0) - ink.min(axis=0) + 1)[0] == SMALL.box
    assert abs(ink.mean(axis=0) - np.array(SIDES) / 2).max() <= 0.6


@pytest.mark.parametrize("strength", [0.3, 0.7])
def test_with_strength_the_flow_begins_at_the_picture_under_noise(drawers: LiveServer, strength: float) -> None:
    sigma = (LOWEST ** (1 / 7) + strength * (HIGHEST ** (1 / 7) - LOWEST ** (1 / 7))) ** 7
    start = CORNER[None, :, :, None] / 255 + sigma * noise(drawers, 3, 6)
    got = generated(drawers, n=3, seed=6, init_image=as_text(CORNER), strength=strength, sampler="heun", steps=200)
    wanted = np.clip(arrived(start, sigma, MEANS[NOTHING], SPREADS[NOTHING]), 0, 1)
    assert np.abs(got - wanted).max() < 5e-3


@pytest.mark.parametrize("sampler", ["ancestral", "heun", "multistep", "consistency"])
@pytest.mark.parametrize("strength", [0.5, 1])
def test_what_the_mask_leaves_black_is_kept_to_the_byte(drawers: LiveServer, sampler: str, strength: float) -> None:
    body = {"init_image": as_text(CORNER), "mask": as_text(BELOW), "seed": 2, "n": 3, "strength": strength}
    body |= {"sampler": sampler, "steps": 4, "label": "light"}
    known = BELOW == 0
    result = images(answered(ask(drawers, PATH, body))["results"])
    assert (result[:, known] == CORNER[known]).all()
    assert (result[:, ~known] != CORNER[~known]).mean() > 0.9
    rows = rows_of(ask(drawers, PATH, body, accept=NPY))[..., 0]
    assert (rows[:, known] == np.float32(CORNER[known] / 255)).all()
    alone = opened(ask(drawers, PATH, body | {"n": 1}, accept=PNG).body)
    np.testing.assert_array_equal(alone[known], CORNER[known])


def test_beside_a_mask_levels_are_come_back_to(drawers: LiveServer) -> None:
    body = {"init_image": as_text(CORNER), "mask": as_text(BELOW), "seed": 2}
    counters = model_counters(drawers)
    for options, sampler, visits, evaluations in (
        ({}, "ancestral", 2, 31),
        ({"visits": 5, "steps": 4}, "ancestral", 5, 16),
        ({"visits": 1}, "ancestral", 1, 16),
        ({"sampler": "multistep"}, "multistep", 1, 6),
        ({"strength": 0}, "ancestral", 2, 0),
    ):
        runs = counters.runs
        answer = answered(ask(drawers, PATH, {**body, **options}))
        assert (answer["sampler"], answer["visits"], answer["evaluations"]) == (sampler, visits, evaluations)
        assert counters.runs - runs == evaluations
    assert "visits" not in answered(ask(drawers, PATH, {"init_image": as_text(CORNER)}))


def test_a_mask_has_its_channels_where_the_model_has_them(drawers: LiveServer) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (COLOUR.height, COLOUR.width, 3), np.uint8)
    mask = np.zeros((COLOUR.height, COLOUR.width), np.uint8)
    mask[:, 2:] = 200
    body = {"model": "colours", "init_image": as_text(picture), "mask": as_text(mask)}
    (result,) = images(answered(ask(drawers, PATH, body))["results"])
    np.testing.assert_array_equal(result[:, :2], picture[:, :2])
    assert (result[:, 2:] != picture[:, 2:]).mean() > 0.9


def test_the_forward_chain_begins_with_the_picture_and_ends_in_noise(drawers: LiveServer) -> None:
    runs = model_counters(drawers, "colours").runs
    grey = np.full((COLOUR.height, COLOUR.width, 3), 128, np.uint8)
    body = {"model": "colours", "init_image": as_text(grey), "forward": 6, "seed": 1}
    answer = answered(ask(drawers, PATH, body))
    assert (answer["steps"], answer["evaluations"]) == (6, 0)
    assert model_counters(drawers, "colours").runs == runs
    sigmas = [result["sigma"] for result in answer["results"]]
    assert sigmas == sorted(sigmas)
    assert (sigmas[0], sigmas[1], sigmas[-1]) == (0, 0.02, 10)
    result = images(answer["results"])
    np.testing.assert_array_equal(result[0], grey)
    # Medians, because black and white cut the tails off: q(x_t | x_0) in units where both have variance 1.
    for picture, sigma in zip(result[1:], sigmas[1:], strict=True):
        spread = np.median(np.abs(picture / 255 - 0.5)) / 0.6745
        assert abs(spread / (sigma / np.sqrt(1 + 4 * sigma**2)) - 1) < 0.25
    assert ask(drawers, PATH, body, accept=PNG).body == ask(drawers, PATH, body, accept=PNG).body
    assert opened(ask(drawers, PATH, body, accept=PNG).body).shape == (COLOUR.height, 7 * (COLOUR.width + 2) - 2, 3)


# name -> (body, status, subject, words that the answer must have)
PICTURE = as_text(CORNER)
FAULTS: dict[str, tuple[dict[str, Any], int, str, tuple[str, ...]]] = {
    "a sampler not offered": ({"n": 1, "sampler": "dpm"}, 422, "sampler", ("multistep, heun, ancestral",)),
    "a sampler of another model": ({"n": 1, "sampler": "heun", "model": "colours"}, 422, "sampler", ("has ddim",)),
    "a slip in a sampler": ({"n": 1, "sampler": "heum"}, 422, "sampler", ("did you mean 'heun'",)),
    "too many steps": ({"n": 1, "steps": 33}, 422, "steps", ("1 to 32", "'multistep'", "'shades'")),
    "more steps than another sampler takes": (
        {"n": 1, "steps": 5, "sampler": "consistency"},
        422,
        "steps",
        ("1 to 4", "'consistency'"),
    ),
    "no steps": ({"n": 1, "steps": 0}, 422, "steps", ("1 to 32",)),
    "half a step": ({"n": 1, "steps": 1.5}, 422, "body.steps", ("integer",)),
    "too much guidance": ({"label": 1, "guidance": 8.5}, 422, "guidance", ("8.5", "0 to 8", "'shades'")),
    "guidance below 0": ({"label": 1, "guidance": -1}, 422, "guidance", ("0 to 8",)),
    "guidance that is no number": ({"label": 1, "guidance": float("nan")}, 422, "body.guidance", ("finite",)),
    "guidance towards nothing": ({"n": 1, "guidance": 2, "init_image": as_text(CORNER)}, 422, "guidance", ("label",)),
    "guidance where there is none": (
        {"n": 1, "guidance": 2, "model": "colours"},
        422,
        "guidance",
        ("no labels to be guided by", "sampler, steps"),
    ),
    "a label where there is none": ({"label": 2, "model": "colours"}, 422, "label", ("has no labels",)),
    "an unknown label": ({"label": "lihgt"}, 422, "label", ("did you mean 'light'", "dark, middle, light")),
    "labels of another number": ({"labels": [0, 1], "n": 1}, 422, "labels", ("has 2", "n is 1")),
    "latents": ({"latents": [[0.0]]}, 422, "latents", ("no latent", "n, forward, seed")),
    "a plane": ({"grid": {"side": 2}}, 422, "grid", ("no latent",)),
    "a way": ({"between": [[0.0], [1.0]]}, 422, "between", ("no latent",)),
    "a mask without a picture": ({"n": 1, "mask": PICTURE}, 422, "mask", ("no init_image",)),
    "a mask alone": ({"mask": PICTURE}, 422, "mask", ("no init_image",)),
    "strength without a picture": ({"n": 1, "strength": 0.5}, 422, "strength", ("no init_image",)),
    "strength above 1": ({"init_image": PICTURE, "strength": 1.01}, 422, "strength", ("1.01", "0 to 1")),
    "strength below 0": ({"init_image": PICTURE, "strength": -0.1}, 422, "strength", ("-0.1", "0 to 1")),
    "a mask of another size": (
        {"init_image": PICTURE, "mask": as_text(BELOW[:8])},
        422,
        "mask",
        ("10x8", "10x12"),
    ),
    "a picture of another size under a mask": (
        {"init_image": as_text(np.zeros((40, 40), np.uint8)), "mask": as_text(BELOW)},
        422,
        "init_image",
        ("40x40", "10x12"),
    ),
    "a mask that is black": ({"init_image": PICTURE, "mask": as_text(0 * BELOW)}, 422, "mask", ("black everywhere",)),
    "a mask that is a number": ({"init_image": PICTURE, "mask": 1}, 422, "mask", ("base64",)),
    "a picture that is none": ({"init_image": "aGFsbG8="}, 415, "init_image", ("PNG",)),
    "a picture that is no base64": ({"init_image": "***"}, 422, "init_image", ("base64",)),
    "nested pixels of another size": ({"init_image": [[0, 0, 0, 0]] * 4}, 422, "init_image", ("12 lists of 10",)),
    "visits without a mask": ({"init_image": PICTURE, "visits": 2}, 422, "visits", ("a mask",)),
    "visits of another sampler": (
        {"init_image": PICTURE, "mask": PICTURE, "visits": 2, "sampler": "heun"},
        422,
        "visits",
        ("the sampler ancestral", "heun"),
    ),
    "visits of a model without that sampler": (
        {"init_image": PICTURE, "mask": PICTURE, "visits": 2, "model": "colours"},
        422,
        "visits",
        ("does not have the sampler ancestral",),
    ),
    "too many visits": ({"init_image": PICTURE, "mask": PICTURE, "visits": 11}, 422, "visits", ("1 to 10",)),
    "noise on nothing": ({"forward": 3}, 422, "init_image", ("forward adds noise to a picture",)),
    "noise in no steps": ({"init_image": PICTURE, "forward": 0}, 422, "forward", ("1 to 64",)),
    "more levels than pictures are made": (
        {"init_image": PICTURE, "forward": 40},
        413,
        "forward",
        ("1 + 40 = 41", "40"),
    ),
    "steps of the forward chain": (
        {"init_image": PICTURE, "forward": 4, "steps": 4},
        422,
        "steps",
        ("belongs to n", "forward"),
    ),
    "draws and the forward chain": (
        {"init_image": PICTURE, "forward": 4, "n": 4},
        422,
        "forward",
        ("n and forward",),
    ),
}


@pytest.mark.parametrize(("body", "status", "subject", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_what_is_wrong_is_named(
    drawers: LiveServer, body: dict[str, Any], status: int, subject: str, words: tuple[str, ...]
) -> None:
    ask(drawers, PATH, body).assert_refused(status, subject, words)


def test_every_example_answers_200_as_it_stands(drawers: LiveServer) -> None:
    document = drawers.get("/openapi.json").json()
    shown = document["paths"][PATH]["post"]["requestBody"]["content"][JSON]["examples"]
    for name, example in shown.items():
        answer = answered(ask(drawers, PATH, example["value"]))
        GenerateAnswer.model_validate(answer, strict=True)
        assert answer["model"] == name.partition(":")[0]
    assert {name.partition(":")[0] for name in shown} == {"shades", "colours", "waves", "kinds"}


def test_the_document_has_the_limits_of_the_models(drawers: LiveServer) -> None:
    document = drawers.get("/openapi.json").json()
    body = document["components"]["schemas"]["GenerateRequest"]["properties"]
    assert set(body["sampler"]["enum"]) == {"multistep", "heun", "ancestral", "consistency", "euler", "ddim"}
    assert body["steps"]["maximum"] == 1000
    assert (body["guidance"]["minimum"], body["guidance"]["maximum"]) == (0, 8)
    assert body["label"]["anyOf"] == [
        {"type": "string", "enum": list(SHADES)},
        {"type": "integer", "minimum": 0, "maximum": 2},
    ]


def test_the_card_tells_of_labels_samplers_and_guidance(drawers: LiveServer) -> None:
    card = drawers.get("/v1/models/shades").json()
    assert card["labels"] == list(SHADES)
    assert card["sampling"]["guidance"] == {"weight": 1.5, "max_weight": 8.0}
    assert card["sampling"]["samplers"][1] == {"name": "heun", "steps": 4, "max_steps": 200}
    assert drawers.get("/v1/models/colours").json()["sampling"]["guidance"] is None
    assert drawers.get("/v1/models/waves").json()["sampling"] is None


@pytest.mark.parametrize("model", ["shades", "colours", "waves", "kinds"])
def test_the_first_requests_that_are_shown_are_answered(drawers: LiveServer, model: str) -> None:
    manifest = drawers.app.state.registry.catalog.get(model).manifest
    lines = example_commands(manifest, "")
    kinds = [PNG] if model in ("waves", "kinds") else [PNG, "text/event-stream"]
    for line, kind in zip(lines, kinds, strict=True):
        accept, path = re.fullmatch(r"curl (?:-N )?-X POST -H 'Accept: (.*?)' '(.*?)'.*", line).groups()  # type: ignore[union-attr]
        reply = drawers.ask("POST", path, headers={"Accept": accept})
        assert (reply.status, reply.header("content-type").partition(";")[0]) == (200, kind)  # type: ignore[union-attr]
