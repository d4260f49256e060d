"""Requests made from the document, right and wrong ones: no 500, no undocumented status, no answer of another shape.

What is sent is chosen from the document alone, so that the document and the server are held against each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.app.live import LiveServer, open_server
from tests.made_models import make_classifier_folder

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
BOUNDED = settings(
    deadline=None, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


def drive(server: LiveServer, mode: GenerationMode, examples: int, *, below: str = "/") -> dict[str, set[int]]:
    """Send what the document allows (or forbids) to the paths below one; the statuses that came, by path."""
    schema = schemathesis.openapi.from_dict(server.app.openapi())
    seen: dict[str, set[int]] = {}

    def ask(case: Case) -> None:
        response = case.call(base_url=server.url)
        case.validate_response(response, checks=CHECKS)
        # A case that should be wrong is right where only an optional part was left out, which its own mode says; and
        # whatever is sent as text is a text.
        is_right = case.meta is not None and case.meta.generation.mode.is_positive
        if mode.is_positive or not (is_right or case.media_type == "text/plain"):
            seen.setdefault(case.path, set()).add(response.status_code)

    for found in schema.get_all_operations():
        operation = found.ok()
        definition = operation.definition.raw
        if not operation.path.startswith(below):
            continue
        if mode.is_negative and not ("requestBody" in definition or definition.get("parameters")):
            continue  # there is no wrong way to ask
        count = examples if "requestBody" in definition else 5
        settings(BOUNDED, max_examples=count)(given(operation.as_strategy(mode))(ask))()
    return seen


@pytest.mark.filterwarnings("default")  # of the tools that make the requests
def test_what_the_document_allows_is_answered_as_it_says(server: LiveServer) -> None:
    seen = drive(server, GenerationMode.POSITIVE, 40)
    assert set(seen) == set(server.app.openapi()["paths"])
    assert seen["/v1/models/{name}"] <= {200, 404}
    for page in ("", "/config", "/stats"):  # names and versions of the document
        assert seen["/v2/models/{name}" + page] == {200}
        assert seen["/v2/models/{name}/versions/{version}" + page] <= {200, 404}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_what_the_document_forbids_is_refused_as_it_says(server: LiveServer) -> None:
    seen = drive(server, GenerationMode.NEGATIVE, 40)
    assert 422 in seen["/v1/classify"]
    assert 400 in seen["/v2/models/{name}/infer"]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_loading_and_unloading_answer_as_the_document_says(tmp_path: Path, mode: GenerationMode) -> None:
    make_classifier_folder(tmp_path, "one")
    with open_server(tmp_path, model_control=True, poll_s=0) as server:
        seen = drive(server, mode, 15, below="/v2/repository/models")
        assert len(seen) == 2
        assert all(statuses <= {200, 400, 404} for statuses in seen.values())
        assert server.get("/v2/health/live").status == 200


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", ["/v1/classify", "/v1/regress"])
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_tables_are_answered_as_the_document_says(tables: LiveServer, mode: GenerationMode, path: str) -> None:
    assert 422 in drive(tables, mode, 100, below=path)[path]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("fixture", "path", "examples", "at_least", "at_most"),
    [
        ("coders", "/v1/reconstruct", 100, {200, 422}, {200, 415, 422}),  # random bytes as a picture: 415
        ("coders", "/v1/generate", 100, {200, 422}, {200, 415, 422}),
        ("drawers", "/v1/generate", 60, set(), {200, 415, 422}),
        ("translators", "/v1/translate", 100, set(), {200, 413, 415, 422}),
        ("denoisers", "/v1/denoise", 100, set(), {200, 413, 415, 422}),
        ("hearers", "/v1/transcribe", 100, {422}, {200, 409, 413, 415, 422}),
        ("hearers", "/v1/audio", 60, {400}, {200, 400, 413}),
        ("watchers", "/v1/label-frames", 100, {200, 422}, {200, 415, 422}),
        ("writers", "/v1/caption", 60, {422}, {200, 413, 415, 422}),
        ("writers", "/v1/classify", 60, {422}, {200, 404, 413, 415, 422}),  # rows, and no model of tables: 404
        ("writers", "/v1/translate", 60, {422}, {200, 413, 415, 422}),
        ("writers", "/translate", 60, {400}, {200, 400, 413}),
    ],
)
def test_tasks_of_files_answer_as_the_document_says(
    request: pytest.FixtureRequest, fixture: str, path: str, examples: int, at_least: set[int], at_most: set[int]
) -> None:
    server: LiveServer = request.getfixturevalue(fixture)
    (seen,) = drive(server, GenerationMode.POSITIVE, examples, below=path).values()
    assert at_least <= seen <= at_most
    (seen,) = drive(server, GenerationMode.NEGATIVE, examples, below=path).values()
    assert 200 not in seen
