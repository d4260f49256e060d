"""What is wrong in a JSON body is named by its place."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from app.core.errors import TooLarge, Unprocessable
from app.web.request import json_size
from app.web.request.json_body import is_repeated, read_json, read_value
from app.web.request.json_size import MAX_FIELDS, PIECE_BYTES, SMALL_BYTES, check_json


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    size: int
    names: list[str] = []


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    inner: Inner | None = None
    rows: list[list[Annotated[float, Field(allow_inf_nan=False)]]] = []
    name: str = ""


@pytest.mark.parametrize(
    ("body", "place", "words"),
    [
        (b'{"nam": ""}', "body.nam", "there are: inner, name, rows"),
        (b'{"inner": {"size": 1, "nams": []}}', "body.inner.nams", "there are: names, size"),
        (b'{"inner": {}}', "body.inner.size", "missing"),
        (b'{"inner": 3}', "body.inner", "an object with size, names"),
        (b'{"inner": {"size": 1, "names": ["a", 2]}}', "body.inner.names[1]", "it must be a text"),
        (b'{"rows": [[1, 2], [3, "x"]]}', "body.rows[1][1]", "is 'x', it must be a number"),
        (b'{"rows": [[NaN]]}', "body.rows[0][0]", "is nan, it must be a finite number"),
        (b"[]", "body", "an object with inner, rows, name"),
        (b"{", "body", "not JSON"),
        (b'{"name": "", "name": ""}', "body.name", "more than once"),
    ],
)
def test_the_place_is_named_and_what_is_expected_there(body: bytes, place: str, words: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        read_json(body, Outer)
    assert caught.value.subject == place
    assert words in caught.value.detail


def test_a_part_of_a_body_is_named_from_where_it_stands() -> None:
    with pytest.raises(Unprocessable) as caught:
        read_value([1.5, True], TypeAdapter(list[float]), "body.ends[1]")
    assert caught.value.subject == "body.ends[1][1]"
    assert read_value([1, 2.5], TypeAdapter(list[float]), "body") == [1.0, 2.5]
    with pytest.raises(Unprocessable, match="there are: names, size"):
        read_value({"size": 1, "nam": 2}, TypeAdapter(Inner), "body.inner", Inner)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b'{"a": 1}', False),
        (b'{"a": 1, "a" : 2}', True),
        (b'{"a": "\\"a\\": ", "b": "a"}', False),
        (b'{"b": "a", "a": 1, "c": "a"}', False),
        (b'{"a": "' + b"x" * PIECE_BYTES + b'", "a": 1}', True),
        (b" " * (PIECE_BYTES - 2) + b'{"a": 1}', False),  # across the border of two pieces, counted once
    ],
)
def test_a_key_that_stands_there_twice_is_seen(body: bytes, answer: bool) -> None:
    assert is_repeated(body, "a") is answer


@pytest.mark.parametrize("filler", [0, SMALL_BYTES])
def test_a_byte_order_mark_is_skipped_once(filler: int) -> None:
    body = b'{"name": "%b"}' % (b"x" * filler)
    assert check_json(body) is body
    assert check_json(BOM_UTF8 + body) == body
    assert check_json(BOM_UTF8 + BOM_UTF8 + body) == BOM_UTF8 + body
    assert check_json(BOM_UTF8) == b""
    with pytest.raises(Unprocessable, match="not JSON"):
        read_json(check_json(BOM_UTF8 + BOM_UTF8 + body), Outer)


def test_behind_a_byte_order_mark_a_body_is_as_large_as_without() -> None:
    with pytest.raises(TooLarge, match="JSON fields"):
        check_json(BOM_UTF8 + b'{"a":1}' * (MAX_FIELDS + SMALL_BYTES))


def test_signs_inside_texts_are_not_what_a_body_holds() -> None:
    sentences = ['At noon, a man said: [no], "yes", maybe \\'] * 500
    body = json.dumps({"text": sentences}).encode()
    assert check_json(body, values=500, fields=1) is body
    with pytest.raises(TooLarge, match=r"^the body has 499 JSON values, at most 498 are taken$"):
        check_json(body, values=498, fields=1)
    with pytest.raises(TooLarge, match=r"^the body has 1 JSON fields, at most 0 are taken; none$"):
        check_json(body, fields=0, hint="; none")


@given(st.lists(st.text('\\",[:a\u00e9\n'), min_size=1), st.integers(1, 40))
def test_where_texts_end_is_found_in_pieces_of_any_size(texts: list[str], size: int) -> None:
    body = json.dumps({"text": texts, "other": [[1], {"deep": texts}]}).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_size, "PIECE_BYTES", size)
        assert json_size._count_outside_texts(body) == [2 * len(texts), 4, 3]
