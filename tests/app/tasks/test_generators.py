"""POST /v1/generate of models that draw in one evaluation, with labels and without, against known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.core.sampling.latents import between, plane, sample_prior
from app.tasks.generate.schema import GenerateAnswer
from tests.app.coders import NPY, answered, ask, images, rows_of, runs
from tests.app.drawers import LATENT, SHADES, SMALL, generated
from tests.app.live import LiveServer

PATH = "/v1/generate"


def pictures(latents: Any, labels: list[int] | None = None) -> Any:
    """The generator's pictures in 8 bits, (rows, H, W)."""
    exact = np.clip(generated(latents, SMALL, labels or ()), 0, 1)[..., 0]
    return np.rint(255 * exact).astype(np.uint8)


def near(got: Any, wanted: Any) -> None:
    """Equal, but for what lies half-way between two grey levels."""
    assert np.abs(np.int16(got) - np.int16(wanted)).max() <= 1


def test_a_generator_draws_from_the_seed(drawers: LiveServer) -> None:
    answer = answered(ask(drawers, PATH, {"model": "waves", "n": 5, "seed": 7}))
    GenerateAnswer.model_validate(answer, strict=True)
    latents = sample_prior(5, LATENT, 7)
    assert answer["seed"] == 7
    np.testing.assert_array_equal(np.array([r["latent"] for r in answer["results"]], np.float32), latents)
    near(images(answer["results"]), pictures(latents))
    assert not any("label" in result for result in answer["results"])
    assert not {"sampler", "steps", "guidance"} & answer.keys()


def test_it_is_asked_once_for_all_pictures(drawers: LiveServer) -> None:
    before = runs(drawers, "waves", "generator")
    answered(ask(drawers, PATH, {"model": "waves", "n": 9}))
    assert runs(drawers, "waves", "generator") == before + 1


def test_a_label_is_named_or_numbered_for_all_or_for_each(drawers: LiveServer) -> None:
    latents = sample_prior(3, LATENT, 4)
    for body, labels in (
        ({"label": "light", "n": 3}, [2, 2, 2]),
        ({"label": 0, "n": 3}, [0, 0, 0]),
        ({"labels": ["light", 1, "dark"]}, [2, 1, 0]),
        ({"labels": [0, 0, 1], "n": 3}, [0, 0, 1]),
    ):
        answer = answered(ask(drawers, PATH, {"model": "kinds", "seed": 4, **body}))
        assert [result["label"] for result in answer["results"]] == [SHADES[label] for label in labels]
        near(images(answer["results"]), pictures(latents, labels))


def test_a_label_alone_asks_for_one_picture(drawers: LiveServer) -> None:
    (one,) = answered(ask(drawers, PATH, {"model": "kinds", "label": "dark"}))["results"]
    assert one["label"] == "dark"
    (same,) = answered(ask(drawers, PATH, None, "model=kinds&label=dark"))["results"]
    assert same["label"] == "dark"


def test_without_a_label_it_is_drawn_of_the_seed_and_told(drawers: LiveServer) -> None:
    answer = answered(ask(drawers, PATH, {"model": "kinds", "n": 40, "seed": 11}))
    labels = [result["label"] for result in answer["results"]]
    assert set(labels) == set(SHADES)
    near(images(answer["results"]), pictures(sample_prior(40, LATENT, 11), [SHADES.index(label) for label in labels]))
    fewer = answered(ask(drawers, PATH, {"model": "kinds", "n": 7, "seed": 11}))
    assert fewer["results"] == answer["results"][:7]
    again = answered(ask(drawers, PATH, {"model": "kinds", "labels": labels, "seed": 11}))
    assert again == answer


@pytest.mark.parametrize("accept", ["application/json", "image/png", NPY])
def test_the_same_seed_gives_the_same_bytes(drawers: LiveServer, accept: str) -> None:
    body = {"model": "kinds", "n": 3}
    first, again, other = (ask(drawers, PATH, {**body, "seed": seed}, accept=accept) for seed in (3, 3, 4))
    assert first.status == 200
    assert first.body == again.body
    assert first.body != other.body


def test_latents_are_given_with_their_labels(drawers: LiveServer) -> None:
    latents = [[0.5, 0, 0, 0], [0, -1, 0, 2]]
    rows = rows_of(ask(drawers, PATH, {"model": "kinds", "latents": latents, "labels": [2, 0]}, accept=NPY))
    np.testing.assert_allclose(rows, np.clip(generated(latents, SMALL, [2, 0]), 0, 1), atol=1e-6)
    rows = rows_of(ask(drawers, PATH, {"model": "waves", "latents": latents}, accept=NPY))
    np.testing.assert_allclose(rows, np.clip(generated(latents, SMALL), 0, 1), atol=1e-6)


