"""What models can be asked for: a file each, with `router`, `short_way` and `documented`."""

from __future__ import annotations

from typing import Final, Protocol

from fastapi import APIRouter

from app.tasks import classify, denoise, generate, reconstruct, regress, translate
from app.wire.context import Context
from app.wire.documented import Documented
from app.wire.short import Find


class TaskFile(Protocol):
    """What a file of this package offers."""

    def router(self, context: Context) -> APIRouter:
        """The endpoint, bound to what it serves."""
        ...

    def short_way(self, context: Context) -> Find:
        """The endpoint, without the router."""
        ...

    def documented(self, context: Context) -> Documented:
        """What the OpenAPI document says of it."""
        ...


TASKS: Final[tuple[TaskFile, ...]] = (classify, regress, reconstruct, generate, denoise, translate)
