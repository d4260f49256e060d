"""The small parsers of headers and options: any text is understood or refused, and nothing else."""

from __future__ import annotations

import string
from contextlib import suppress
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from app.core.errors import NotAcceptable, Unprocessable
from app.core.text import described
from app.web.request.head import choose
from app.web.request.options import from_query, from_texts, in_words, merged
from app.web.request.trace import begin_trace

OFFERS = ("application/json", "application/x-npy")
KNOWN: dict[str, type[str | int]] = {"model": str, "top_k": int}


@given(st.text(max_size=100))
def test_any_accept_chooses_an_offer_or_none(accept: str) -> None:
    with suppress(NotAcceptable):
        assert choose(accept, OFFERS) in OFFERS


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, OFFERS[0]),
        ("", OFFERS[0]),
        ("application/x-npy, application/json", OFFERS[0]),
        ("application/x-npy;q=0.9, application/json;q=0.8", OFFERS[1]),
        ("application/json;q=0.1, application/*;q=0.5", OFFERS[1]),
        ("APPLICATION/X-NPY", OFFERS[1]),
    ],
)
def test_the_best_liked_offer_is_chosen(accept: str | None, chosen: str) -> None:
    assert choose(accept, OFFERS) == chosen


@given(st.binary(max_size=100))
def test_any_query_is_options_or_is_refused(query: bytes) -> None:
    with suppress(Unprocessable):
        options = from_query(query, KNOWN)
        assert set(options) <= set(KNOWN)
        assert isinstance(options.get("top_k", 0), int)


@given(st.integers(-(10**17), 10**17))
def test_a_number_in_a_query_is_that_number(number: int) -> None:
    assert from_query(b"top_k=%d" % number, KNOWN) == {"top_k": number}


def test_options_of_two_places_are_joined_and_never_overwritten() -> None:
    assert merged({"model": "a"}, {"top_k": 1}, where="body") == {"model": "a", "top_k": 1}
    assert merged({"model": "a"}, {"model": "a"}, where="body") == {"model": "a"}
    with pytest.raises(Unprocessable, match="more than once"):
        merged({"model": "a"}, {"model": "b"}, where="body")


def test_options_that_nobody_filled_in_are_not_given() -> None:
    known = {"model": str, "top_k": int, "explain": bool}
    pairs = [("model", ""), ("top_k", ""), ("explain", ""), ("top_k", "3"), ("explain", "TRUE"), ("top_k", "3")]
    assert from_texts(pairs, known, where="form", what="form field") == {"top_k": 3, "explain": True}
    assert from_texts([("explain", "0")], known, where="form", what="form field") == {"explain": False}
    with pytest.raises(Unprocessable, match="more than once"):
        from_texts([("top_k", "3"), ("top_k", "4")], known, where="form", what="form field")
    with pytest.raises(Unprocessable, match="topk"):
        from_texts([("topk", "")], known, where="form", what="form field")


@given(st.binary(max_size=200))
def test_a_request_id_is_always_safe_to_repeat(came: bytes) -> None:
    request_id = begin_trace({"headers": [(b"x-request-id", came)]}).request_id
    assert request_id
    assert set(request_id) <= set(string.ascii_letters + string.digits + "._:/+=@-")
    assert request_id == came.decode("latin-1") or len(request_id) == 24


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_a_value_is_described_in_few_words(value: object) -> None:
    assert 0 < len(described(value)) <= 250


def test_a_huge_value_is_described_without_writing_it_out() -> None:
    assert described([[0] * 1000] * 1000) == "a list of 1000"
    assert described(10**5000) == "an integer of more than 40 digits"
    assert described("x" * 10_000) == "a text of 10000 characters"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Input should be a valid integer", "an integer"),
        ("Input should be a valid list", "a valid list"),
        ("Input should be a valid string, unable to parse", "a text"),
        ("List should have at least 1 item after validation, not 0", "a list of at least 1 item"),
        ("List should have at most 2 items after validation, not more", "a list of at most 2 items"),
        ("String should have at least 1 character", "a text of at least 1 character"),
    ],
)
def test_a_library_s_message_becomes_ours(theirs: str, ours: str) -> None:
    assert in_words(theirs) == ours


@pytest.mark.parametrize(
    ("kind", "value", "ours"),
    [
        (Annotated[list[int], Field(min_length=1)], [], "a list of at least 1 item"),
        (Annotated[list[int], Field(max_length=2)], [1, 2, 3], "a list of at most 2 items"),
        (Annotated[tuple[int, ...], Field(min_length=2)], (1,), "a list of at least 2 items"),
        (Annotated[str, Field(min_length=1)], "", "a text of at least 1 character"),
        (Annotated[str, Field(max_length=2)], "abc", "a text of at most 2 characters"),
    ],
)
def test_a_length_is_told_as_that_of_what_was_expected(kind: Any, value: object, ours: str) -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(kind).validate_python(value)
    assert in_words(error.value.errors()[0]["msg"]) == ours
