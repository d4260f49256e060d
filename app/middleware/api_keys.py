"""Optional API keys: `Authorization: Bearer KEY` or `X-API-Key: KEY`.

Only digests are kept. A missing, an unknown and a known key take the same steps: one SHA-256 and one comparison in
constant time with each digest. What needs a key: everything under /v1 and /v2, /translate, /languages and /metrics.
Health, the pages, models' reports among them, and the document that describes them stay open.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import Unauthorized
from app.middleware.errors import refused

PROTECTED: Final = ("/v1", "/v2", "/translate", "/languages", "/metrics")
REPORT: Final = re.compile(r"/v1/models/[^/]+/report")


def make_key() -> tuple[str, str]:
    """A new key (256 random bits) and its digest."""
    key = "lk_" + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


def is_protected(path: str) -> bool:
    """Whether a path needs a key. A report is a page, which a browser opens by a link, without a header."""
    return not REPORT.fullmatch(path) and any(path == prefix or path.startswith(prefix + "/") for prefix in PROTECTED)


def presented(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The key that came with a request; empty where none did."""
    key = b""
    for name, value in headers:
        if name == b"x-api-key":
            key = value
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            key = value[7:].strip()
    return key


class ApiKeys:
    """Pure ASGI: answers 401 before routing and before a body is read."""

    def __init__(self, app: ASGIApp, *, digests: Sequence[str]) -> None:
        self.app = app
        self._digests = tuple(bytes.fromhex(d) for d in digests)

    def knows(self, key: bytes) -> bool:
        """Whether the key is one of ours, in constant time."""
        digest = hashlib.sha256(key).digest()
        known = False
        for mine in self._digests:
            known |= hmac.compare_digest(mine, digest)
        return known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] not in ("http", "websocket")
            or not is_protected(scope["path"])
            or self.knows(presented(scope["headers"]))
        ):
            await self.app(scope, receive, send)
            return
        error = Unauthorized(
            "this needs an API key, and none or an unknown one was given",
            subject="header.authorization",
            expected="Authorization: Bearer KEY, or X-API-Key: KEY",
        )
        await refused(error, scope)(scope, receive, send)
