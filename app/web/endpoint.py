"""One endpoint, declared once: of it are made its route, its fast path and its entry in the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response
from starlette.websockets import WebSocket

from app.engine.registry import Registry
from app.web.call import Call
from app.web.context import Context
from app.web.openapi.operation import Operation
from app.web.request.form import RequestForm
from app.web.request.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A POST that models answer.

    Attributes:
        path: its pattern, in which `{name}` is one segment that the handler finds in `Call.params`.
        name: unique; the operation's id.
        handler: answers a call. Raises: ClientError, Busy, Unavailable, TooLate, InferenceFailed.
        request: what a request may be; None where the handler reads it all by itself.
        response: of a JSON response.
        describe: what the OpenAPI document says beyond that, made from what is loaded.
        responses: further ones, for the document.
        socket: answers a WebSocket of the same path, which it accepts or refuses, and closes.
    """

    path: str
    name: str
    summary: str
    handler: Callable[[Call], Awaitable[Response]]
    response: type[BaseModel]
    request: RequestForm | None = None
    describe: Callable[[Registry, Limits], Operation] | None = None
    responses: dict[int | str, dict[str, Any]] | None = None
    socket: Callable[[Call, WebSocket], Awaitable[None]] | None = None

    def add_to(self, routes: APIRouter, context: Context) -> None:
        """Its route, which documents it and answers whatever the fast path leaves."""

        async def respond(request: Request) -> Response:
            call = Call(context, request.scope, request.receive, form=self.request, params=request.path_params)
            return await self.handler(call)

        routes.add_api_route(
            self.path.removeprefix(routes.prefix),
            respond,
            methods=["POST"],
            response_model=self.response,
            operation_id=self.name,
            summary=self.summary,
            responses=self.responses,
        )

        if self.socket is not None:
            answer = self.socket

            async def connect(socket: WebSocket) -> None:
                call = Call(context, socket.scope, socket.receive)
                call.trace.route = f"{self.path} (WebSocket)"  # sessions are long, and not to be counted as requests
                await answer(call, socket)

            routes.add_websocket_route(self.path.removeprefix(routes.prefix), connect)

    def pattern(self) -> re.Pattern[str]:
        """Matches the paths of this endpoint, as the router does."""
        parts = re.split(r"\{(\w+)\}", self.path)
        return re.compile("".join(f"(?P<{part}>[^/]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)))
