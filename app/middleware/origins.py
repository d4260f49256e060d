"""Which web pages may open a WebSocket: those of this server, and of the origins that CORS allows.

Browsers ask nobody before they open one, so the server looks at `Origin` itself. Other clients send none.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import Forbidden, shown
from app.middleware.errors import refused


class Origins:
    """Pure ASGI: answers 403 to a WebSocket of a strange page.

    Args:
        allowed: origins beside the server's own; `*` allows all.
    """

    def __init__(self, app: ASGIApp, *, allowed: Collection[str]) -> None:
        self.app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            origin = headers.get(b"origin")
            own = origin is None or urlsplit(origin).netloc == headers.get(b"host")
            if not own and origin not in self._allowed and "*" not in self._allowed:
                error = Forbidden(
                    f"pages of {shown(origin)} may not open a WebSocket here; LECTERN_CORS_ORIGINS has those that may",
                    subject="header.origin",
                    expected="this server's own pages, or one of LECTERN_CORS_ORIGINS",
                    got=shown(origin),
                )
                await refused(error, scope)(scope, receive, send)
                return
        await self.app(scope, receive, send)
