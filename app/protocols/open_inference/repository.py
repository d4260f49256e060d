"""The model repository extension: which models there are, loading and unloading them.

Source: triton-inference-server/server, docs/protocol/extension_model_repository.md.
"""

from __future__ import annotations

from typing import Final, Protocol

from fastapi import APIRouter, Request, Response

from app.core.errors import ClientError, Forbidden, invalid, shown
from app.protocols.open_inference.bodies import document
from app.protocols.open_inference.documents import ControlRequest, IndexEntry, IndexRequest
from app.protocols.open_inference.errors import error_responses
from app.web.context import Context

READY: Final = "READY"
SETTING: Final = "LECTERN_MODEL_CONTROL"


class RepositoryControl(Protocol):
    """What loads and unloads models, by their folders' names.

    Both raise NotFound for a name that there is not, and `load` LoadRefused for a folder that cannot be served.
    """

    async def load(self, name: str) -> object: ...

    async def unload(self, name: str) -> object: ...


def router(context: Context, control: RepositoryControl | None) -> APIRouter:
    """The endpoints; without `control` loading and unloading are refused, and not documented."""
    routes = APIRouter(prefix="/repository")

    @routes.post(
        "/index",
        operation_id="oip_repository_index",
        summary="Every model of the models folder, and whether it answers",
        responses=error_responses(400),
    )
    async def index(request: Request) -> list[IndexEntry]:
        wanted = await document(request, context.limits, IndexRequest)
        return [
            IndexEntry(name=known.name, version=known.version, state=known.state, reason=known.reason)
            for known in context.registry.catalog.index()
            if known.state == READY or not wanted.ready
        ]

    @routes.post(
        "/models/{name}/load",
        operation_id="oip_load_model",
        summary="Load a model from its folder, or load it again",
        include_in_schema=control is not None,
        response_class=Response,
        responses=error_responses(400, 403, 404, 503),
    )
    async def load(request: Request, name: str) -> Response:
        allowed = check_allowed(control, name)
        check_load((await document(request, context.limits, ControlRequest)).parameters)
        await allowed.load(name)
        return Response()

    @routes.post(
        "/models/{name}/unload",
        operation_id="oip_unload_model",
        summary="Answer what a model was asked, then let it go",
        include_in_schema=control is not None,
        response_class=Response,
        responses=error_responses(400, 403, 404, 503),
    )
    async def unload(request: Request, name: str) -> Response:
        allowed = check_allowed(control, name)
        check_unload((await document(request, context.limits, ControlRequest)).parameters)
        await allowed.unload(name)
        return Response()

    return routes


def check_allowed(control: RepositoryControl | None, name: str) -> RepositoryControl:
    """Raises Forbidden where the setting says so."""
    if control is None:
        raise Forbidden(
            f"models are neither loaded nor unloaded by request here: that of {shown(name)} needs {SETTING}=true",
            subject="path",
            expected=f"{SETTING}=true",
            got="false",
        )
    return control


def check_load(parameters: dict[str, str | int | float | bool]) -> None:
    """Raises Unprocessable for what Triton would take and a models folder that is verified must not."""
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            what = "the model's files" if name != "config" else "the model's configuration"
            subject = f"parameters.{name[:100]}"
            raise invalid(
                subject,
                expected="no such parameter",
                detail=f"{subject}: {what} cannot come with a request, they are read from the models folder",
            )
        raise _unknown(name, "none")


def check_unload(parameters: dict[str, str | int | float | bool]) -> None:
    """`unload_dependents` may be either: no model depends on another."""
    for name, value in parameters.items():
        if name != "unload_dependents":
            raise _unknown(name, "unload_dependents")
        if not isinstance(value, bool):
            raise invalid(f"parameters.{name}", expected="true or false", got=shown(value), rule="expected")


def _unknown(name: str, known: str) -> ClientError:
    return invalid(
        "parameters", expected=known, got=shown(name), detail=f"unknown parameter {shown(name)}, there are: {known}"
    )
