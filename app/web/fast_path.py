"""The fast path: endpoints that are asked all the time do not pass the router.

The routes stay with FastAPI, which documents them and answers all else that is asked of their paths. Both call the same
handler; a test compares their responses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import LecternError
from app.web.call import Call
from app.web.context import Context
from app.web.endpoint import Endpoint
from app.web.response.encoded import reply

MOST_PATHS: Final = 1000  # remembered, and up to this length: clients choose them
LONG_PATH: Final = 200


class FastPath:
    """The innermost layer before the router.

    Args:
        refused: the response to an error, in the form that belongs to the path.
        direct: no layer outside but `Telemetry` adds to responses: they may be written to the connection directly.
    """

    def __init__(
        self,
        app: ASGIApp,
        endpoints: Iterable[Endpoint],
        context: Context,
        *,
        refused: Callable[[LecternError, Scope], Response],
        direct: bool = False,
    ) -> None:
        self.app = app
        self._context = context
        self._refused = refused
        self._direct = direct
        self._patterns = [(endpoint.pattern(), endpoint) for endpoint in endpoints]
        self._known: dict[str, tuple[Endpoint, Mapping[str, str]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            path = scope["path"]
            found = self._known.get(path) or self._find(path)
            if found is not None:
                endpoint, params = found
                call = Call(self._context, scope, receive, form=endpoint.request, params=params)
                call.trace.route = endpoint.path
                try:
                    await self._send(await endpoint.handler(call), scope, receive, send)
                except LecternError as error:  # also one that a stream meets before it has begun
                    await self._send(self._refused(error, scope), scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _send(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        if not (self._direct and reply(scope, response)):
            await response(scope, receive, send)

    def _find(self, path: str) -> tuple[Endpoint, Mapping[str, str]] | None:
        for pattern, endpoint in self._patterns:
            if match := pattern.fullmatch(path):
                found = endpoint, match.groupdict()
                if len(path) <= LONG_PATH:
                    if len(self._known) == MOST_PATHS:
                        self._known.clear()
                    self._known[path] = found
                return found
        return None
