"""Schedules at the places where their value is known."""

from __future__ import annotations

import itertools

import pytest

from training.optim.schedule import Schedule, rate_factor, risen


@pytest.mark.parametrize(
    ("schedule", "known"),
    [
        ("linear", {0.0: 1.0, 0.25: 0.75, 1.0: 0.0}),
        ("cosine", {0.0: 1.0, 0.5: 0.5, 1 / 3: 0.75, 1.0: 0.0}),
        ("one-cycle", {0.0: 0.1, 0.125: 0.55, 0.25: 1.0, 0.625: 0.5, 1.0: 0.0}),
    ],
)
def test_known_places(schedule: Schedule, known: dict[float, float]) -> None:
    for progress, factor in known.items():
        assert rate_factor(schedule, progress) == pytest.approx(factor, abs=1e-12)


@pytest.mark.parametrize(("total", "first_full"), [(10_000, 199), (2000, 199), (1000, 100), (10, 1)])
def test_a_rise_takes_its_steps_or_a_tenth_of_a_run_that_is_shorter(total: int, first_full: int) -> None:
    factors = [risen(200, position=i, progress=i / total) for i in range(min(total, 300))]
    assert factors == sorted(factors)
    assert factors.index(1.0) == first_full
    assert factors[0] == 1 / 200


def test_a_rise_of_no_steps_is_at_its_end_at_once() -> None:
    assert risen(0, position=0, progress=0.0) == 1


@pytest.mark.parametrize("schedule", ["linear", "cosine", "one-cycle"])
def test_no_schedule_jumps(schedule: Schedule) -> None:
    steps = [rate_factor(schedule, i / 1000) for i in range(1001)]
    assert max(abs(a - b) for a, b in itertools.pairwise(steps)) < 0.005
    assert min(steps) >= 0
    assert max(steps) <= 1
