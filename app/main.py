"""The app put together: `create_app(settings)` and its lifespan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.shared_counters import BLOCK_BYTES, Memory, SharedCounters, read
from app.engine.model import INLINE_ALONE_S, INLINE_S
from app.engine.process import cores
from app.engine.registry import Registry
from app.engine.shared_weights import SharedWeights
from app.middleware import errors
from app.middleware.api_keys import ApiKeys
from app.middleware.origins import Origins
from app.middleware.shutdown import Shutdown, refuse
from app.middleware.telemetry import Telemetry
from app.pages import health, landing, model_cards, openapi_document
from app.protocols import libre_translate, open_inference, openai_audio
from app.protocols.open_inference.infer import HEADER_LENGTH
from app.settings import Settings
from app.tasks import TASKS
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Tracing
from app.web.context import Context
from app.web.fast_path import FastPath
from app.web.request.head import DEADLINE, PRIORITY
from app.web.request.limits import Limits
from app.web.work_pool import WorkPool

log = logging.getLogger("lectern")

VERSION: Final = "0.1.0"


class Lectern(FastAPI):
    """FastAPI with layers before it, instead of among its own middleware, which every request would pass as well.

    Attributes:
        front: the outermost layer; FastAPI itself is the innermost.
        prefix: the path under which a proxy serves this server; a request's own path begins behind it.
    """

    front: ASGIApp
    prefix: str

    def __init__(self, *, prefix: str, **options: Any) -> None:
        super().__init__(**options)
        self.front = super().__call__
        self.prefix = prefix

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]  # as
        # good as a coroutine function for who awaits it, and one object less for each request.
        # A route's pattern also matches with a line break behind it; guards compare paths. No path of ours has one.
        if scope["type"] == "http" and "\n" in scope["path"]:
            scope["path"] = scope["path"].replace("\n", "%0A")
        if self.prefix and scope["type"] != "lifespan":
            scope["root_path"] = self.prefix  # by which the framework makes whole addresses
            path: str = scope["path"]
            if path.startswith(self.prefix) and path[len(self.prefix) :][:1] in ("/", ""):
                scope["path"] = path[len(self.prefix) :] or "/"
        return self.front(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """Without the outermost of the framework's own, which would answer errors before `Telemetry` has seen them."""
        stack = super().build_middleware_stack()
        assert isinstance(stack, ServerErrorMiddleware)
        return stack.app


def create_app(
    settings: Settings,
    *,
    shared_counters: SharedCounters | None = None,
    siblings: Callable[[], Iterable[Memory]] | None = None,
    weights: Path | None = None,
) -> FastAPI:
    """An app that loads its models when its lifespan begins and drains them when it ends.

    Args:
        shared_counters: where this process counts.
        siblings: the blocks of every process of this server, its own among them, for /metrics to add up.
        weights: a folder of this server alone, where its processes keep the weights that all of them map.
    """
    if shared_counters is None or siblings is None:
        own = bytearray(BLOCK_BYTES)
        shared_counters, siblings = SharedCounters(own), lambda: (own,)
    metrics = Metrics(shared_counters, siblings)
    registry = Registry(
        settings.models,
        device=settings.device,
        threads=settings.threads,
        inline_s=INLINE_ALONE_S if settings.workers >= cores() else INLINE_S,
        gpu_memory_mb=settings.gpu_memory_mb,
        shared=None if weights is None else SharedWeights(weights),
        max_queued_rows=settings.max_queued_rows,
        max_queued_s=settings.max_queued_s,
        only=settings.only,
        defaults=settings.default_models,
        defaults_required="default_models" in settings.model_fields_set,
        pinned=settings.pinned_versions,
        shared_counters=shared_counters,
    )
    metrics.watch(registry, version=VERSION)
    traces = Tracing(settings.otlp_endpoint, version=VERSION) if settings.otlp_endpoint else None
    context = Context(
        registry=registry,
        limits=Limits(
            max_rows=settings.max_rows_per_request,
            max_body_bytes=settings.max_body_bytes,
            max_pixels=settings.max_pixels,
            max_seconds=settings.max_seconds,
            body_timeout_s=settings.body_timeout_s,
            request_timeout_s=settings.request_timeout_s,
        ),
        stages=metrics,
        pool=WorkPool(max_queued_s=settings.max_queued_s, counters=shared_counters),
    )
    readiness = health.Readiness()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            exported = traces.exported() if traces else nullcontext()
            async with exported, registry, watched(registry, settings.poll_s):
                readiness.open = True
                yield
                readiness.open = False
        finally:
            context.pool.shutdown()

    app = Lectern(
        prefix=settings.root_path, title="Lectern", version=VERSION, lifespan=lifespan,
        docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False,
        # Its own would miss the fast path and be a second span of every other request.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )  # fmt: skip
    app.state.registry = registry
    app.state.readiness = readiness
    app.state.shared_counters = shared_counters
    app.state.siblings = siblings
    app.state.web_sockets = frozenset(endpoint.path for endpoint in TASKS.values() if endpoint.socket)
    traced = traces.finished if traces else None
    app.state.shutdown = Shutdown(app, refused=Telemetry(refuse, finished=metrics.request, traced=traced))
    errors.install(app)
    tasks = APIRouter(tags=["tasks"])
    for endpoint in TASKS.values():
        endpoint.add_to(tasks, context)
    app.include_router(tasks)
    app.include_router(model_cards.router(context))
    app.include_router(
        open_inference.router(
            context,
            version=VERSION,
            is_ready=lambda: readiness.is_ready(registry),
            figures=lambda: (row for block in siblings() for row in read(block)),
            control=registry if settings.model_control else None,
        )
    )
    app.include_router(openai_audio.router(context))
    app.include_router(libre_translate.router(context))
    app.include_router(health.router(context, metrics.page, readiness))
    landing.install(app, context, docs=settings.docs, has_keys=bool(settings.api_keys))
    openapi_document.install(app, context, has_keys=bool(settings.api_keys), server=settings.root_path)

    # From the inside out.
    endpoints = (
        *TASKS.values(),
        *open_inference.ENDPOINTS,
        *openai_audio.ENDPOINTS,
        *libre_translate.ENDPOINTS,
    )
    app.front = Origins(app.front, allowed=settings.cors_origins)
    app.front = FastPath(app.front, endpoints, context, refused=errors.refused, direct=not settings.cors_origins)
    if settings.api_keys:
        app.front = ApiKeys(app.front, digests=settings.api_keys)
    if settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware

        app.front = CORSMiddleware(
            app.front,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=[
                *("Authorization", "Content-Type", "X-API-Key", "X-Request-Id", DEADLINE, PRIORITY, HEADER_LENGTH)
            ],
            expose_headers=[
                *("Server-Timing", "X-Request-Id", "X-Model", "X-Device", "Retry-After", HEADER_LENGTH),
                *("X-Seed", "X-Sigma-255", "X-Cycle-Error", "X-Cycle-P-Value"),
            ],
        )
    app.front = Telemetry(app.front, finished=metrics.request, traced=traced)
    return app


@asynccontextmanager
async def watched(registry: Registry, every_s: float) -> AsyncIterator[None]:
    """Look for what changed in the models folder until the block ends; 0: not at all."""
    task = asyncio.create_task(registry.watch(every_s)) if every_s else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
