"""The table of tasks: it has every task once, and every task has its folder."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from app.core.manifest import TASKS, Task

FOLDER = Path(__file__).parents[3] / "app" / "tasks"


def test_every_task_has_a_row_in_the_order_of_its_type() -> None:
    assert tuple(TASKS) == get_args(Task)


def test_every_task_has_a_folder_and_every_folder_a_task() -> None:
    assert {path.parent.name for path in FOLDER.glob("*/endpoint.py")} == {task.replace("-", "_") for task in TASKS}


def test_titles_are_different() -> None:
    assert len({facts.title for facts in TASKS.values()}) == len(TASKS)
