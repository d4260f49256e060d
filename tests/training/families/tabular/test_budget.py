"""How long a training takes, and what is dropped to keep a budget: known costs, known answers."""

from __future__ import annotations

import argparse

import pytest

from training.families.tabular import budget
from training.families.tabular.budget import Cost, decide
from training.families.tabular.model import PLAN
from training.families.tabular.nested import OUTER


def costing(each_s: float, *, tested: bool = False) -> Cost:
    """A second to begin each setting; 100 steps of the nets, and rounds of the trees, of `each_s` seconds."""
    return Cost(of=dict.fromkeys((*PLAN.grid, *PLAN.trees), (1.0, each_s)), steps=100, tested=tested)


ONE = len(PLAN.grid) * (1 + 100 * 0.01) + len(PLAN.trees) * (1 + budget.USUAL_ROUNDS * 0.01)


def test_without_a_budget_nothing_is_dropped() -> None:
    found = decide(costing(0.01), PLAN, 10, None)
    assert (found.plan, found.repetitions, found.dropped) == (PLAN, 10, ())
    assert found.seconds == pytest.approx(budget.PUBLISH_S + ONE * (1 + 10 * OUTER))


def test_a_test_part_needs_no_repetitions() -> None:
    assert decide(costing(0.01, tested=True), PLAN, 10, None).seconds == pytest.approx(budget.PUBLISH_S + ONE)


def test_repetitions_are_dropped_first() -> None:
    left = budget.MARGIN * (budget.PUBLISH_S + ONE * (1 + 3 * OUTER)) + 1
    found = decide(costing(0.01), PLAN, 10, left)
    assert (found.plan, found.repetitions, found.dropped) == (PLAN, 3, ())
    assert decide(costing(0.01), PLAN, 10, left + 5, used=50).repetitions < 3


def test_then_members_and_at_last_the_length() -> None:
    few = decide(costing(0.01), PLAN, 10, budget.MARGIN * (budget.PUBLISH_S + ONE * 4))
    assert (len(few.plan.grid), len(few.plan.trees)) == (1, 1)
    assert few.dropped == (f"1 of {len(PLAN.grid)} settings of nets", f"1 of {len(PLAN.trees)} of trees")
    short = decide(costing(1.0), PLAN, 10, 600)
    assert short.plan.effort < 1
    assert short.dropped[-1] == f"trainings of {100 * short.plan.effort:.0f} % of the length"
    assert short.seconds < 600


def test_what_can_be_dropped_no_further_is_trained_all_the_same() -> None:
    found = decide(costing(10.0), PLAN, 10, 60)
    assert found.repetitions == 1
    assert found.seconds > 60


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), (" 2 m ", 120)])
def test_times_are_read(text: str, seconds: float) -> None:
    assert budget.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "0m", "-5m", "5 minutes", "1e3s", "nan"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a time as 90s, 5m or 1h, got"):
        budget.seconds(text)


def test_durations_are_said_as_people_say_them() -> None:
    assert [budget.in_words(s) for s in (4, 42, 89, 90, 150, 3000)] == [
        "about 10 seconds",
        "about 40 seconds",
        "about 90 seconds",
        "about 2 minutes",
        "about 2 minutes",
        "about 50 minutes",
    ]
