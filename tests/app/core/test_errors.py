"""The one helper that builds errors, and the sentences that it makes."""

from __future__ import annotations

import pytest

from app.core.errors import TooLarge, Unprocessable, invalid, shown
from app.core.text import unknown


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (invalid("top_k", expected="1 to 10", got="11"), "top_k is 11, it must be 1 to 10"),
        (
            invalid("image[3]", expected="one frame", got="2 frames", where="image[3]:", verb="has", rule="expected"),
            "image[3]: has 2 frames, expected one frame",
        ),
        (
            invalid("n", expected="1 to 8", got="9", why=": more do not fit", error=TooLarge),
            "n is 9, it must be 1 to 8: more do not fit",
        ),
        (invalid("body", expected="rows", detail="there is no body"), "there is no body"),
        (
            unknown("field", "hour", ["hours", "name"], subject="body.hour"),
            "unknown field 'hour' (did you mean 'hours'?), there are: hours, name",
        ),
    ],
)
def test_an_error_says_where_it_is_what_came_and_what_is_taken(error: Exception, detail: str) -> None:
    assert str(error) == detail


def test_an_error_carries_its_parts_for_programs() -> None:
    error = invalid("body.n", expected="1 to 8", got=shown("{x}"), error=TooLarge)
    assert type(error) is TooLarge
    assert (error.subject, error.expected, error.got) == ("body.n", "1 to 8", "'{x}'")
    assert (error.status, error.kind) == (413, "too-large")
    assert type(invalid("n", expected="1", got="2")) is Unprocessable
