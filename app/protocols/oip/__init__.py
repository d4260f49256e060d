"""The Open Inference Protocol v2 over REST, under /v2: what `tritonclient[http]` and KServe's clients speak.

Source: kserve/open-inference-protocol; binary tensors, classification and compression as in Triton's extensions.
Errors have that protocol's own form, `{"error": "..."}`, and its statuses: 400 for whatever is wrong with a request.

A model's graph is one model here: `name` where it has one graph, else `name.graph`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.core.errors import NotFound, shown
from app.protocols.oip import models
from app.protocols.oip.errors import ProtocolRoute, refusal
from app.protocols.oip.infer import answer, find
from app.wire.context import Context

__all__ = ["refusal", "router"]

EXTENSIONS: Final = ("binary_tensor_data", "classification")
METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def router(context: Context, *, version: str, is_ready: Callable[[], bool]) -> APIRouter:
    """The endpoints, bound to what they serve."""
    routes = APIRouter(prefix="/v2", route_class=ProtocolRoute, include_in_schema=False)

    @routes.get("")
    async def server() -> Response:
        return JSONResponse({"name": "lectern", "version": version, "extensions": EXTENSIONS})

    @routes.get("/health/live")
    async def live() -> Response:
        return JSONResponse({"live": True})

    @routes.get("/health/ready")
    async def ready() -> Response:
        now = is_ready()
        return JSONResponse({"ready": now}, 200 if now else 503)

    @routes.get("/models/{name}")
    @routes.get("/models/{name}/versions/{version}")
    async def metadata(name: str, version: str | None = None) -> Response:
        model, graph = find(context, name, version)
        return JSONResponse(models.metadata(context.registry, name, model, graph))

    @routes.get("/models/{name}/ready")
    @routes.get("/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str | None = None) -> Response:
        find(context, name, version)
        return JSONResponse({"name": name, "ready": True})

    @routes.post("/models/{name}/infer")
    @routes.post("/models/{name}/versions/{version}/infer")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        model, graph = find(context, name, version)
        return await answer(request, context, name, model, graph)

    @routes.api_route("/{path:path}", methods=METHODS)
    async def nowhere(path: str) -> Response:
        raise NotFound(f"there is no page {shown('/v2/' + path)} that takes this method", subject="path")

    return routes
