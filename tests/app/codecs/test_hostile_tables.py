"""What is sent to keep the service busy is refused before it can: in time, and in memory that is not the body's."""

from __future__ import annotations

import json
import tracemalloc
from time import process_time
from typing import Any

import pytest

from app.codecs.tables.rows import TableReader
from app.core.errors import ClientError, Unprocessable, shown
from app.core.manifest.table import CategoryColumn, NumberColumn, Table
from app.tasks.classify.endpoint import ENDPOINT
from app.web.request.media_types import JSON
from app.web.request.payload import Payload, parse

READER = TableReader(
    Table(
        columns=(
            NumberColumn(kind="number", name="hours", unit="h", low=0, high=20),
            CategoryColumn(kind="category", name="course", missing=True, categories=("morning", "evening")),
        )
    )
)
SHORT_S = 0.5
"""The old ways took many seconds of each of these."""


@pytest.mark.parametrize(
    "data",
    [
        b"a" * (8 << 20),
        b"hours\n" + b"1" * (30 << 20),
        "größe".encode() * (2 << 20),
        ",".join(["a" + " " * 390 + "b]"] * 1000).encode(),
    ],
    ids=["a header without an end", "a row without an end", "not of ASCII", "names with nearly a unit"],
)
def test_a_hostile_csv_is_refused_at_once(data: bytes) -> None:
    began = process_time()
    with pytest.raises(ClientError):
        READER.csv(data, "", max_rows=1, subject="body")
    assert process_time() - began < SHORT_S


@pytest.mark.parametrize(
    "row",
    [
        {"hours": {"value": 1, "unit": "\ufdfa" * 100_000}},  # each of them is 18 when brought into normal form
        {"hours": "\xdf" * 1_000_000},
        {"hours": "1,5" + "h" * 1_000_000},
        {"hours": 1, "course": "\xdf" * 1_000_000},
        {"\x85" * 1_000_000: 1},  # each of them is 4 when written out
    ],
    ids=["a unit", "a number", "a number with a comma", "a category", "a name"],
)
def test_a_text_of_a_megabyte_is_refused_without_a_copy_of_it(row: dict[str, Any]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Unprocessable) as caught:
            READER.records([row], subject="body.instances")
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()
    assert len(caught.value.detail) < 1000


def test_what_is_shown_of_a_text_ends_with_dots_only_where_it_goes_on() -> None:
    assert shown("a" * 198) == repr("a" * 198)
    assert shown("a" * 199).endswith("aaa...")
    assert len(shown("a" * 1000)) == 200


def parsed(body: str) -> Payload:
    assert ENDPOINT.request is not None
    return parse(JSON, "", body.encode(), query={}, form=ENDPOINT.request, max_rows=8)


@pytest.mark.parametrize("cell", [1, "1", {"value": "1:", "unit": "h"}, "\t" * 50, ":::"])
def test_two_equal_names_are_seen_whatever_else_is_in_the_row(cell: Any) -> None:
    row = f'{{"hours": {json.dumps(cell)}, "hours": 2}}'
    with pytest.raises(Unprocessable, match="'hours' is given more than once"):
        parsed(f'{{"instances": [{row}]}}')


@pytest.mark.parametrize("cell", ["\n" * 201, ["\n" * 201], {"value": "\n" * 201}])
def test_a_body_with_a_text_that_no_cell_can_be_is_not_read_twice(cell: Any) -> None:
    payload = parsed(f'{{"instances": [{{"hours": {json.dumps(cell)}, "a": ":::", "a": 2}}]}}')
    assert payload.instances is not None
    row = {"hours": payload.instances[0]["hours"]}
    with pytest.raises(Unprocessable):
        READER.records([row], subject="body.instances")
