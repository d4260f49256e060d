"""Pages and documents made once for what is loaded and refused, and served from memory, with an entity tag."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from fastapi import Request, Response

from app.engine.catalog import Catalog

ADDRESS: Final = "http://address.invalid"
"""In a page, where this server's address is to stand, which is the client's matter (RFC 2606: nobody has this one)."""
TAG_CHARACTERS: Final = 32


class Kept:
    """One page or document.

    Args:
        make: its text; called in a thread, and again once what is loaded has changed.
        media_type, headers: of the response.
    """

    def __init__(
        self, catalog: Catalog, make: Callable[[], str], media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._catalog = catalog
        self._make = make
        self._media_type = media_type
        self._headers = headers or {}
        self._made_of: object = None
        self._digest = b""
        self._pieces: list[bytes] = []
        self._making = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """`respond` as a route's endpoint, which takes no option."""
        return await self.respond(request)

    async def respond(self, request: Request, address: str = "") -> Response:
        """The whole of it, or 304 where the client has it already.

        Args:
            address: what stands in place of `ADDRESS`.
        """
        if self._made_of != self._state():
            async with self._making:  # one makes it, the others that came meanwhile take it
                if self._made_of != (state := self._state()):
                    content = (await asyncio.to_thread(self._make)).encode()
                    self._digest = hashlib.sha256(content).digest()
                    self._pieces, self._made_of = content.split(ADDRESS.encode()), state
        tag = tag_of(self._digest + address.encode())
        return tagged(request, lambda: address.encode().join(self._pieces), tag, self._media_type, self._headers)

    def _state(self) -> object:
        return self._catalog.generation, self._catalog.refused


def tagged(
    request: Request, content: Callable[[], bytes], tag: str, media_type: str, headers: Mapping[str, str]
) -> Response:
    """200 with an entity tag, or 304 where `If-None-Match` has it (RFC 9110, 13.1.2)."""
    headers = {"Cache-Control": "no-cache", **headers, "ETag": tag}
    there = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if tag in there or "*" in there:
        return Response(status_code=304, headers=headers)
    return Response(content(), media_type=media_type, headers=headers)


def tag_of(content: bytes) -> str:
    """The entity tag of some bytes."""
    return f'"{hashlib.sha256(content).hexdigest()[:TAG_CHARACTERS]}"'
