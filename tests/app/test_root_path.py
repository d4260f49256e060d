"""Behind a proxy that serves the server under a path of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.coders import PNG
from tests.app.live import LiveServer, open_server
from tests.app.test_bad_input import PNG as PICTURE


@pytest.fixture(scope="module")
def below(models: Path) -> Iterator[LiveServer]:
    with open_server(models, root_path="/ml/lectern") as server:
        yield server


@pytest.mark.parametrize("before", ["", "/ml/lectern"])
def test_requests_come_with_the_path_or_without(below: LiveServer, before: str) -> None:
    reply = below.ask("POST", f"{before}/v1/classify?model=shades", PICTURE, {"Content-Type": PNG})
    assert reply.status == 200
    assert below.get(f"{before}/health/ready").status == 200
    assert below.get(f"{before}/v2").status == 200
    assert below.get(f"{before}/").status == 200
    assert below.get("/ml/lectern").status == 200
    assert below.get("/ml/lecternx/v2").status == 404
    assert below.get("/ml/v2").status == 404


def test_the_document_and_the_pages_name_it(below: LiveServer, server: LiveServer) -> None:
    assert below.get("/ml/lectern/openapi.json").json()["servers"] == [{"url": "/ml/lectern"}]
    assert "servers" not in server.get("/openapi.json").json()
    listed = below.get("/v1/models").json()["models"]
    assert all(model["card"].startswith("/ml/lectern/v1/models/") for model in listed)
    for model in listed:
        assert below.get(model["card"]).json()["name"] == model["name"]
    assert server.get("/v1/models").json()["models"][0]["card"].startswith("/v1/models/")
    page = below.get("/ml/lectern/").body.decode()
    assert "/ml/lectern/v1/classify" in page
    assert 'href="/' not in page  # what is absolute would lead beside it
    assert 'src="/' not in page
