"""Sentences of a text: all of it is in one of them, and what only looks like an end is none."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.codecs.text.sentences import sentences_of


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("A dog runs. A man sits.", ["A dog runs.", "A man sits."]),
        ("  What? Yes!  ", ["What?", "Yes!"]),
        ('She said "No." He left.', ['She said "No."', "He left."]),
        ("He waves... Água é boa. 3 dogs run.", ["He waves...", "Água é boa.", "3 dogs run."]),
        ("a line\nanother\n\nthe third", ["a line", "another", "the third"]),
        ("Plan B.\nThen C.", ["Plan B.", "Then C."]),
        ("Mr. Smith met J. S. Bach. He waved.", ["Mr. Smith met J. S. Bach.", "He waved."]),
        ("It costs 3.50 euros, e.g. at no. 5.", ["It costs 3.50 euros, e.g. at no. 5."]),
        ("He left. and came back.", ["He left. and came back."]),
        ("\n \n", []),
    ],
)
def test_a_sentence_ends_where_another_begins(text: str, sentences: list[str]) -> None:
    assert [text[begin:end] for begin, end in sentences_of(text)] == sentences


@given(st.text(alphabet=st.sampled_from("aB. !?\n\"'(é…1"), max_size=60))
def test_all_that_is_no_space_is_in_one_sentence_in_its_order(text: str) -> None:
    spans = sentences_of(text)
    assert "".join("".join(text[begin:end].split()) for begin, end in spans) == "".join(text.split())
    assert all(begin < end for begin, end in spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert all(text[begin:end] == text[begin:end].strip() for begin, end in spans)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [("." * 100_000, 1), (" " * 100_000, 0), ("A. " * 33_000, 1), ("a.\n" * 33_000, 33_000), (". " * 50_000, 1)],
    ids=["marks", "spaces", "letters", "lines", "marks and spaces"],
)
def test_a_long_text_has_as_many_sentences_as_a_short_one_of_its_kind(text: str, sentences: int) -> None:
    assert len(sentences_of(text)) == sentences
