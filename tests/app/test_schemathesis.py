"""Requests made from the document, right and wrong ones: no 500, no undocumented status, no answer of another shape.

What is sent is chosen from the document alone, so that the document and the server are held against each other.
"""

from __future__ import annotations

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

from tests.app.house import House

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


def drive(house: House, mode: GenerationMode, examples: int) -> dict[str, set[int]]:
    """Send what the document allows (or forbids); the statuses that came, by path."""
    schema = schemathesis.openapi.from_dict(house.app.openapi())
    seen: dict[str, set[int]] = {}

    def ask(case: Case) -> None:
        response = case.call(base_url=house.url)
        case.validate_response(response, checks=CHECKS)
        seen.setdefault(case.path, set()).add(response.status_code)

    for found in schema.get_all_operations():
        operation = found.ok()
        definition = operation.definition.raw
        if mode.is_negative and not ("requestBody" in definition or definition.get("parameters")):
            continue  # there is no wrong way to ask
        count = examples if "requestBody" in definition else 5
        settings(BOUNDED, max_examples=count)(given(operation.as_strategy(mode))(ask))()
    return seen


@pytest.mark.filterwarnings("default")  # of the tools that make the requests
def test_what_the_document_allows_is_answered_as_it_says(house: House) -> None:
    seen = drive(house, GenerationMode.POSITIVE, 40)
    assert set(seen) == set(house.app.openapi()["paths"])
    assert seen["/v1/models/{name}"] <= {200, 404}


@pytest.mark.filterwarnings("default")
def test_what_the_document_forbids_is_refused_as_it_says(house: House) -> None:
    seen = drive(house, GenerationMode.NEGATIVE, 40)
    assert 422 in seen["/v1/classify"]
