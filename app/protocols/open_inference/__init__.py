"""The Open Inference Protocol v2 over REST, under /v2: what `tritonclient[http]` and KServe's clients speak.

Source: kserve/open-inference-protocol; binary tensors, classification and compression as in Triton's extensions.
Errors have that protocol's own form, `{"error": "..."}`, and its statuses: 400 for whatever is wrong with a request.

A model's graph is one model here: `name` where it has one graph, else `name.graph`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.core.shared_counters import Row
from app.engine.registry import Model
from app.protocols.open_inference import models, repository, statistics, texts, trace
from app.protocols.open_inference.documents import (
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    Statistics,
)
from app.protocols.open_inference.errors import PREFIX, error_response, error_responses, is_mine, refusal
from app.protocols.open_inference.infer import INFER, INFER_VERSION, find
from app.protocols.open_inference.openapi import DESCRIPTION, TAG, ExampleModel, complete, unauthorised
from app.protocols.open_inference.repository import RepositoryControl
from app.web.context import Context
from app.web.endpoint import Endpoint
from app.web.request.media_types import JSON
from app.web.response.paced import Paced

__all__ = [
    "DESCRIPTION",
    "ENDPOINTS",
    "TAG",
    "ExampleModel",
    "RepositoryControl",
    "complete",
    "error_response",
    "is_mine",
    "refusal",
    "router",
    "unauthorised",
]

ENDPOINTS: Final[tuple[Endpoint, ...]] = (INFER, INFER_VERSION)
EXTENSIONS: Final = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "statistics",
    "trace",
)


def router(
    context: Context,
    *,
    version: str,
    is_ready: Callable[[], bool],
    figures: Callable[[], Iterable[Row]] = tuple,
    control: RepositoryControl | None = None,
) -> APIRouter:
    """The endpoints, bound to what they serve.

    Args:
        figures: the rows of every process's shared counters.
        control: loads and unloads models on request; None where that is switched off.
    """
    routes = APIRouter(prefix=PREFIX, tags=[TAG])
    _add_server(routes, version, is_ready)
    routes.include_router(repository.router(context, control))
    routes.include_router(trace.router(context))
    _add_statistics(routes, context, figures)
    for path, infer in (("/models/{name}", INFER), ("/models/{name}/versions/{version}", INFER_VERSION)):
        _add_model(routes, context, path)
        infer.add_to(routes, context)
    return routes


def _add_server(routes: APIRouter, version: str, is_ready: Callable[[], bool]) -> None:
    @routes.get("", operation_id="oip_server", summary="What this server is")
    async def server() -> ServerMetadata:
        return ServerMetadata(name="lectern", version=version, extensions=list(EXTENSIONS))

    @routes.get("/health/live", operation_id="oip_live", summary="The process answers")
    async def live() -> ServerLive:
        return ServerLive(live=True)

    @routes.get(
        "/health/ready",
        operation_id="oip_ready",
        summary="The models are loaded",
        response_model=ServerReady,
        responses={
            503: {"model": ServerReady, "description": "Nothing is served: still loading, shutting down, or no model."}
        },
    )
    async def ready() -> Response:
        now = is_ready()
        return JSONResponse({"ready": now}, 200 if now else 503)


def _add_statistics(routes: APIRouter, context: Context, figures: Callable[[], Iterable[Row]]) -> None:
    """Before `/models/{name}`: a model may not be called "stats"."""

    def statistics_of(graphs: Iterable[tuple[str, str, str, str]]) -> Statistics:
        found = statistics.summed(figures())
        return Statistics(
            model_stats=[
                statistics.of_graph(found, name, version, (model, version, graph))
                for name, model, version, graph in graphs
            ]
        )

    async def all_statistics() -> bytes:
        found, parts = statistics.summed(figures()), []
        for model in context.registry.catalog.models:
            for name, graph in models.graph_names(model).items():
                one = statistics.of_graph(found, name, model.version, (model.name, model.version, graph))
                parts.append(one.model_dump_json().encode())
            await asyncio.sleep(0)
        return b'{"model_stats":[' + b",".join(parts) + b"]}"

    paced = Paced(all_statistics)

    @routes.get(
        "/models/stats", operation_id="oip_all_stats", summary="Figures of every model", response_model=Statistics
    )
    async def all_stats() -> Response:
        return Response(await paced.get(), media_type=JSON)

    @routes.get(
        "/models/{name}/stats",
        operation_id="oip_model_stats",
        summary="Figures of one model, all its versions",
        responses=error_responses(404),
    )
    async def model_stats(name: str) -> Statistics:
        model, graph = find(context.registry, name, None)
        first = texts.first_graph(model, graph)
        versions = [
            m.version for m in context.registry.catalog.models if m.name == model.name and first in m.manifest.graphs
        ]
        return statistics_of((name, model.name, version, first) for version in versions)

    @routes.get(
        "/models/{name}/versions/{version}/stats",
        operation_id="oip_version_stats",
        summary="Figures of one version of a model",
        responses=error_responses(404),
    )
    async def version_stats(name: str, version: str) -> Statistics:
        model, graph = find(context.registry, name, version)
        return statistics_of([(name, model.name, model.version, texts.first_graph(model, graph))])


def _add_model(routes: APIRouter, context: Context, path: str) -> None:
    """The endpoints of one model, in its default version or in the one that the path names."""
    kind = "_version" if "{version}" in path else ""
    of = " in one version" if kind else ""

    def described(what: str, summary: str, *errors: int, **more: Any) -> dict[str, Any]:
        return {
            "operation_id": f"oip{kind}_{what}",
            "summary": summary + of,
            "responses": error_responses(*errors),
            **more,
        }

    def requested(request: Request) -> tuple[str, Model, str]:
        # From the path alone: as an argument, a version that the path lacks would be read from the query.
        name = request.path_params["name"]
        return name, *find(context.registry, name, request.path_params.get("version"))

    @routes.get(path, **described("metadata", "A model's tensors", 404))
    async def metadata(request: Request) -> ModelMetadata:
        return models.metadata(context.registry, *requested(request))

    @routes.get(f"{path}/config", **described("config", "A model's configuration, as Triton would tell it", 404))
    async def config(request: Request) -> ModelConfig:
        return models.config(*requested(request), context.limits)

    @routes.get(f"{path}/ready", **described("model_ready", "Whether a model answers", 404))
    async def ready(request: Request) -> ModelReady:
        return ModelReady(name=requested(request)[0], ready=True)
