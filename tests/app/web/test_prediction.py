"""Which value of a row is to blame where a model has no answer."""

from __future__ import annotations

import pytest

from app.web.prediction import _how_far


def note(value: float | str, low: float | str, high: float | str) -> dict[str, float | str]:
    return {"feature": "x", "value": value, "low": low, "high": high, "unit": ""}


@pytest.mark.parametrize(
    ("far", "near"),
    [
        (note(1e38, 0.0, 10.0), note(1e6, 0.0, 1e5)),
        (note("2500-05-16", "2022-01-01", "2023-01-01"), note(11.0, 0.0, 10.0)),
        (note(1e9, 0.0, 1.0), note("2500-05-16", "2022-01-01", "2023-01-01")),
        (note("99999999 days after 1970-01-01", "2022-01-01", "2023-01-01"), note(1e38, 0.0, 10.0)),
        (note(-5.0, 0.0, 1.0), note(1.5, 0.0, 1.0)),
        (note("1000-01-01T10:00:00", "2022-01-01T00:00:00", "2022-01-02T00:00:00"), note(2.0, 0.0, 1.0)),
    ],
)
def test_the_farthest_value_is_named(far: dict[str, float | str], near: dict[str, float | str]) -> None:
    assert max([near, far], key=_how_far) is far
    assert max([far, near], key=_how_far) is far
