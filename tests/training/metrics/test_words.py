"""Word error rates against hand-counted ones and a plain recursion."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from training.metrics.words import alignment, error_rate, errors

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


def distance(said: tuple[str, ...], heard: tuple[str, ...]) -> int:
    @cache
    def of(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        return min(of(i - 1, j - 1) + (said[i - 1] != heard[j - 1]), of(i - 1, j) + 1, of(i, j - 1) + 1)

    return of(len(said), len(heard))


@given(WORDS, WORDS)
def test_errors_are_the_edit_distance(said: list[str], heard: list[str]) -> None:
    assert errors(said, heard) == distance(tuple(said), tuple(heard))


@given(WORDS, WORDS)
def test_an_alignment_has_every_word_once_in_order(said: list[str], heard: list[str]) -> None:
    pairs = alignment(said, heard)
    assert [i for i, _ in pairs if i is not None] == list(range(len(said)))
    assert [j for _, j in pairs if j is not None] == list(range(len(heard)))
    assert (None, None) not in pairs


def test_the_rate_counts_errors_over_words_that_were_said() -> None:
    said = [["bin", "blue", "at", "f", "two", "now"], ["lay", "red"]]
    heard = [["bin", "blue", "at", "s", "two"], ["lay", "red", "red"]]
    assert error_rate(said, heard) == 3 / 8  # one word wrong, one missed, one too many
