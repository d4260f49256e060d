"""The trace extension, which has nothing to switch on here: traces leave by OpenTelemetry, as the operator has set.

Source: triton-inference-server/server, docs/protocol/extension_trace.md. Its files of traces are none of ours: a client
that could name a file to be written would be a hole.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request

from app.core.errors import invalid, shown
from app.protocols.open_inference.bodies import json_object
from app.protocols.open_inference.documents import TraceSetting
from app.protocols.open_inference.errors import error_responses
from app.protocols.open_inference.infer import find
from app.web.context import Context

OFF: Final = TraceSetting(trace_level=["OFF"], trace_rate="0", trace_count="0", log_frequency="0", trace_file="")


def router(context: Context) -> APIRouter:
    """The endpoints, of the server and of each model."""
    routes = APIRouter()
    _add(routes, context, "/trace/setting", "trace", "")
    _add(routes, context, "/models/{name}/trace/setting", "model_trace", " of one model", 404)
    return routes


def _add(routes: APIRouter, context: Context, path: str, name: str, of: str, *errors: int) -> None:
    def check_model(request: Request) -> None:
        if "name" in request.path_params:
            find(context.registry, request.path_params["name"], None)

    @routes.get(
        path,
        operation_id=f"oip_{name}_setting",
        summary=f"Triton's traces{of}: off",
        responses=error_responses(*errors),
    )
    async def setting(request: Request) -> TraceSetting:
        check_model(request)
        return OFF

    @routes.post(
        path,
        operation_id=f"oip_set_{name}",
        summary=f"Leave Triton's traces{of} off",
        responses=error_responses(400, *errors),
    )
    async def change(request: Request) -> TraceSetting:
        check_model(request)
        check_off(await json_object(request, context.limits))
        return OFF


def check_off(settings: dict[str, object]) -> None:
    """Settings that are in force already, or null to clear them, are taken.

    Raises:
        Unprocessable: a setting that would change something, or one that does not exist.
    """
    now = OFF.model_dump()
    for name, value in settings.items():
        if name not in now:
            known = ", ".join(now)
            raise invalid(
                "body",
                expected=known,
                got=shown(name),
                detail=f"unknown trace setting {shown(name)}, there are: {known}",
            )
        if value is not None and value != now[name]:
            raise invalid(
                name,
                expected=shown(now[name]),
                got=shown(value),
                rule="it stays",
                why=": Triton's traces cannot be switched on here; "
                "traces leave by OpenTelemetry, for the endpoint that the operator sets (OTEL_EXPORTER_OTLP_ENDPOINT)",
            )
