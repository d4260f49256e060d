"""POST /v1/generate in the OpenAPI document: what it allows is made, and the next larger is refused."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from app.codecs.images.files import encode_png
from app.tasks.generate import plans
from app.tasks.generate.openapi import describe
from app.web.openapi.operation import Operation
from app.web.request.limits import Limits
from tests.app.coders import MOST, SIDE, answered, ask, text
from tests.app.live import LiveServer

PATH = "/v1/generate"
ENDS = {"between": [[0, 0], [1, 1]]}


def documented(server: LiveServer) -> dict[str, Any]:
    schema: dict[str, Any] = server.get("/openapi.json").json()["components"]["schemas"]["GenerateRequest"]
    return schema


def limits(*, max_rows: int = MOST, max_pixels: int = 1 << 20) -> Limits:
    return Limits(max_rows=max_rows, max_pixels=max_pixels, max_body_bytes=1, body_timeout_s=1, request_timeout_s=1)


def largest(operation: Operation) -> dict[str, int]:
    inputs = operation.inputs
    return {
        "n": operation.options["n"]["maximum"],
        "forward": operation.options["forward"]["maximum"],
        "frames": inputs["frames"]["maximum"],
        "side": inputs["grid"]["properties"]["side"]["maximum"],
        "latents": inputs["latents"]["maxItems"],
        "labels": inputs["labels"]["maxItems"],
    }


@pytest.mark.parametrize(("name", "most", "more"), [("n", MOST, 422), ("frames", MOST, 413), ("side", 6, 413)])
def test_the_largest_that_it_allows_is_made_and_no_larger_one(
    coders: LiveServer, name: str, most: int, more: int
) -> None:
    def body(value: int) -> dict[str, Any]:
        return {"grid": {"side": value}} if name == "side" else {name: value} | (ENDS if name == "frames" else {})

    schema = documented(coders)["properties"]
    field = schema["grid"]["properties"]["side"] if name == "side" else schema[name]
    assert field["maximum"] == most
    assert len(answered(ask(coders, PATH, body(most)))["results"]) == (36 if name == "side" else MOST)
    ask(coders, PATH, body(most + 1)).problem(more)


def test_the_picture_that_noise_is_added_to_counts_as_one(drawers: LiveServer) -> None:
    most = documented(drawers)["properties"]["forward"]["maximum"]
    assert most == MOST - 1
    body = {"init_image": text(encode_png(np.zeros((12, 10), np.uint8))), "model": "shades"}
    assert len(answered(ask(drawers, PATH, body | {"forward": most}))["results"]) == MOST
    ask(drawers, PATH, body | {"forward": most + 1}).problem(413)


def test_pixels_bound_it_where_they_are_fewer_than_rows(coders: LiveServer) -> None:
    operation = describe(coders.app.state.registry, limits(max_pixels=10 * SIDE * SIDE - 1))
    assert largest(operation) == {"n": 9, "forward": 8, "frames": 9, "side": 3, "latents": 9, "labels": 9}


def test_its_examples_keep_within_the_smallest_limits(coders: LiveServer) -> None:
    few = limits(max_rows=1)
    requests = describe(coders.app.state.registry, few).requests.values()
    assert {plans.mode(body) for body in requests} == {"n", "latents"}
    for body in requests:
        model = coders.app.state.registry.catalog.get(body["model"])
        assert plans.plan(plans.mode(body), body, model, few).n == 1


@pytest.mark.parametrize(("most", "frames"), [(40, 9), (9, 9), (8, 8), (2, 2)])
def test_a_path_without_a_number_of_frames_has_no_more_than_are_made(
    coders: LiveServer, most: int, frames: int
) -> None:
    model = coders.app.state.registry.catalog.get("normal")
    assert plans.plan("between", ENDS, model, limits(max_rows=most)).n == frames


def test_the_body_needs_nothing_that_the_query_may_have(coders: LiveServer) -> None:
    operation = coders.get("/openapi.json").json()["paths"][PATH]["post"]
    schema = documented(coders)
    assert not operation["requestBody"]["required"]
    for place in (schema, operation):
        assert "The query or the body has one of `latents`, `n`, `between`, `grid`, `forward`" in place["description"]
    answered(ask(coders, PATH, None, "n=1"))
    for body in ({}, {"seed": 1}):
        jsonschema_rs.validate(schema, body)
        answered(ask(coders, PATH, body, "n=1"))
