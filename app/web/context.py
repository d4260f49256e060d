"""What every endpoint is given of the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from app.engine.model import Model
from app.engine.registry import Registry
from app.web.request.limits import Limits
from app.web.request.trace import Trace
from app.web.work_pool import WorkPool


class Stages(Protocol):
    """Where a call reports how long each stage of it took, in seconds."""

    def observe(
        self, trace: Trace, model: Model, graph: str, *, decode_s: float, queue_s: float, run_s: float, encode_s: float
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The engine and the server's limits, as an endpoint sees them.

    Attributes:
        pool: for what would hold up the event loop.
    """

    registry: Registry
    limits: Limits
    stages: Stages
    pool: WorkPool
