"""The short way to the models: what is asked all the time does not pass the router.

The routes stay with FastAPI, which documents them and answers all else that is said of their paths. Both ways call the
same handler; a test compares their answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import LecternError
from app.web.context import Trace
from app.web.endpoint import Find, Short
from app.web.response.encoded import reply

MOST_PATHS: Final = 1000  # remembered, and up to this length: clients choose them
LONG_PATH: Final = 200


class Direct:
    """The innermost layer before the router.

    Args:
        ways: asked in turn.
        refused: the response that tells of an error, in the form that belongs to the path.
        straight: nobody outside adds to answers but `Telemetry`: they may go straight to the connection.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        ways: Iterable[Find],
        refused: Callable[[LecternError, Scope], Response],
        straight: bool = False,
    ) -> None:
        self.app = app
        self._ways = tuple(ways)
        self._refused = refused
        self._straight = straight
        self._known: dict[str, Short] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (short := self._find(scope["path"])):
            Trace.of(scope).route = short.route
            try:
                await self._give(await short.handle(Request(scope, receive)), scope, receive, send)
            except LecternError as error:  # also one that a stream meets before it has begun
                await self._give(self._refused(error, scope), scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _give(self, response: Response, scope: Scope, receive: Receive, send: Send) -> None:
        if not (self._straight and reply(scope, response)):
            await response(scope, receive, send)

    def _find(self, path: str) -> Short | None:
        known = self._known.get(path)
        if known is None:
            for way in self._ways:
                if known := way(path):
                    if len(path) > LONG_PATH:
                        break
                    if len(self._known) == MOST_PATHS:
                        self._known.clear()
                    self._known[path] = known
                    break
        return known
