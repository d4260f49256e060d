"""Forms: what was put in comes out, and whatever the bytes, only errors of the server leave."""

from __future__ import annotations

import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.multipart import parse_form
from app.core.errors import ClientError, TooLarge, Unprocessable
from tests.app.live import form

NAMES = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=20)

LATIN_1 = st.characters(max_codepoint=255)  # all that a header can hold


@given(st.lists(st.tuples(NAMES, st.binary(max_size=300), st.none() | NAMES), max_size=5))
def test_what_was_put_in_comes_out_in_order(parts: list[tuple[str, bytes, str | None]]) -> None:
    kind, body = form(*[(name, data) if file is None else (name, data, file) for name, data, file in parts])
    if not parts:
        return  # a form of no parts is only its closing line
    read = parse_form(body, kind.partition(";")[2], max_parts=5)
    assert [(part.name, part.data, part.filename) for part in read] == parts


@given(st.binary(max_size=400), st.text(LATIN_1, max_size=60))
def test_any_bytes_are_a_form_or_an_error_of_the_server(body: bytes, parameters: str) -> None:
    with suppress(ClientError):
        assert len(parse_form(body, parameters, max_parts=3)) <= 3


@given(st.data())
def test_a_form_with_any_bytes_changed_is_a_form_or_an_error_of_the_server(data: st.DataObject) -> None:
    kind, body = form(("image", b"\r\n--a-line\r\n", "a.png"), ("model", b"x"))
    start = data.draw(st.integers(0, len(body)))
    length = data.draw(st.integers(0, 20))
    changed = body[:start] + data.draw(st.binary(max_size=20)) + body[start + length :]
    with suppress(ClientError):
        assert len(parse_form(changed, kind.partition(";")[2], max_parts=3)) <= 3


def test_a_form_is_never_read_beyond_its_number_of_parts() -> None:
    kind, body = form(*[("model", b"a")] * 4)
    assert len(parse_form(body, kind.partition(";")[2], max_parts=4)) == 4
    with pytest.raises(TooLarge, match="more than 3 parts"):
        parse_form(body, kind.partition(";")[2], max_parts=3)


@pytest.mark.parametrize("cut", [1, 3, 10, 40, 90])
def test_a_form_that_is_cut_off_is_not_taken_for_a_shorter_one(cut: int) -> None:
    kind, body = form(("image", b"12345678", "a.png"))
    with pytest.raises(Unprocessable):
        parse_form(body[: -cut - 2], kind.partition(";")[2], max_parts=3)


def test_what_stands_before_the_first_boundary_means_nothing() -> None:
    kind, body = form(("image", b"1234", "a.png"), ("model", b"x"))
    parameters = kind.partition(";")[2]
    for before in (b"\r\n", b"This is a form.\r\n", b"--\r\nsome -- text\n"):
        parts = parse_form(before + body, parameters, max_parts=3)
        assert [(part.name, part.data) for part in parts] == [("image", b"1234"), ("model", b"x")]


def test_a_field_in_which_no_file_was_chosen_is_no_part() -> None:
    kind, body = form(("image", b"1234", "a.png"), ("image", b"", "NONE"), ("model", b"", "m.txt"))
    body = body.replace(b'filename="NONE"', b'filename=""')
    parts = parse_form(body, kind.partition(";")[2], max_parts=3)
    assert [(part.data, part.filename) for part in parts] == [(b"1234", "a.png"), (b"", "m.txt")]
