"""OpenTelemetry traces, where an endpoint is set for them; what they need beyond the server is an extra, `otel`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from app.core.errors import LoadRefused
from app.web.request.trace import Trace

if TYPE_CHECKING:
    from app.telemetry.spans import Spans


class Tracing:
    """The traces of one process, from the start of the server to its end.

    Args:
        endpoint: the collector's address, without the path that traces have there.
        version: of this server.
    """

    def __init__(self, endpoint: str, *, version: str) -> None:
        self._endpoint = endpoint
        self._version = version
        self._spans: Spans | None = None

    @asynccontextmanager
    async def exported(self) -> AsyncIterator[None]:
        """Export until the block ends.

        Raises:
            LoadRefused: what this needs is not installed.
        """
        try:
            from app.telemetry.spans import Spans
        except ImportError as error:
            raise LoadRefused(
                f"traces to {self._endpoint} need the extra otel, and {error.name} is not installed: "
                "pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http, or set no endpoint"
            ) from None
        spans = self._spans = Spans(self._endpoint, version=self._version)
        try:
            yield
        finally:
            self._spans = None
            await asyncio.to_thread(spans.close)

    def finished(self, trace: Trace, method: str, path: str, route: str, status: int, seconds: float) -> None:
        """One request is over, now, `seconds` after its head came."""
        if self._spans is not None:
            self._spans.add(trace, method, path, route, status, seconds)
