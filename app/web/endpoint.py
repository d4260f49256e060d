"""What a task or protocol says of its short way: see app/web/fast_path.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response


class Short(NamedTuple):
    """A handler of POST, bound to its path, and the pattern of that path."""

    route: str
    handle: Callable[[Request], Awaitable[Response]]


Find = Callable[[str], Short | None]
"""The short way for a path, if it has one."""
