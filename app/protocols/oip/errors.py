"""Errors in the protocol's own form: `{"error": "..."}`, with Triton's statuses."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from app.core.errors import ClientError, LecternError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ProtocolRoute(APIRoute):
    """A route whose errors take this protocol's form."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except LecternError as error:
                return refusal(error)

        return answer


def refusal(error: LecternError) -> Response:
    """`{"error": ...}`: 404 for what is not there, 503 for what may succeed later, 400 for other faults of a client."""
    status = error.status
    if isinstance(error, ClientError) and status not in (401, 404, 405):
        status = 400
    elif status in (429, 504):
        status = 503
    return JSONResponse({"error": error.detail}, status, headers=error.headers)