def test_the_way_between_two_latents_is_an_arc_and_a_plane_shows_quantiles(drawers: LiveServer) -> None:
    a, b = np.array([2, 0, 0, 0], np.float32), np.array([0, 2, 0, 0], np.float32)
    body = {"model": "kinds", "between": [a.tolist(), b.tolist()], "frames": 3, "label": "light"}
    answer = answered(ask(drawers, PATH, body))
    assert answer["interpolation"] == "spherical"
    near(images(answer["results"]), pictures(between(a, b, 3, spherical=True), [2] * 3))
    manifest = drawers.app.state.registry.catalog.get("waves").manifest
    answer = answered(ask(drawers, PATH, {"model": "waves", "grid": {"side": 3, "dimensions": [1, 3]}}))
    near(images(answer["results"]), pictures(plane(manifest.latent, 3, (1, 3))))


# name -> (body, subject, words that the answer must have)
FAULTS: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "an unknown label": ({"model": "kinds", "label": "drak"}, "label", ("did you mean 'dark'", "dark, middle, light")),
    "a number that no label has": ({"model": "kinds", "label": 3}, "label", ("3", "0 to 2")),
    "a number below 0": ({"model": "kinds", "label": -1}, "label", ("-1", "0 to 2")),
    "a truth for a label": ({"model": "kinds", "label": True}, "label", ("true", "0 to 2")),
    "an unknown label among others": ({"model": "kinds", "labels": [0, "x"]}, "labels[1]", ("'x'", "light")),
    "fewer labels than pictures": ({"model": "kinds", "labels": [0, 1], "n": 3}, "labels", ("has 2", "n is 3")),
    "more labels than latents": (
        {"model": "kinds", "labels": [0, 1], "latents": [[0] * LATENT]},
        "labels",
        ("has 2", "are 1"),
    ),
    "label and labels": ({"model": "kinds", "label": 1, "labels": [0]}, "labels", ("both",)),
    "labels of a way": (
        {"model": "kinds", "labels": [0, 1], "between": [[0] * LATENT, [1] * LATENT]},
        "labels",
        ("belongs to n or latents", "between"),
    ),
    "latents without a label": ({"model": "kinds", "latents": [[0] * LATENT]}, "label", ("dark, middle, light",)),
    "a way without a label": (
        {"model": "kinds", "between": [[0] * LATENT, [1] * LATENT]},
        "label",
        ("between takes a label",),
    ),
    "a plane without a label": ({"model": "kinds", "grid": {"side": 2}}, "label", ("grid takes a label",)),
    "a label of a model without": ({"model": "waves", "label": 1}, "label", ("has no labels", "latents, n, between")),
    "a sampler": ({"model": "waves", "n": 1, "sampler": "heun"}, "sampler", ("in one evaluation", "seed")),
    "guidance": ({"model": "kinds", "label": 1, "guidance": 2}, "guidance", ("in one evaluation",)),
    "a picture to begin with": ({"model": "waves", "init_image": "x"}, "init_image", ("in one evaluation",)),
    "a picture under noise": (
        {"model": "waves", "init_image": "x", "forward": 3},
        "forward",
        ("in one evaluation",),
    ),
    "the way between two pictures": (
        {"model": "waves", "between": ["x", "y"]},
        "body.between[0]",
        ("codes none", f"a latent of {LATENT}"),
    ),
    "a latent too short": ({"model": "waves", "latents": [[1]]}, "body.latents[0]", ("1 number", str(LATENT))),
}


def test_more_labels_than_pictures_are_made_are_told(drawers: LiveServer) -> None:
    details = ask(drawers, PATH, {"model": "kinds", "labels": [0] * 41}).problem(413)
    assert details["subject"] == "labels"
    assert "41 pictures, at most 40" in details["detail"]


@pytest.mark.parametrize(("body", "subject", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_what_is_wrong_is_named(
    drawers: LiveServer, body: dict[str, Any], subject: str, words: tuple[str, ...]
) -> None:
    ask(drawers, PATH, body).assert_refused(422, subject, words)


def test_a_label_that_there_is_not_is_refused_in_the_other_protocol_too(drawers: LiveServer) -> None:
    latent = {"name": "latent", "datatype": "FP32", "shape": [1, LATENT], "data": [0.0] * LATENT}
    most = len(SHADES) - 1
    for label, status in ((0, 200), (most, 200), (most + 1, 400), (-1, 400)):
        inputs = [latent, {"name": "label", "datatype": "INT64", "shape": [1], "data": [label]}]
        reply = ask(drawers, "/v2/models/kinds/infer", {"inputs": inputs})
        assert reply.status == status, reply.body
        if status == 400:
            assert f"input 'label'[0] is {label}, expected a whole number from 0 to {most}" in reply.body.decode()
