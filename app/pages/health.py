"""GET /health/live, /health/ready and /metrics: for the orchestrator and for Prometheus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from app.core.manifest import Task
from app.engine.registry import Registry
from app.pages.model_cards import RefusedFolder
from app.web.context import Context
from app.web.request.media_types import JSON
from app.web.response.paced import Paced


@dataclass(slots=True)
class Readiness:
    """Whether the app takes requests: set by the lifespan."""

    open: bool = False

    def is_ready(self, registry: Registry) -> bool:
        """From the moment that models are loaded until shutdown begins."""
        return self.open and bool(registry.catalog.models)


class Live(BaseModel):
    status: Literal["alive"]


class Ready(BaseModel):
    """`ready` from the moment that the models are loaded until shutdown begins."""

    status: Literal["ready", "not ready"]
    device: str
    models: list[str] = Field(description="name/version of what is served")
    defaults: dict[str, str] = Field(
        description="the model that answers where none is named, by task, or by one kind of input to it"
    )
    refused: Annotated[list[RefusedFolder], Field(description="folders that are not served, and why")]


def router(context: Context, metrics: Callable[[], Awaitable[bytes]], readiness: Readiness) -> APIRouter:
    """The endpoints, bound to what they watch."""
    registry = context.registry
    paced = Paced(metrics)
    kept: dict[object, bytes] = {}
    routes = APIRouter(tags=["operation"])

    @routes.get("/health/live", operation_id="live", summary="The process answers")
    async def live() -> Live:
        return Live(status="alive")

    @routes.get(
        "/health/ready",
        operation_id="ready",
        summary="The models are loaded",
        response_model=Ready,
        responses={
            503: {"model": Ready, "description": "Nothing is served: still loading, shutting down, or no model."}
        },
    )
    async def ready() -> Response:
        is_ready = readiness.is_ready(registry)
        key = (registry.catalog.generation, registry.catalog.refused, is_ready)
        if key not in kept:
            kept.clear()
            kept[key] = state(is_ready).model_dump_json().encode()
        return Response(kept[key], 200 if is_ready else 503, media_type=JSON)

    def state(is_ready: bool) -> Ready:
        return Ready(
            status="ready" if is_ready else "not ready",
            device=registry.device,
            models=[f"{model.name}/{model.version}" for model in registry.catalog.models],
            defaults={
                key: model.name
                for task in get_args(Task)
                for key, model in registry.catalog.default_models(task).items()
            },
            refused=[RefusedFolder(folder=r.folder, reason=r.reason) for r in registry.catalog.refused],
        )

    @routes.get(
        "/metrics",
        operation_id="metrics",
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def read_metrics() -> Response:
        return Response(await paced.get(), media_type=CONTENT_TYPE_LATEST)

    return routes
