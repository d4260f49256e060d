"""The tasks: a folder for each, with `_` where its name has `-`, whose `endpoint.py` has its `ENDPOINT`."""

from __future__ import annotations

from importlib import import_module
from typing import Final, get_args

from app.core.manifest import Task
from app.web.endpoint import Endpoint

TASKS: Final[dict[str, Endpoint]] = {
    task: import_module(f"app.tasks.{task.replace('-', '_')}.endpoint").ENDPOINT for task in get_args(Task)
}
"""The endpoint of each task, by its name."""
