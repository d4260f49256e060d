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
    """The endpoints."""
    routes = APIRouter()

    @routes.get("/trace/setting", operation_id="oip_trace_setting", summary="Triton's traces: off")
    async def setting() -> TraceSetting:
        return OFF

    @routes.post(
        "/trace/setting",
        operation_id="oip_set_trace",
        summary="Leave Triton's traces off",
        responses=error_responses(400),
    )
    async def change(request: Request) -> TraceSetting:
        check_off(await json_object(request, context.limits))
        return OFF

    @routes.get(
        "/models/{name}/trace/setting",
        operation_id="oip_model_trace_setting",
        summary="Triton's traces of one model: off",
        responses=error_responses(404),
    )
    async def model_setting(name: str) -> TraceSetting:
        find(context.registry, name, None)
        return OFF

    @routes.post(
        "/models/{name}/trace/setting",
        operation_id="oip_set_model_trace",
        summary="Leave Triton's traces of one model off",
        responses=error_responses(400, 404),
    )
    async def change_model(request: Request, name: str) -> TraceSetting:
        find(context.registry, name, None)
        check_off(await json_object(request, context.limits))
        return OFF

    return routes


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
