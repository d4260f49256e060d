"""What models can be asked for: a file each, with `router`, `short_way` and `documented`."""

from __future__ import annotations

from typing import Final, Protocol

from fastapi import APIRouter

from app.tasks.classify import endpoint as classify
from app.tasks.denoise import endpoint as denoise
from app.tasks.generate import endpoint as generate
from app.tasks.reconstruct import endpoint as reconstruct
from app.tasks.regress import endpoint as regress
from app.tasks.translate import endpoint as translate
from app.web.context import Context
from app.web.endpoint import Find
from app.web.openapi.operation import Documented


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
